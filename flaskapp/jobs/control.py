"""What people set for a queue. A pause is a row, so it holds on every broker and through every restart.

Running jobs finish; those that wait stay waiting. Nothing here commits: the caller owns the transaction.
"""

from sqlalchemy import insert, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from flaskapp.jobs.clock import now
from flaskapp.jobs.models import Queue


def pause_queue(session: Session, name: str) -> bool:
    """Start no more jobs of this queue; False if it was paused already."""
    _make_row(session, name)
    return _set(session, name, paused=True)


def resume_queue(session: Session, name: str) -> bool:
    """Let its jobs start again; False if it was not paused."""
    return _set(session, name, paused=False)


def _make_row(session: Session, name: str) -> None:
    if session.get(Queue, name) is None:
        try:
            with session.begin_nested():
                session.execute(insert(Queue).values(name=name))
        except IntegrityError:
            return  # another process made it first: the row is all we wanted


def _set(session: Session, name: str, paused: bool) -> bool:
    differs = Queue.paused_at.is_(None) if paused else Queue.paused_at.is_not(None)
    changed = session.execute(
        update(Queue)
        .where(Queue.name == name, differs)
        .values(paused_at=now() if paused else None)
        .execution_options(synchronize_session=False)
    )
    session.expire_all()
    return bool(changed.rowcount)  # type: ignore[attr-defined]
