"""What people do with uploads: hand one over, look at it, take its bad rows home."""

from uuid import uuid4

from flask import current_app
from sqlalchemy import select
from sqlalchemy.orm import Session

from flaskapp.errors import BadArguments
from flaskapp.uploads.models import Upload
from flaskapp.uploads.names import display_name
from flaskapp.uploads.sniffing import check
from flaskapp.uploads.storage import IncomingFile, Storage
from flaskapp.uploads.tasks import load_table


def accept(session: Session, incoming: IncomingFile | None, sent_name: str | None, owner: str) -> Upload:
    """Look at the file's beginning, keep it, and ask for it to be loaded; the caller commits.

    Raises BadArguments when no file came and UnreadableTable (with the sentence for the person) when it is no
    table; then nothing is kept. If the commit fails, call `undo`.
    """
    if incoming is None or not (sent_name or incoming.size):
        raise BadArguments("No file was chosen. Choose a CSV file, or drop one on the page.")
    limit: int = current_app.config["SETTINGS"].max_upload_bytes
    if incoming.size > limit:
        raise BadArguments(
            f"The file has {incoming.size:,} bytes; at most {limit:,} are taken. Split it, or ask an admin."
        )
    incoming.flush()
    check(incoming.path)
    upload_id = str(uuid4())
    # If we die between here and the commit, a file without a row is left: the sweep deletes it after a day.
    incoming.keep(_storage().path(upload_id))
    result = load_table.apply_async((upload_id,))
    upload = Upload(
        id=upload_id,
        owner=owner,
        name=display_name(sent_name),
        size=incoming.size,
        digest=incoming.digest,
        job_id=result.id,
    )
    session.add(upload)
    session.flush()
    return upload


def undo(incoming: IncomingFile | None) -> None:
    """The commit failed: no row, so no file either."""
    if incoming is not None:
        incoming.discard()


def upload_by_id(session: Session, upload_id: str, owner: str | None) -> Upload | None:
    """None also if it is somebody else's; `owner` None sees all."""
    # A NUL, say, for which PostgreSQL refuses to look.
    upload = session.get(Upload, upload_id) if upload_id.isprintable() else None
    return upload if upload is not None and owner in (None, upload.owner) else None


def of_job(session: Session, job_id: str) -> Upload | None:
    return session.scalars(select(Upload).where(Upload.job_id == job_id)).first()


def newest(session: Session, owner: str | None, limit: int = 50) -> list[Upload]:
    query = select(Upload).order_by(Upload.created_at.desc(), Upload.id).limit(limit)
    if owner is not None:
        query = query.where(Upload.owner == owner)
    return list(session.scalars(query))


def _storage() -> Storage:
    storage: Storage = current_app.extensions["storage"]
    return storage
