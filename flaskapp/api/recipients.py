"""The recipients of a message over HTTP: in pages as JSON, or all of them as a table."""

from flask import Response, request

from flaskapp.api.blueprint import answer, api
from flaskapp.api.mail import message_or_404
from flaskapp.api.parsing import query_limit
from flaskapp.api.shapes import moment
from flaskapp.errors import BadArguments
from flaskapp.extensions import db
from flaskapp.mail import exporting, queries
from flaskapp.mail.models import Recipient, RecipientState

_LAST = 2**31 - 1


@api.get("/messages/<message_id>/recipients")
def list_recipients(message_id: str) -> Response:
    message, limit = message_or_404(message_id), query_limit()
    found = queries.recipients(db.session(), message.id, _states(), _after(), limit + 1)
    following = str(found[limit - 1].number) if len(found) > limit else None
    return answer({"items": [_shape(one) for one in found[:limit]], "next": following})


@api.get("/messages/<message_id>/recipients.csv")
def export_recipients(message_id: str) -> Response:
    return exporting.recipients_csv(message_or_404(message_id), _states())


def _states() -> list[str]:
    known = [state.value for state in RecipientState]
    states = [state for state in request.args.getlist("state") if state]
    if not set(states) <= set(known):
        raise BadArguments(f"state must be one of: {', '.join(known)}.")
    return states


def _after() -> int:
    text = request.args.get("cursor", "")
    if not text:
        return -1
    if not (text.isascii() and text.isdigit() and len(text) <= 10 and int(text) <= _LAST):
        raise BadArguments("cursor is not one that a page of this list gave. Pass `next` of the page before.")
    return int(text)


def _shape(one: Recipient) -> dict[str, object]:
    return {
        "number": one.number,
        "address": one.address,
        "name": one.name,
        "state": one.state,
        "reply": one.reply,
        "tries": one.tries,
        "next_at": moment(one.next_at),
        "changed_at": moment(one.changed_at),
    }
