"""The life of a job: one function per arrow in docs/job.md. Read this first.

Every arrow is an UPDATE whose WHERE names the state it leaves and, once claimed, the attempt. False (or a
missing id) means another process was first: an answer, not an accident.
Nothing here commits: the caller owns the transaction.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import cast

from sqlalchemy import ColumnElement, Table, and_, bindparam, case, null, select
from sqlalchemy.orm import Session

from flaskapp.jobs.again import run_again as run_again
from flaskapp.jobs.changes import archive, change, error_columns, finish, held, lay_down, lock_in_order, wait
from flaskapp.jobs.claiming import claim as claim
from flaskapp.jobs.claiming import expire as expire
from flaskapp.jobs.claiming import expire_overdue as expire_overdue
from flaskapp.jobs.claiming import known as known
from flaskapp.jobs.clock import now, seconds_from_now
from flaskapp.jobs.companions import companion_of
from flaskapp.jobs.crashes import crash as crash
from flaskapp.jobs.crashes import rescue as rescue
from flaskapp.jobs.models import PARKED as PARKED
from flaskapp.jobs.models import Job, JobState
from flaskapp.jobs.outages import after_outage
from flaskapp.jobs.outcomes import (
    Claimed,
    Crashed,
    Error,
    Failed,
    Hint,
    Ignored,
    Outage,
    Outcome,
    RetryLater,
    Stopped,
    Succeeded,
)
from flaskapp.jobs.pruning import TALLY_GROUP as TALLY_GROUP
from flaskapp.jobs.pruning import compact_tally as compact_tally
from flaskapp.jobs.pruning import prune as prune
from flaskapp.jobs.sending import take_to_send as take_to_send
from flaskapp.jobs.submitting import PARKING
from flaskapp.jobs.submitting import new_job_id as new_job_id
from flaskapp.jobs.submitting import submit as submit
from flaskapp.jobs.submitting import submit_failed as submit_failed
from flaskapp.jobs.workflow import follow
from flaskapp.jobs.workflow import open_joins as open_joins
from flaskapp.jobs.workflow import write_steps_to_come as write_steps_to_come

# A plain table for what runs most: the ORM's way of the same statement costs twice as much.
_TABLE = cast(Table, Job.__table__)
LIVE_STATES = (JobState.WAITING, JobState.QUEUED, JobState.RUNNING)


# --- waiting ─▶ queued ------------------------------------------------------------------------------------


def mark_queued(session: Session, sender: str, job_ids: Sequence[str]) -> int:
    """The broker confirmed them: waiting ─▶ queued. A job already claimed (its message overtook us) is left alone."""
    ours = _being_sent(sender, job_ids)
    # A worker may be claiming some of them in this moment.
    lock_in_order(session, ours)
    return change(session, ours, state=JobState.QUEUED, queued_at=now(), sender=null(), sending_until=null())


def release_unsent(session: Session, sender: str, job_ids: Sequence[str], seconds: float) -> int:
    """The broker did not confirm them: they stay waiting and may be sent again after `seconds`."""
    ours = _being_sent(sender, job_ids)
    lock_in_order(session, ours)
    return change(session, ours, sender=null(), sending_until=seconds_from_now(seconds))


def _being_sent(sender: str, job_ids: Sequence[str]) -> ColumnElement[bool]:
    return and_(Job.id.in_(job_ids), Job.sender == sender, Job.state == JobState.WAITING)


def requeue_lost(session: Session, job_ids: Sequence[str], sent_before: datetime | None = None) -> int:
    """Their messages, confirmed before that moment, are gone: queued ─▶ waiting, so that they are sent again."""
    lost = and_(Job.id.in_(job_ids), Job.state == JobState.QUEUED)
    if sent_before is not None:
        lost = and_(lost, Job.queued_at < sent_before)
    lock_in_order(session, lost)
    return change(session, lost, state=JobState.WAITING, queued_at=null(), losses=Job.losses + 1)


def hold(session: Session, hint: Hint, seconds: float) -> bool:
    """Sent, but it may not run now (paused, limited, no worker knows its task): back to waiting for a while.

    The message may have overtaken mark_queued, which then finds nothing to mark.
    """
    sent = and_(Job.id == hint.job_id, Job.sends == hint.send)
    return bool(lay_down(session, sent, seconds_from_now(seconds)))


# --- running ─▶ somewhere ---------------------------------------------------------------------------------


def settle(session: Session, outcomes: Sequence[Outcome]) -> set[str]:
    """Record how attempts ended; answers the ids of the jobs that were still theirs.

    This is the only way out of *running* that a worker has. An id that is missing was cancelled, rescued or
    settled by another: whatever that attempt wrote in this transaction must be rolled back.
    """
    outcomes = [after_outage(session, each) if isinstance(each, Outage) else each for each in outcomes]
    successes = [outcome for outcome in outcomes if isinstance(outcome, Succeeded)]
    if 0 < len(successes) < len(outcomes):
        lock_in_order(session, Job.id.in_([outcome.claimed.job_id for outcome in outcomes]))
    succeeded = succeed(session, successes)
    settled = set(succeeded)
    ended = []
    for outcome in sorted(outcomes, key=lambda each: each.claimed.job_id):
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
    ours = {(row.id, row.attempt): row.counts_for for row in session.execute(mine.order_by(Job.id).with_for_update())}
    winners = [outcome for outcome in outcomes if (outcome.claimed.job_id, outcome.claimed.number) in ours]
    if winners:
        each = (
            _TABLE.update()
            .where(_IS_HELD)
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
        values |= PARKING
    return bool(change(session, held(outcome.claimed), **values))


def put_back(session: Session, outcome: Stopped) -> bool:
    """running ─▶ waiting, uncounted: its worker was asked to stop, the job did nothing wrong."""
    error = Error("Stopped", outcome.reason)
    # It keeps its place in line: it was due before what has come since.
    in_its_place = wait(Job.run_at)
    return archive(session, outcome.claimed, "stopped", error) and bool(
        change(session, held(outcome.claimed), **in_its_place)
    )


def give_up(session: Session, outcome: Ignored) -> bool:
    """running ─▶ cancelled: the task itself raised Ignore; nothing it wrote is kept."""
    error = Error("Ignore", outcome.reason or "The task asked to be ignored.")
    return bool(change(session, held(outcome.claimed), **finish(JobState.CANCELLED), **error_columns(error)))


def still_held(session: Session, claimed: Claimed) -> bool:
    """True if this attempt may still write; locks the row until the caller's transaction ends."""
    attempt = {"job": claimed.job_id, "number": claimed.number}
    return session.connection().execute(_STILL_HELD, attempt).first() is not None


