"""Mail merges over HTTP: a mail of their own for everybody in an uploaded table."""

from dataclasses import asdict
from typing import Any, NamedTuple

from flask import Response
from flask_login import current_user
from werkzeug.exceptions import NotFound

from flaskapp.accounts.audit import nothing_changed
from flaskapp.api.blueprint import answer, api
from flaskapp.api.keys import changes
from flaskapp.api.mail import BODY_LIMIT, accepted, delivery_fields
from flaskapp.api.parsing import integer_field, json_object, refuse_unknown, text_field
from flaskapp.errors import BadArguments
from flaskapp.extensions import db
from flaskapp.mail import composing, keeping, merge_texts, merging, people
from flaskapp.uploads import actions as uploads
from flaskapp.uploads.models import Upload

_TEXTS = ("upload", "column", "template", "subject", "text")
_FIELDS = (*_TEXTS, "attachments", "send_at", "expires_at", "at_least_once")
_LAST_ROW = 2**31 - 1


class _Wanted(NamedTuple):
    upload: Upload
    column: str
    subject: str
    text: str


@api.post("/merges")
@changes(body_limit=BODY_LIMIT)
def write_merge() -> Response:
    """Checked like the page's: the first thousand rows at once, all of them before the first mail leaves."""
    fields = json_object()
    refuse_unknown(fields, _FIELDS)
    return accepted(merging.write(db.session(), *_wanted(fields), **delivery_fields(fields)), "mail.merge")


@api.post("/merges/preview")
@changes(body_limit=1_000_000)
def preview_merge() -> Response:
    nothing_changed()
    fields = json_object()
    refuse_unknown(fields, (*_TEXTS, "row"))
    row = integer_field(fields, "row", 1, _LAST_ROW) or 1
    return answer(asdict(merge_texts.preview(*_wanted(fields), row)))


def _wanted(fields: dict[str, Any]) -> _Wanted:
    upload_id = text_field(fields, "upload", 36)
    if upload_id is None:
        raise BadArguments("upload is missing: the id that POST /api/v1/uploads answered.")
    upload = uploads.upload_by_id(db.session(), upload_id, current_user.visible_owner)
    if upload is None:
        raise NotFound("There is no such upload, or it belongs to somebody else.")
    if upload.table_name is None:
        raise BadArguments("This table is not loaded yet. Wait for its job to end.")
    subject, text = fields.get("subject"), fields.get("text")
    number = integer_field(fields, "template", 1, _LAST_ROW)
    if number is not None:
        template = keeping.template_by_id(db.session(), str(number))
        if template is None:
            raise BadArguments(f"There is no reply template {number}. GET /api/v1/reply-templates lists them.")
        subject, text = subject or template.subject, text or template.text
    composing.check_texts(subject, text)
    return _Wanted(upload, _column(upload, text_field(fields, "column", 255)), str(subject), str(text))


def _column(upload: Upload, named: str | None) -> str:
    """By its title or as templates call it; left out: the one that is called like addresses."""
    columns = people.columns_of(upload)
    found = people.address_column(upload) if named is None else named
    found = found if found in columns else next((name for name, title in columns.items() if title == found), None)
    if found is None:
        raise BadArguments(f"column must name the one with the addresses. The table has: {', '.join(columns)}.")
    return found
