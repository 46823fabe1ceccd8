"""How a wish becomes a row: submit ─▶ waiting. Nobody but `Celery.send_task` and the schedules call this.

Nothing here commits: the caller owns the transaction, so a job and the row that asked for it commit together.
"""

import os
import time
from collections.abc import Sequence
from typing import Any, cast
from uuid import UUID

from sqlalchemy import Table, and_, null, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from flaskapp.jobs.changes import change, error_columns, finish
from flaskapp.jobs.clock import now, seconds_from_now
from flaskapp.jobs.models import Job, JobState, Tally
from flaskapp.jobs.outcomes import Error, Wish

#: The sender of a job that waits for a later submit with its own id; no relay takes it.
PARKED = "parked"
#: How often a key is asked for again that was freed just after it was found taken.
_MOST_TRIES = 20
# Plain tables for what runs most: the ORM's way of the same statement costs twice as much.
_TABLE = cast(Table, Job.__table__)
_TALLY = cast(Table, Tally.__table__)


def new_job_id() -> str:
    """A UUIDv7 (RFC 9562): ids made later sort later."""
    random_bits = int.from_bytes(os.urandom(10), "big")
    milliseconds = time.time_ns() // 1_000_000
    value = (milliseconds << 80) | random_bits
    value = (value & ~(0xF << 76)) | (0x7 << 76)
    value = (value & ~(0x3 << 62)) | (0x2 << 62)
    return str(UUID(int=value & (1 << 128) - 1))


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
    for tries_left in reversed(range(_MOST_TRIES)):
        try:
            with session.begin_nested():
                session.execute(_TABLE.insert().values(row))
            return None
        except IntegrityError:
            if (existing := _holder(session, row)) is not None:
                _unpark(session, row)
                return existing
            # Whoever held the key ended in between: it is free again.
            if not tries_left:
                raise
    return None


def _holder(session: Session, row: dict[str, Any]) -> str | None:
    """The id goes before the key; "no key" is NULL, which must not be compared."""
    existing = session.execute(select(Job.id).where(Job.id == row["id"])).scalar()
    if existing is None and row["live_key"] is not None:
        existing = session.execute(select(Job.id).where(Job.live_key == row["live_key"])).scalar()
    return existing


def _unpark(session: Session, row: dict[str, Any]) -> None:
    parked = and_(Job.id == row["id"], Job.state == JobState.WAITING, Job.sender == PARKED)
    arrived = {name: row[name] for name in ("task", "args", "kwargs", "options", "queue", "retries", "limit_key")}
    change(session, parked, **arrived, run_at=row.get("run_at", now()), sender=null(), sending_until=null())


def submit_failed(session: Session, wish: Wish, error: Error) -> None:
    """Record a job that can no longer run, so that whoever waits for it learns why: a parked or new row ─▶ failed."""
    (job_id,) = submit(session, [wish])
    waiting = and_(Job.id == job_id, Job.state == JobState.WAITING)
    change(session, waiting, **finish(JobState.FAILED), **error_columns(error))
