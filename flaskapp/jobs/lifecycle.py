"""The life of a job: one function per arrow in docs/job.md. Read this first.

Every arrow is an UPDATE whose WHERE names the state it leaves and, once claimed, the attempt. False (or a
missing id) means another process was first: an answer, not an accident.
Nothing here commits: the caller owns the transaction.
"""

import os
import time
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, cast
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    CursorResult,
    Table,
    and_,
    bindparam,
    delete,
    func,
    insert,
    null,
    or_,
    select,
    update,
)
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from flaskapp.jobs.clock import now, seconds_from_now
from flaskapp.jobs.models import Attempt, Job, JobState, Progress, Queue, Tally
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
    Wish,
)
from flaskapp.jobs.retry import MOST_CRASHES, crash_delay_seconds

#: The sender of a job that waits for a later submit with its own id; no relay takes it.
PARKED = "parked"
# Plain tables for what runs most: the ORM's way of the same statement costs twice as much.
_TABLE = cast(Table, Job.__table__)
_TALLY = cast(Table, Tally.__table__)
#: How many rows of the tally one compaction folds: a statement takes only so many parameters.
TALLY_GROUP = 5000
LIVE_STATES = (JobState.WAITING, JobState.QUEUED, JobState.RUNNING)


def new_job_id() -> str:
    """A UUIDv7 (RFC 9562): ids made later sort later."""
    random_bits = int.from_bytes(os.urandom(10), "big")
    milliseconds = time.time_ns() // 1_000_000
    value = (milliseconds << 80) | random_bits
    value = (value & ~(0xF << 76)) | (0x7 << 76)
    value = (value & ~(0x3 << 62)) | (0x2 << 62)
    return str(UUID(int=value & (1 << 128) - 1))


# --- submit ─▶ waiting ------------------------------------------------------------------------------------


def submit(session: Session, wishes: Sequence[Wish]) -> list[str]:
    """Write a waiting row per wish in the caller's transaction and answer their job ids, in order.

    A wish whose id is taken, or whose unique key is held by a live job, adds nothing: it answers that job's id.
    A wish for a parked job (its task was replaced by a chain that now arrives) becomes that job.
    """
    ids = []
    fresh: list[dict[str, Any]] = []
    accepted = 0
    for wish in wishes:
        row = _row(wish)
        ids.append(row["id"])
        if wish.job_id is None and wish.unique_key is None:
            fresh.append(row)
        elif (existing := _insert_unless_taken(session, row)) is not None:
            ids[-1] = existing
        else:
            accepted += 1
    _insert_all(session, fresh)
    accepted += len(fresh)
    if accepted:
        session.execute(_TALLY.insert(), {"accepted": accepted, "pruned": 0})
    return ids


def _row(wish: Wish) -> dict[str, Any]:
    row = wish.columns()
    row["id"] = wish.job_id or new_job_id()
    row["live_key"] = wish.unique_key
    if wish.delay_seconds is not None:
        row["run_at"] = seconds_from_now(wish.delay_seconds)
    elif wish.run_at is not None:
        row["run_at"] = wish.run_at
    return row


def _insert_all(session: Session, rows: list[dict[str, Any]]) -> None:
    """Rows of one shape go in one statement: a thousand jobs cost a few round trips, not a thousand."""
    plain = [row for row in rows if "run_at" not in row]
    if plain:
        session.execute(_TABLE.insert(), plain)
    for row in rows:
        if "run_at" in row:
            session.execute(_TABLE.insert().values(row))


def _insert_unless_taken(session: Session, row: dict[str, Any]) -> str | None:
    try:
        with session.begin_nested():
            session.execute(_TABLE.insert().values(row))
    except IntegrityError:
        # The id goes before the key; "no key" is NULL, which must not be compared.
        existing = session.execute(select(Job.id).where(Job.id == row["id"])).scalar()
        if existing is None and row["live_key"] is not None:
            existing = session.execute(select(Job.id).where(Job.live_key == row["live_key"])).scalar()
        if existing is None:
            raise
        _unpark(session, row)
        return existing
    return None


