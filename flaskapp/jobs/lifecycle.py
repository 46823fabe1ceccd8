"""The life of a job: one function per arrow in docs/job.md. Read this first.

Every arrow is an UPDATE whose WHERE names the state it leaves and, once claimed, the attempt. False (or a
missing id) means another process was first: an answer, not an accident.
Nothing here commits: the caller owns the transaction.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, cast

from sqlalchemy import ColumnElement, Table, and_, bindparam, case, func, null, or_, select
from sqlalchemy.orm import Session

from flaskapp.jobs import limits
from flaskapp.jobs.again import run_again as run_again
from flaskapp.jobs.changes import archive, change, error_columns, finish, held, wait
from flaskapp.jobs.clock import now, seconds_from_now
from flaskapp.jobs.crashes import crash as crash
from flaskapp.jobs.crashes import rescue as rescue
from flaskapp.jobs.models import PARKED as PARKED
from flaskapp.jobs.models import Job, JobState
from flaskapp.jobs.outcomes import (
    Claimed,
    Crashed,
    Error,
    Failed,
    Hint,
    Ignored,
    Outcome,
    RetryLater,
    Stopped,
    Succeeded,
)
from flaskapp.jobs.pruning import TALLY_GROUP as TALLY_GROUP
from flaskapp.jobs.pruning import compact_tally as compact_tally
from flaskapp.jobs.pruning import prune as prune
from flaskapp.jobs.sending import take_to_send as take_to_send
from flaskapp.jobs.submitting import FOR_EVER
from flaskapp.jobs.submitting import new_job_id as new_job_id
from flaskapp.jobs.submitting import submit as submit
from flaskapp.jobs.submitting import submit_failed as submit_failed
from flaskapp.jobs.workflow import follow
from flaskapp.jobs.workflow import open_joins as open_joins

# A plain table for what runs most: the ORM's way of the same statement costs twice as much.
_TABLE = cast(Table, Job.__table__)
LIVE_STATES = (JobState.WAITING, JobState.QUEUED, JobState.RUNNING)


# --- waiting ─▶ queued ------------------------------------------------------------------------------------


def mark_queued(session: Session, sender: str, job_ids: Sequence[str]) -> int:
    """The broker confirmed them: waiting ─▶ queued. A job already claimed (its message overtook us) is left alone."""
    return change(
        session,
        and_(Job.id.in_(job_ids), Job.sender == sender, Job.state == JobState.WAITING),
        state=JobState.QUEUED,
        queued_at=now(),
        sender=null(),
        sending_until=null(),
    )


def release_unsent(session: Session, sender: str, job_ids: Sequence[str], seconds: float) -> int:
    """The broker did not confirm them: they stay waiting and may be sent again after `seconds`."""
    return change(
        session,
        and_(Job.id.in_(job_ids), Job.sender == sender, Job.state == JobState.WAITING),
        sender=null(),
        sending_until=seconds_from_now(seconds),
    )


def requeue_lost(session: Session, job_ids: Sequence[str], sent_before: datetime | None = None) -> int:
    """Their messages, confirmed before that moment, are gone: queued ─▶ waiting, so that they are sent again."""
    lost = and_(Job.id.in_(job_ids), Job.state == JobState.QUEUED)
    if sent_before is not None:
        lost = and_(lost, Job.queued_at < sent_before)
    return change(session, lost, state=JobState.WAITING, queued_at=null(), losses=Job.losses + 1)


def hold(session: Session, hint: Hint, seconds: float) -> bool:
    """Sent, but it may not run now (paused, limited, no worker knows its task): back to waiting for a while.

    The message may have overtaken mark_queued, which then finds nothing to mark.
    """
    sent = and_(Job.id == hint.job_id, Job.sends == hint.send)
    return bool(_hold(session, sent, seconds_from_now(seconds)))


def _hold(session: Session, where: ColumnElement[bool], until: ColumnElement[Any]) -> int:
    unstarted = and_(where, Job.state.in_([JobState.WAITING, JobState.QUEUED]))
    return change(session, unstarted, state=JobState.WAITING, queued_at=null(), sender=null(), sending_until=until)


# --- waiting, queued ─▶ running ---------------------------------------------------------------------------


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
        _hold(session, Job.id.in_([row.id for row in startable if row.id not in started]), null())
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
    error = Error("Expired", "It was not started before its expiry time.")
    expired = change(session, live, **finish(JobState.CANCELLED), **error_columns(error))
    follow(session, {}, job_ids)
    return expired


# --- running ─▶ somewhere ---------------------------------------------------------------------------------


def settle(session: Session, outcomes: Sequence[Outcome]) -> set[str]:
    """Record how attempts ended; answers the ids of the jobs that were still theirs.

    This is the only way out of *running* that a worker has. An id that is missing was cancelled, rescued or
    settled by another: whatever that attempt wrote in this transaction must be rolled back.
    """
    successes = [outcome for outcome in outcomes if isinstance(outcome, Succeeded)]
    succeeded = succeed(session, successes)
    settled = set(succeeded)
    ended = []
    for outcome in outcomes:
        match outcome:
            case Succeeded():
                continue
            case Failed():
                mine = fail(session, outcome)
            case RetryLater():
                mine = retry_later(session, outcome)
            case Stopped():
                mine = put_back(session, outcome)
            case Crashed():
                mine = crash(session, outcome)
            case Ignored():
                mine = give_up(session, outcome)
        if mine:
            settled.add(outcome.claimed.job_id)
            if isinstance(outcome, Failed | Crashed | Ignored):
                ended.append(outcome.claimed.job_id)
    more = {outcome.claimed.job_id: outcome.more_members for outcome in successes if outcome.more_members}
    follow(session, succeeded, ended, more)
    return settled


def succeed(session: Session, outcomes: Sequence[Succeeded]) -> dict[str, str | None]:
    """running ─▶ succeeded, each with its result; answers their ids, and the join that each counts for."""
    if not outcomes:
        return {}
    mine = select(Job.id, Job.attempt, Job.counts_for).where(
        Job.id.in_([outcome.claimed.job_id for outcome in outcomes]), Job.state == JobState.RUNNING
    )
    ours = {(row.id, row.attempt): row.counts_for for row in session.execute(mine.with_for_update())}
    winners = [outcome for outcome in outcomes if (outcome.claimed.job_id, outcome.claimed.number) in ours]
    if winners:
        row = _TABLE.c
        each = (
            _TABLE.update()
            .where(row.id == bindparam("job"), row.attempt == bindparam("number"), row.state == JobState.RUNNING)
            .values(result=bindparam("value"), **finish(JobState.SUCCEEDED), **error_columns(None))
        )
        session.execute(
            each, [{"job": won.claimed.job_id, "number": won.claimed.number, "value": won.result} for won in winners]
        )
    return {won.claimed.job_id: ours[won.claimed.job_id, won.claimed.number] for won in winners}


def fail(session: Session, outcome: Failed) -> bool:
    """running ─▶ failed, for good: no retry is left or none was asked for."""
    return bool(change(session, held(outcome.claimed), **finish(JobState.FAILED), **error_columns(outcome.error)))


def retry_later(session: Session, outcome: RetryLater) -> bool:
    """running ─▶ waiting, due after the backoff; the attempt goes into the history."""
    if not archive(session, outcome.claimed, "retried", outcome.error):
        return False
    due = outcome.run_at if outcome.run_at is not None else seconds_from_now(outcome.delay_seconds)
    values = {**wait(due), **error_columns(outcome.error), **outcome.changes}
    if outcome.parked:
        values |= {"sender": PARKED, "sending_until": FOR_EVER}
    return bool(change(session, held(outcome.claimed), **values))


def put_back(session: Session, outcome: Stopped) -> bool:
    """running ─▶ waiting, uncounted: its worker was asked to stop, the job did nothing wrong."""
    error = Error("Stopped", outcome.reason)
    return archive(session, outcome.claimed, "stopped", error) and bool(
        change(session, held(outcome.claimed), **wait(now()))
    )


def give_up(session: Session, outcome: Ignored) -> bool:
    """running ─▶ cancelled: the task itself raised Ignore; nothing it wrote is kept."""
    error = Error("Ignore", outcome.reason or "The task asked to be ignored.")
    return bool(change(session, held(outcome.claimed), **finish(JobState.CANCELLED), **error_columns(error)))


def still_held(session: Session, claimed: Claimed) -> bool:
    """True if this attempt may still write; locks the row until the caller's transaction ends."""
    return session.execute(select(Job.id).where(held(claimed)).with_for_update()).first() is not None


# --- people's arrows --------------------------------------------------------------------------------------


def cancel(session: Session, job_id: str, by: str = "") -> bool:
    """waiting, queued, running ─▶ cancelled. A running attempt is fenced from here on; its worker then stops it."""
    error = Error("Cancelled", f"Cancelled by {by}." if by else "Cancelled.")
    live = and_(Job.id == job_id, Job.state.in_(LIVE_STATES))
    # A step that has not arrived yet stays known as one.
    still_parked = case((Job.sender == PARKED, PARKED), else_=null())
    cancelled = finish(JobState.CANCELLED) | {"sender": still_parked}
    if not change(session, live, **cancelled, **error_columns(error)):
        return False
    follow(session, {}, [job_id])
    return True
