"""The account as numbers: every accepted job is in one of the six states or was pruned; and SQL against the broker."""

from typing import Any

from flask import Response
from flask_login import current_user

from flaskapp.api.blueprint import answer, api
from flaskapp.api.shapes import moment
from flaskapp.extensions import db
from flaskapp.jobs import comparing, queries


@api.get("/stats")
def stats() -> Response:
    account = queries.account(db.session())
    return answer(
        {
            "states": account.states,
            "accepted": account.accepted,
            "pruned": account.pruned,
            "drift": account.drift,
            "broker": [_compared(queue) for queue in comparing.compare(db.session())],
        }
    )


def _compared(queue: comparing.Compared) -> dict[str, Any]:
    return {
        "queue": queue.queue,
        "queued": queue.queued,
        "messages": queue.messages,
        "gap": queue.gap,
        "answered_at": moment(queue.answered_at),
        "lost": queue.lost,
        # Whose they are is not said here: a viewer sees numbers only.
        "lost_ids": queue.lost_ids if current_user.visible_owner is None else [],
        "looked_at": moment(queue.looked_at),
    }