def _unpark(session: Session, row: dict[str, Any]) -> None:
    parked = and_(Job.id == row["id"], Job.state == JobState.WAITING, Job.sender == PARKED)
    arrived = {name: row[name] for name in ("task", "args", "kwargs", "options", "queue", "retries")}
    _change(session, parked, **arrived, run_at=row.get("run_at", now()), sender=null(), sending_until=null())


def submit_failed(session: Session, wish: Wish, error: Error) -> None:
    """Record a job that can no longer run, so that whoever waits for it learns why: a parked or new row ─▶ failed."""
    (job_id,) = submit(session, [wish])
    waiting = and_(Job.id == job_id, Job.state == JobState.WAITING)
    _change(session, waiting, **_finish(JobState.FAILED), **_error_columns(error))


# --- waiting ─▶ queued ------------------------------------------------------------------------------------


def take_to_send(session: Session, sender: str, limit: int, seconds: float) -> list[Job]:
    """Reserve up to `limit` due waiting jobs for `sender` for `seconds`, highest priority first, then oldest.

    They stay waiting: if the sender dies, the reservation runs out and another sends them again.
    """
    unreserved = or_(Job.sending_until.is_(None), Job.sending_until < now())
    paused = select(Queue.name).where(Queue.paused_at.is_not(None))
    due = (
        select(Job.id)
        .where(Job.state == JobState.WAITING, Job.run_at <= now(), unreserved, Job.queue.not_in(paused))
        .order_by(Job.priority.desc(), Job.run_at, Job.id)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    ids = list(session.execute(due).scalars())
    if not ids:
        return []
    session.execute(
        update(Job)
        .where(Job.id.in_(ids))
        .values(sender=sender, sending_until=seconds_from_now(seconds), sends=Job.sends + 1)
        .execution_options(synchronize_session=False)
    )
    fresh = select(Job).where(Job.id.in_(ids)).execution_options(populate_existing=True)
    rows = session.execute(fresh).scalars().all()
    return sorted(rows, key=lambda job: (-job.priority, job.run_at, job.id))


def mark_queued(session: Session, sender: str, job_ids: Sequence[str]) -> int:
    """The broker confirmed them: waiting ─▶ queued. A job already claimed (its message overtook us) is left alone."""
    return _change(
        session,
        and_(Job.id.in_(job_ids), Job.sender == sender, Job.state == JobState.WAITING),
        state=JobState.QUEUED,
        queued_at=now(),
        sender=null(),
        sending_until=null(),
    )


def release_unsent(session: Session, sender: str, job_ids: Sequence[str], seconds: float) -> int:
    """The broker did not confirm them: they stay waiting and may be sent again after `seconds`."""
    return _change(
        session,
        and_(Job.id.in_(job_ids), Job.sender == sender, Job.state == JobState.WAITING),
        sender=null(),
        sending_until=seconds_from_now(seconds),
    )


def requeue_lost(session: Session, job_ids: Sequence[str]) -> int:
    """Their messages are gone: queued ─▶ waiting, so that they are sent again."""
    return _change(
        session,
        and_(Job.id.in_(job_ids), Job.state == JobState.QUEUED),
        state=JobState.WAITING,
        queued_at=null(),
    )


def hold(session: Session, hint: Hint, seconds: float) -> bool:
    """Sent, but it may not run now (paused, limited, no worker knows its task): back to waiting for a while.

    The message may have overtaken mark_queued, which then finds nothing to mark.
    """
    sent = and_(Job.id == hint.job_id, Job.state.in_([JobState.WAITING, JobState.QUEUED]), Job.sends == hint.send)
    rest = {"sender": null(), "sending_until": seconds_from_now(seconds)}
    return bool(_change(session, sent, state=JobState.WAITING, queued_at=null(), **rest))


# --- waiting, queued ─▶ running ---------------------------------------------------------------------------


def claim(session: Session, hints: Iterable[Hint], worker: str) -> dict[str, Claimed]:
    """Give `worker` the next attempt of each hinted job that is due; a missing id was refused.

    Waiting is accepted too: a message can overtake mark_queued. A message from an older sending (or from somebody
    else, for a job that we have sent), for a job that is not yet due or already taken is refused. One that is past
    its expiry is cancelled instead.
    A job this worker already holds is answered again as it stands: the commit of its claim went through, but the
    answer was lost. So a worker must not offer what it knows it holds.
    """
    wanted = {hint.job_id: hint for hint in hints}
    fields = (Job.id, Job.state, Job.sends, Job.attempt, Job.retries, Job.max_retries, Job.owner, Job.ignore_result)
    # A queued job was due when it was sent; refusing it because a clock went back would spend its only message.
    due = or_(Job.state == JobState.QUEUED, and_(Job.state == JobState.WAITING, Job.run_at <= now()))
    mine = and_(Job.state == JobState.RUNNING, Job.worker == worker)
    rows = session.execute(
        select(*fields, (Job.expires_at <= now()).label("late"))
        .where(Job.id.in_(list(wanted)), or_(due, mine))
        .with_for_update()
    ).all()
    # MariaDB also finds ids that differ in upper and lower case only.
    accepted = [row for row in rows if row.id in wanted and (wanted[row.id].send or 0) == row.sends]
    again = [row for row in accepted if row.state == JobState.RUNNING]
    late = [row for row in accepted if row.late and row not in again]
    fresh = [row for row in accepted if row not in again and row not in late]
    expire(session, [row.id for row in late])
    if fresh:
        _change(
            session,
            Job.id.in_([row.id for row in fresh]),
            state=JobState.RUNNING,
            attempt=Job.attempt + 1,
            worker=worker,
            queued_at=func.coalesce(Job.queued_at, now()),
            started_at=now(),
            sender=null(),
            sending_until=null(),
        )
    numbers = {row.id: row.attempt for row in again} | {row.id: row.attempt + 1 for row in fresh}
    return {
        row.id: Claimed(row.id, numbers[row.id], worker, row.retries, row.max_retries, row.owner, row.ignore_result)
        for row in again + fresh
    }


def known(session: Session, job_ids: Iterable[str]) -> set[str]:
    """Which of these ids have a row; a message whose job has none came from somebody else, or its job was pruned."""
    return set(session.execute(select(Job.id).where(Job.id.in_(list(job_ids)))).scalars())


def expire(session: Session, job_ids: Sequence[str]) -> int:
    """They were not started in time: waiting, queued ─▶ cancelled."""
    if not job_ids:
        return 0
    live = and_(Job.id.in_(job_ids), Job.state.in_([JobState.WAITING, JobState.QUEUED]))
    error = Error("Expired", "It was not started before its expiry time.")
    return _change(session, live, **_finish(JobState.CANCELLED), **_error_columns(error))


# --- running ─▶ somewhere ---------------------------------------------------------------------------------


def settle(session: Session, outcomes: Sequence[Outcome]) -> set[str]:
    """Record how attempts ended; answers the ids of the jobs that were still theirs.

    This is the only way out of *running* that a worker has. An id that is missing was cancelled, rescued or
    settled by another: whatever that attempt wrote in this transaction must be rolled back.
    """
    succeeded = [outcome for outcome in outcomes if isinstance(outcome, Succeeded)]
    settled = succeed(session, succeeded)
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
    return settled


def succeed(session: Session, outcomes: Sequence[Succeeded]) -> set[str]:
    """running ─▶ succeeded, each with its result."""
    if not outcomes:
        return set()
    mine = select(Job.id, Job.attempt).where(
        Job.id.in_([outcome.claimed.job_id for outcome in outcomes]), Job.state == JobState.RUNNING
    )
    held = {(row.id, row.attempt) for row in session.execute(mine.with_for_update())}
    winners = [outcome for outcome in outcomes if (outcome.claimed.job_id, outcome.claimed.number) in held]
    if winners:
        row = _TABLE.c
        each = (
            _TABLE.update()
            .where(row.id == bindparam("job"), row.attempt == bindparam("number"), row.state == JobState.RUNNING)
            .values(result=bindparam("value"), **_finish(JobState.SUCCEEDED), **_error_columns(None))
        )
        session.execute(
            each, [{"job": won.claimed.job_id, "number": won.claimed.number, "value": won.result} for won in winners]
        )
    return {outcome.claimed.job_id for outcome in winners}


def fail(session: Session, outcome: Failed) -> bool:
    """running ─▶ failed, for good: no retry is left or none was asked for."""
    return bool(_change(session, _held(outcome.claimed), **_finish(JobState.FAILED), **_error_columns(outcome.error)))


def retry_later(session: Session, outcome: RetryLater) -> bool:
    """running ─▶ waiting, due after the backoff; the attempt goes into the history."""
    if not _archive(session, outcome.claimed, "retried", outcome.error):
        return False
    due = outcome.run_at if outcome.run_at is not None else seconds_from_now(outcome.delay_seconds)
    values = {**_wait(due), **_error_columns(outcome.error), **outcome.changes}
    if outcome.parked:
        values |= {"sender": PARKED, "sending_until": datetime(9999, 1, 1, tzinfo=UTC)}
    return bool(_change(session, _held(outcome.claimed), **values))


def put_back(session: Session, outcome: Stopped) -> bool:
    """running ─▶ waiting, uncounted: its worker was asked to stop, the job did nothing wrong."""
    error = Error("Stopped", outcome.reason)
    return _archive(session, outcome.claimed, "stopped", error) and bool(
        _change(session, _held(outcome.claimed), **_wait(now()))
    )


def crash(session: Session, outcome: Crashed) -> bool:
    """running ─▶ waiting after a lost process, or ─▶ failed with the evidence after the third."""
    return bool(_crashed(session, _held(outcome.claimed), "crashed", outcome.error))


def give_up(session: Session, outcome: Ignored) -> bool:
    """running ─▶ cancelled: the task itself raised Ignore; nothing it wrote is kept."""
    error = Error("Ignore", outcome.reason or "The task asked to be ignored.")
    return bool(_change(session, _held(outcome.claimed), **_finish(JobState.CANCELLED), **_error_columns(error)))


def rescue(session: Session, workers: Sequence[str]) -> list[str]:
    """The leases of these workers ran out: their running jobs go back to waiting, or fail after the third crash."""
    error = Error("LeaseExpired", "Its worker stopped giving signs of life.")
    return _crashed(session, and_(Job.worker.in_(workers), Job.state == JobState.RUNNING), "rescued", error)


def still_held(session: Session, claimed: Claimed) -> bool:
    """True if this attempt may still write; locks the row until the caller's transaction ends."""
    return session.execute(select(Job.id).where(_held(claimed)).with_for_update()).first() is not None


# --- people's arrows --------------------------------------------------------------------------------------


def cancel(session: Session, job_id: str, by: str = "") -> bool:
    """waiting, queued, running ─▶ cancelled. A running attempt is fenced from here on; its worker then stops it."""
    error = Error("Cancelled", f"Cancelled by {by}." if by else "Cancelled.")
    live = and_(Job.id == job_id, Job.state.in_(LIVE_STATES))
    return bool(_change(session, live, **_finish(JobState.CANCELLED), **_error_columns(error)))


def run_again(session: Session, job_id: str) -> bool:
    """failed, cancelled ─▶ waiting, with all its retries; False also while another live job holds its unique key."""
    ended = and_(Job.id == job_id, Job.state.in_([JobState.FAILED, JobState.CANCELLED]))
    row = session.execute(select(Job).where(ended).with_for_update()).scalar()
    if row is None or _key_is_held(session, row.unique_key):
        return False
    if row.started_at is not None:
        outcome = "failed" if row.state == JobState.FAILED else "cancelled"
        _remember(session, row, outcome, Error.of_row(row), row.finished_at)
    return bool(
        _change(
            session,
            ended,
            **_wait(now()),
            **_error_columns(None),
            retries=0,
            crashes=0,
            finished_at=null(),
            expires_at=null(),
            live_key=Job.unique_key,
        )
    )


def prune(session: Session, succeeded_days: float, failed_days: float, limit: int = 1000) -> int:
    """Delete up to `limit` final jobs that are older than they need to be kept; answers how many."""
    old = or_(
        and_(Job.state == JobState.SUCCEEDED, Job.finished_at < seconds_from_now(-86400 * succeeded_days)),
        and_(
            Job.state.in_([JobState.FAILED, JobState.CANCELLED]),
            Job.finished_at < seconds_from_now(-86400 * failed_days),
        ),
    )
    ids = list(session.execute(select(Job.id).where(old).limit(limit).with_for_update(skip_locked=True)).scalars())
    if ids:
        session.execute(delete(Attempt).where(Attempt.job_id.in_(ids)))
        session.execute(delete(Progress).where(Progress.job_id.in_(ids)))
        session.execute(delete(Job).where(Job.id.in_(ids)).execution_options(synchronize_session=False))
        session.execute(insert(Tally).values(accepted=0, pruned=len(ids)))
    return len(ids)


def compact_tally(session: Session, limit: int = TALLY_GROUP) -> int:
    """Fold up to `limit` of the tally's small rows into one; the sums stay what they were. Answers how many."""
    fields = select(Tally.id, Tally.accepted, Tally.pruned).order_by(Tally.id).limit(limit)
    rows = session.execute(fields.with_for_update(skip_locked=True)).all()
    if len(rows) > 1:
        sums = {"accepted": sum(row.accepted for row in rows), "pruned": sum(row.pruned for row in rows)}
        session.execute(delete(Tally).where(Tally.id.in_([row.id for row in rows])))
        session.execute(insert(Tally).values(sums))
    return len(rows)


# --- what the arrows are made of --------------------------------------------------------------------------


def _change(session: Session, where: ColumnElement[bool], **values: Any) -> int:
    statement = update(Job).where(where).values(values).execution_options(synchronize_session=False)
    return cast(CursorResult[Any], session.execute(statement)).rowcount


def _held(claimed: Claimed) -> ColumnElement[bool]:
    """The fence: this job, still running, still this attempt."""
    return and_(Job.id == claimed.job_id, Job.state == JobState.RUNNING, Job.attempt == claimed.number)


def _finish(state: JobState) -> dict[str, Any]:
    return {
        "state": state,
        "finished_at": now(),
        "live_key": null(),
        "sender": null(),
        "sending_until": null(),
    }


def _wait(due: datetime | ColumnElement[datetime]) -> dict[str, Any]:
    return {
        "state": JobState.WAITING,
        "run_at": due,
        "queued_at": null(),
        "started_at": null(),
        "worker": null(),
        "sender": null(),
        "sending_until": null(),
        # A duplicate of the message that just ran would bring its old arguments and number of retries.
        "sends": Job.sends + 1,
    }


def _error_columns(error: Error | None) -> dict[str, Any]:
    if error is None:
        return {"error_type": null(), "error_message": null(), "error_traceback": null(), "error_data": null()}
    return {
        "error_type": error.type[:255],
        "error_message": error.message,
        "error_traceback": error.traceback,
        "error_data": error.data,
    }


def _crashed(session: Session, where: ColumnElement[bool], outcome: str, error: Error) -> list[str]:
    rows = session.execute(select(Job).where(where).with_for_update()).scalars().all()
    for row in rows:
        crashes = row.crashes + 1
        if crashes >= MOST_CRASHES:
            parked = Error(error.type, f"Stopped after {crashes} crashes. {error.message}", error.traceback)
            values = {**_finish(JobState.FAILED), **_error_columns(parked)}
        else:
            _remember(session, row, outcome, error)
            values = {**_wait(seconds_from_now(crash_delay_seconds(crashes))), **_error_columns(error)}
        _change(session, and_(where, Job.id == row.id), crashes=crashes, **values)
        session.expire(row)
    return [row.id for row in rows]


def _archive(session: Session, claimed: Claimed, outcome: str, error: Error | None) -> bool:
    row = session.execute(select(Job).where(_held(claimed)).with_for_update()).scalar()
    if row is None:
        return False
    _remember(session, row, outcome, error)
    session.expire(row)
    return True


def _remember(
    session: Session, row: Job, outcome: str, error: Error | None, finished_at: datetime | None = None
) -> None:
    """Keep what the job row is about to forget."""
    values: dict[str, Any] = {
        "job_id": row.id,
        "number": row.attempt,
        "worker": row.worker,
        "started_at": row.started_at,
        "finished_at": finished_at or now(),
        "outcome": outcome,
        **_error_columns(error),
    }
    del values["error_data"]
    session.execute(insert(Attempt).values(values))


def _key_is_held(session: Session, key: str | None) -> bool:
    return key is not None and session.execute(select(Job.id).where(Job.live_key == key)).first() is not None
