"""Mail over HTTP: the same verbs as the pages."""

import base64
from typing import Any

from flask import Response, request, url_for
from flask_login import current_user
from werkzeug.exceptions import NotFound

from flaskapp.accounts.audit import nothing_changed, write_audit
from flaskapp.api.blueprint import answer, api
from flaskapp.api.keys import changes
from flaskapp.api.parsing import (
    cursor_of,
    json_object,
    query_cursor,
    query_limit,
    refuse_unknown,
    text_field,
    time_field,
)
from flaskapp.api.problems import StateForbids
from flaskapp.api.shapes import moment
from flaskapp.errors import BadArguments
from flaskapp.extensions import db
from flaskapp.jobs.queries import Position
from flaskapp.mail import actions, files, queries
from flaskapp.mail.models import Message
from flaskapp.mail.words import state_of

#: Fifty thousand addresses, two bodies, and the attachments in base64 fit.
BODY_LIMIT = 8_000_000 + actions.MOST_ATTACHED_BYTES * 4 // 3
_FIELDS = ("to", "subject", "text", "html", "attachments", "send_at", "expires_at", "at_least_once")


@api.post("/messages")
@changes(body_limit=BODY_LIMIT)
def write_message() -> Response:
    fields = json_object()
    refuse_unknown(fields, _FIELDS)
    to = fields.get("to")
    if isinstance(to, str):
        to = [to]
    message = actions.write(
        to if to is not None else [],
        fields.get("subject", ""),
        fields.get("text") or "",
        fields.get("html"),
        **delivery_fields(fields),
    )
    return accepted(message, "mail.write")


def delivery_fields(fields: dict[str, Any]) -> dict[str, Any]:
    """How a message goes, for actions.write and merging.write: whose it is, its files, when, and how often."""
    return {
        "owner": current_user.name,
        "attachments": attachments_field(fields),
        "send_at": time_field(fields, "send_at"),
        "expires_at": time_field(fields, "expires_at"),
        "at_least_once": flag_field(fields, "at_least_once"),
    }


def accepted(message: Message, action: str) -> Response:
    write_audit(db.session(), action, message.id, message.subject)
    return _answer(message)


def _answer(message: Message) -> Response:
    return answer(message_shape(message), 202, url_for("api.show_message", message_id=message.id))


@api.get("/messages")
def list_messages() -> Response:
    limit, cursor = query_limit(), query_cursor()
    older = (cursor.created_at, cursor.id) if cursor else None
    found = queries.messages(db.session(), current_user.visible_owner, older, limit + 1)
    counts = queries.counts_of(db.session(), [message.id for message in found[:limit]])
    last = found[limit - 1] if len(found) > limit else None
    following = cursor_of(Position(last.created_at, last.id)) if last is not None else None
    items = [_summary(message, counts.get(message.id, {})) for message in found[:limit]]
    return answer({"items": items, "next": following})


@api.get("/messages/<message_id>")
def show_message(message_id: str) -> Response:
    return answer(message_shape(message_or_404(message_id)))


@api.post("/messages/<message_id>/cancel")
@changes()
def cancel_message(message_id: str) -> Response:
    """Who has it keeps it; nobody else gets it."""
    message = message_or_404(message_id)
    if not actions.cancel(db.session(), message) and message.cancelled_at is None:
        raise StateForbids("Nobody is left to whom it could still not be sent.", "finished")
    write_audit(db.session(), "mail.cancel", message.id)
    return _answer(message)


@api.post("/messages/<message_id>/pause")
@changes()
def pause_message(message_id: str) -> Response:
    return _steered(message_id, "pause")


@api.post("/messages/<message_id>/resume")
@changes()
def resume_message(message_id: str) -> Response:
    return _steered(message_id, "resume")


@api.post("/messages/<message_id>/retry")
@changes()
def retry_message(message_id: str) -> Response:
    """`{"unknown": true}` sends also to those who may have it."""
    message, fields = message_or_404(message_id), _optional_object()
    refuse_unknown(fields, ("unknown",))
    if not actions.retry(db.session(), message, flag_field(fields, "unknown")):
        raise StateForbids("Nobody failed: there is nothing to send again.", "finished")
    write_audit(db.session(), "mail.retry", message.id)
    return _answer(message)


def _steered(message_id: str, verb: str) -> Response:
    """Paused already is paused: asking twice is no mistake."""
    message = message_or_404(message_id)
    done = actions.pause(db.session(), message) if verb == "pause" else actions.resume(db.session(), message)
    if done:
        write_audit(db.session(), f"mail.{verb}", message.id)
    else:
        nothing_changed()
    return _answer(message)


def _optional_object() -> dict[str, Any]:
    return json_object() if request.get_data() else {}


def flag_field(fields: dict[str, Any], name: str) -> bool:
    value = fields.get(name)
    if value is not None and not isinstance(value, bool):
        raise BadArguments(f"{name} must be true or false.")
    return bool(value)


def attachments_field(fields: dict[str, Any]) -> list[tuple[str, bytes]]:
    """(name, bytes) of each; their number and size are judged with the message."""
    value = fields.get("attachments")
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
        raise BadArguments('attachments must be a list, e.g. [{"name": "table.csv", "content": "YSxiCg=="}].')
    return [_attachment(one, f"attachments[{number}].") for number, one in enumerate(value)]


def _attachment(one: dict[str, Any], where: str) -> tuple[str, bytes]:
    refuse_unknown(one, ("name", "content"), where)
    name, content = text_field(one, "name", 255, where), one.get("content")
    if name is None:
        raise BadArguments(f"{where}name is missing: what is the file called?")
    try:
        if isinstance(content, str):
            return name, base64.b64decode(content, validate=True)
    except ValueError:
        pass
    raise BadArguments(f"{where}content must be the file's bytes in base64.")


def message_or_404(message_id: str) -> Message:
    message = queries.message_by_id(db.session(), message_id, current_user.visible_owner)
    if message is None:
        raise NotFound
    return message


def _summary(message: Message, counts: dict[str, int]) -> dict[str, object]:
    return {
        "id": message.id,
        "owner": message.owner,
        "subject": message.subject,
        "created_at": moment(message.created_at),
        "send_at": moment(message.send_at),
        "expires_at": moment(message.expires_at),
        "paused_at": moment(message.paused_at),
        "cancelled_at": moment(message.cancelled_at),
        "stopped_job_id": message.stopped_job_id,
        "job_id": message.job_id,
        "state": state_of(message, counts),
        "problem": message.problem,
        "counts": counts,
    }


def message_shape(message: Message) -> dict[str, object]:
    found = queries.fates(db.session(), message.id)
    return {
        **_summary(message, queries.counts(db.session(), message.id)),
        "attachments": [
            {"name": one.name, "content_type": one.content_type, "size": one.size}
            for one in files.attachments_of(db.session(), message.id)
        ],
        "recipients": [{"address": address, "state": state, "reply": reply} for address, state, reply in found],
    }
