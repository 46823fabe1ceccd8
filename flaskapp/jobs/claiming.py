"""Who may run what: waiting, queued ─▶ running, and what becomes of a job that may not, or not any more.

Nothing here commits: the caller owns the transaction.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import ColumnElement, and_, func, null, or_, select
from sqlalchemy.orm import Session

from flaskapp.jobs import limits
from flaskapp.jobs.changes import change, error_columns, finish, lay_down, lock_in_order
from flaskapp.jobs.clock import now
from flaskapp.jobs.models import PARKED, Job, JobState
from flaskapp.jobs.outcomes import Claimed, Error, Hint
from flaskapp.jobs.workflow import follow


def claim(session: Session, hints: Iterable[Hint], worker: str) -> dict[str, Claimed]:
    """Give `worker` the next attempt of each hinted job that is due; a missing id was refused.

    Waiting is accepted too: a message can overtake mark_queued. A message from an older sending (or from somebody
    else, for a job that we have sent), for a job that is not yet due or already taken is refused. One that is past
    its expiry is cancelled instead; one of a paused queue, or for which a limit leaves no room, is held.
    A job this worker already holds is answered again as it stands: the commit of its claim went through, but the
    answer was lost. So a worker must not offer what it knows it holds.
    """
    # Of several messages for one job the newest counts.
    wanted = {hint.job_id: hint for hint in sorted(hints, key=lambda hint: hint.send or 0)}
    fields = (Job.id, Job.state, Job.sends, Job.attempt, Job.retries, Job.max_retries, Job.owner, Job.ignore_result)
    place = (Job.queue, Job.limit_key, Job.priority, Job.run_at)
    # A queued job was due when it was sent; refusing it because a clock went back would spend its only message.
    arrived = and_(Job.state == JobState.WAITING, Job.run_at <= now(), Job.sender.is_distinct_from(PARKED))
    due = or_(Job.state == JobState.QUEUED, arrived)
    mine = and_(Job.state == JobState.RUNNING, Job.worker == worker)
    rows = session.execute(
        select(*fields, *place, (Job.expires_at <= now()).label("late"))
        .where(Job.id.in_(list(wanted)), or_(due, mine))
        # Two workers with messages for the same jobs lock them in the same order.
        .order_by(Job.id)
        .with_for_update()
    ).all()
    # MariaDB also finds ids that differ in upper and lower case only.
    accepted = [row for row in rows if row.id in wanted and (wanted[row.id].send or 0) == row.sends]
    again = [row for row in accepted if row.state == JobState.RUNNING]
    late = [row for row in accepted if row.late and row not in again]
    startable = [row for row in accepted if row not in again and row not in late]
    expire(session, [row.id for row in late])
    admitted = limits.admit_to_start(session, sorted(startable, key=_rank)) if startable else limits.Admission()
    started = set(admitted.ids)
    fresh = [row for row in startable if row.id in started]
    if len(fresh) < len(startable):
        # No rest: the relay sends them again as soon as the queue goes on, or there is room.
        lay_down(session, Job.id.in_([row.id for row in startable if row.id not in started]), null())
    if fresh:
        change(
            session,
            Job.id.in_([row.id for row in fresh]),
            state=JobState.RUNNING,
            attempt=Job.attempt + 1,
            worker=worker,
            queued_at=func.coalesce(Job.queued_at, now()),
            # What a rate counted is what stands in the row.
            started_at=admitted.at if admitted.at is not None else now(),
            sender=null(),
            sending_until=null(),
            losses=0,
        )
    numbers = {row.id: row.attempt for row in again} | {row.id: row.attempt + 1 for row in fresh}
    return {
        row.id: Claimed(
            row.id,
            numbers[row.id],
            worker,
            row.retries,
            row.max_retries,
            row.owner,
            row.ignore_result,
            limited=row.id in admitted.limited,
        )
        for row in again + fresh
    }


def _rank(row: Any) -> Any:
    """Highest priority first, then oldest: who gets the room that a limit leaves."""
    return (-row.priority, row.run_at, row.id)


def known(session: Session, job_ids: Iterable[str]) -> set[str]:
    """Which of these ids have a row; a message whose job has none came from somebody else, or its job was pruned."""
    return set(session.execute(select(Job.id).where(Job.id.in_(list(job_ids)))).scalars())


def expire(session: Session, job_ids: Sequence[str]) -> int:
    """They were not started in time: waiting, queued ─▶ cancelled."""
    return _expire(session, job_ids) if job_ids else 0


def expire_overdue(session: Session, limit: int) -> int:
    """Expire up to `limit` jobs that no claim looked at in time: paused, limited, or no worker took them."""
    # A clock that moves while the statement runs could not be looked up in an index.
    moment = session.execute(select(now())).scalar_one()
    overdue = and_(Job.expires_at <= moment, Job.sender.is_distinct_from(PARKED))
    unstarted = select(Job.id).where(Job.state.in_([JobState.WAITING, JobState.QUEUED]), overdue)
    ids = session.scalars(unstarted.limit(limit)).all()
    return _expire(session, ids, overdue) if ids else 0


def _expire(session: Session, job_ids: Sequence[str], *still: ColumnElement[bool]) -> int:
    live = and_(Job.id.in_(job_ids), Job.state.in_([JobState.WAITING, JobState.QUEUED]), *still)
    lock_in_order(session, live)
    error = Error("Expired", "It was not started before its expiry time.")
    expired = change(session, live, **finish(JobState.CANCELLED), **error_columns(error))
    follow(session, {}, job_ids)
    return expired
