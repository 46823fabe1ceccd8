"""Attachments in storage: the same bytes lie there once, however many messages carry them."""

from pathlib import Path
from uuid import uuid4

from flask import Flask, current_app
from sqlalchemy import select
from sqlalchemy.orm import Session

from flaskapp.mail.composing import File
from flaskapp.mail.models import Attachment
from flaskapp.uploads.names import display_name
from flaskapp.uploads.storage import IncomingFile, Storage

#: Shown and sent as what they are said to be only if that cannot run anywhere.
_HARMLESS = {
    ".csv": "text/csv",
    ".gif": "image/gif",
    ".jpeg": "image/jpeg",
    ".jpg": "image/jpeg",
    ".json": "application/json",
    ".pdf": "application/pdf",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".txt": "text/plain",
    ".zip": "application/zip",
}


def init_app(app: Flask) -> None:
    # A folder of its own below the uploads': each subject sweeps what it knows.
    app.extensions["mail_storage"] = Storage(app.config["SETTINGS"].storage_url.rstrip("/") + "/mail")


def storage() -> Storage:
    found: Storage = current_app.extensions["mail_storage"]
    return found


def receive(name: str, content: bytes) -> tuple[str, IncomingFile]:
    """Bytes that did not come with a request."""
    incoming = storage().receive()
    incoming.write(content)
    return name, incoming


def keep(session: Session, message_id: str, sent_name: str | None, incoming: IncomingFile) -> Attachment:
    """The row of one attachment; its bytes are kept unless they are there already. The caller commits."""
    file_id = known_file(session, incoming)
    if file_id is None:
        file_id = str(uuid4())
        # If we die between here and the commit, a file without a row is left: the sweep deletes it after a day.
        incoming.keep(storage().path(file_id))
    else:
        incoming.discard()
    name = display_name(sent_name)
    attachment = Attachment(
        message_id=message_id,
        file_id=file_id,
        name=name,
        content_type=_HARMLESS.get(Path(name).suffix.lower(), "application/octet-stream"),
        size=incoming.size,
        digest=incoming.digest,
    )
    session.add(attachment)
    return attachment


def known_file(session: Session, incoming: IncomingFile) -> str | None:
    query = select(Attachment.file_id).where(Attachment.digest == incoming.digest, Attachment.size == incoming.size)
    for file_id in session.scalars(query.distinct()):
        if storage().path(file_id).exists():
            return file_id
    return None


def attachments_of(session: Session, message_id: str) -> list[Attachment]:
    query = select(Attachment).where(Attachment.message_id == message_id).order_by(Attachment.id)
    return list(session.scalars(query))


def files_of(session: Session, message_id: str) -> list[File]:
    """To be read when they are sent."""
    rows = attachments_of(session, message_id)
    return [File(storage().path(row.file_id), row.name, row.content_type) for row in rows]
