"""The account as numbers: every accepted job is in one of the six states or was pruned."""

from flask import Response

from flaskapp.api.blueprint import answer, api
from flaskapp.extensions import db
from flaskapp.jobs import queries


@api.get("/stats")
def stats() -> Response:
    account = queries.account(db.session())
    return answer(
        {
            "states": account.states,
            "accepted": account.accepted,
            "pruned": account.pruned,
            "drift": account.drift,
        }
    )
