"""The audit log: every changing action leaves an entry.

Actions write their own entry in their own transaction. What forgot to is written down after the request under
the name of its endpoint, so that nothing changes unseen. Secrets are never in it.
"""

from flask import Flask, Response, current_app, g, has_request_context, request
from sqlalchemy import insert, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from flaskapp.accounts.models import AuditEntry
from flaskapp.extensions import db

CHANGING_METHODS = frozenset({"POST", "PUT", "PATCH", "DELETE"})


def write_audit(session: Session, action: str, subject: str = "", detail: str = "", account: str | None = None) -> None:
    """One entry in the caller's transaction; by default in the name of whoever asks."""
    address = ""
    if has_request_context():
        g.audited = True
        address = request.remote_addr or ""
    name = account if account is not None else g.get("job_owner") or "(command line)"
    session.execute(
        insert(AuditEntry).values(
            account=name, action=action, subject=subject[:255], detail=detail[:500], address=address[:45]
        )
    )


def nothing_changed() -> None:
    """Say that this request left everything as it was: it needs no entry."""
    g.audited = True


def newest_entries(session: Session, limit: int = 20, account: str | None = None) -> list[AuditEntry]:
    query = select(AuditEntry).order_by(AuditEntry.id.desc()).limit(limit)
    if account is not None:
        query = query.where(AuditEntry.account == account)
    return list(session.scalars(query))


def init_app(app: Flask) -> None:
    app.after_request(_write_what_was_forgotten)


def _write_what_was_forgotten(response: Response) -> Response:
    changed = request.method in CHANGING_METHODS and response.status_code < 400
    if not changed or g.get("audited") or not g.get("job_owner"):
        return response
    subject = " ".join(str(value) for value in (request.view_args or {}).values())
    try:
        # A session of its own: committing the request's would also commit what its view decided not to.
        with Session(db.engine) as session, session.begin():
            write_audit(session, str(request.endpoint), subject)
    except SQLAlchemyError:
        current_app.logger.exception("The audit entry of %s by %s is missing", request.endpoint, g.job_owner)
    return response