#: The fence of `changes.held`, for statements that are made before their attempt is known.
_IS_HELD = and_(
    _TABLE.c.id == bindparam("job"),
    _TABLE.c.attempt == bindparam("number"),
    _TABLE.c.state == JobState.RUNNING,
)
#: Made once: it runs with each commit of a task, and putting it together costs five times as much as running it.
_STILL_HELD = select(_TABLE.c.id).where(_IS_HELD).with_for_update()


# --- people's arrows --------------------------------------------------------------------------------------


def cancel(session: Session, job_id: str, by: str = "") -> bool:
    """waiting, queued, running ─▶ cancelled. A running attempt is fenced from here on; its worker then stops it."""
    stop_companion = companion_of(session, job_id)
    error = Error("Cancelled", f"Cancelled by {by}." if by else "Cancelled.")
    live = and_(Job.id == job_id, Job.state.in_(LIVE_STATES))
    # A step that has not arrived yet stays known as one.
    parked = Job.sender == PARKED
    kept = {"sender": case((parked, PARKED), else_=null()), "run_at": case((parked, now()), else_=Job.run_at)}
    cancelled = finish(JobState.CANCELLED) | kept
    if not change(session, live, **cancelled, **error_columns(error)):
        return False
    if stop_companion is not None:
        stop_companion()
    follow(session, {}, [job_id])
    return True
