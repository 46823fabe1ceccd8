"""Which waiting jobs a relay may send now: due, urgent first, as far as window and limits leave room.

They stay waiting while they are reserved: if their sender dies, the reservation runs out and another sends them.
Nothing here commits: the caller owns the transaction.
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from flaskapp.jobs import limits
from flaskapp.jobs.changes import change
from flaskapp.jobs.clock import now, seconds_from_now
from flaskapp.jobs.models import Job, JobState
from flaskapp.jobs.window import Line, Window


def take_to_send(session: Session, sender: str, limit: int, seconds: float, window: Window | None = None) -> list[Job]:
    """Reserve up to `limit` due waiting jobs for `sender` for `seconds`, highest priority first, then oldest.

    No more of a queue than its window has room for, and none that a pause or a limit would hold.
    """
    window = window or Window()
    full = limits.full(session)
    ids: list[str] = []
    for line in window.lines_with_room(session):
        taken = _take(session, line, full, min(limit - len(ids), window.room(line.queue)), sender, seconds)
        window.take(line.queue, len(taken))
        ids += taken
    if not ids:
        return []
    fresh = select(Job).where(Job.id.in_(ids)).execution_options(populate_existing=True)
    rows = session.execute(fresh).scalars().all()
    return sorted(rows, key=lambda job: (-job.priority, job.run_at, job.id))


def _take(session: Session, line: Line, full: set[limits.Bound], limit: int, sender: str, seconds: float) -> list[str]:
    """Of one line; `full` grows by the limits that turned out to leave no room."""
    ids: list[str] = []
    while len(ids) < limit:
        due = _due(session, line, full, limit - len(ids))
        admitted = limits.admit_to_send(session, due) if due else limits.Admission()
        ids += admitted.ids
        _reserve(session, admitted.ids, sender, seconds)
        if not admitted.full:
            break
        # Behind those that found no room others may stand that do.
        full |= admitted.full
    return ids


def _due(session: Session, line: Line, full: set[limits.Bound], limit: int) -> Sequence[Any]:
    unreserved = or_(Job.sending_until.is_(None), Job.sending_until < now())
    due = (
        select(Job.id, Job.queue, Job.limit_key)
        .where(Job.state == JobState.WAITING, Job.queue == line.queue, Job.priority == line.priority)
        .where(Job.run_at <= now(), unreserved, limits.has_room(full))
        .order_by(Job.run_at, Job.id)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    return session.execute(due).all()


def _reserve(session: Session, job_ids: Sequence[str], sender: str, seconds: float) -> None:
    if job_ids:
        values = {"sender": sender, "sending_until": seconds_from_now(seconds), "sends": Job.sends + 1}
        change(session, Job.id.in_(job_ids), **values)
