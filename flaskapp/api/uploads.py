"""Uploads over HTTP: the same verbs as the page."""

from flask import Response, current_app, request, url_for
from flask_login import current_user
from kombu.utils.json import loads
from werkzeug.exceptions import HTTPException, NotFound, RequestEntityTooLarge

from flaskapp.accounts.audit import write_audit
from flaskapp.api.blueprint import answer, api
from flaskapp.api.keys import once
from flaskapp.errors import BadArguments
from flaskapp.extensions import db
from flaskapp.jobs import queries
from flaskapp.uploads import actions, receiving
from flaskapp.uploads.models import Upload
from flaskapp.uploads.refusals import UnreadableTable


class NoRoom(HTTPException):
    code = 507
    name = "Insufficient Storage"
    description = "The file could not be stored: the disk may be full. Nothing was kept; try again later."


@api.post("/uploads")
def upload_table() -> Response:
    """multipart/form-data with one field `file`; streamed to storage, answered before it is loaded."""
    try:
        sent = request.files.get("file")
    except RequestEntityTooLarge as refusal:
        raise RequestEntityTooLarge(receiving.why_too_large()) from refusal
    except OSError as problem:
        current_app.logger.error("An upload could not be written: %s", problem)
        raise NoRoom from problem
    incoming = receiving.received()

    def act() -> Response:
        try:
            upload = actions.accept(db.session(), incoming, sent.filename if sent else None, current_user.name)
        except UnreadableTable as refusal:
            raise BadArguments(str(refusal)) from refusal
        write_audit(db.session(), "upload", upload.id, upload.name)
        return answer(_shape(upload), 202, url_for("api.show_upload", upload_id=upload.id))

    fingerprint = f"{sent.filename if sent else ''} {incoming.digest if incoming else ''}"
    try:
        return once(fingerprint.encode(), act)
    except Exception:
        actions.undo(incoming)
        raise


@api.get("/uploads/<upload_id>")
def show_upload(upload_id: str) -> Response:
    upload = actions.upload_by_id(db.session(), upload_id, current_user.visible_owner)
    if upload is None:
        raise NotFound
    return answer(_shape(upload))


def _shape(upload: Upload) -> dict[str, object]:
    job = queries.job_by_id(db.session(), upload.job_id)
    return {
        "id": upload.id,
        "job_id": upload.job_id,
        "name": upload.name,
        "size": upload.size,
        "state": job.state if job is not None else "pruned",
        "table": upload.table_name,
        "rows": upload.rows,
        "bad_rows": upload.bad_rows,
        "report": loads(upload.report) if upload.report else None,
    }
