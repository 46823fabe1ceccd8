"""How a wish becomes a row: submit ─▶ waiting. Nobody but `Celery.send_task` and the schedules call this.

Nothing here commits: the caller owns the transaction, so a job and the row that asked for it commit together.
"""

import os
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, cast
from uuid import UUID

from sqlalchemy import ColumnElement, Table, and_, null, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from flaskapp.jobs.changes import change, error_columns, finish
from flaskapp.jobs.clock import now, seconds_from_now
from flaskapp.jobs.models import PARKED, Job, JobState, Tally
from flaskapp.jobs.outcomes import Error, Wish

#: A parked row is due never, and reserved for ever: a relay does not even look at it.
_FOR_EVER = datetime(9999, 1, 1, tzinfo=UTC)
#: The options of a row that stands for a step which has not arrived: what they are is not known yet.
NOT_KNOWN = "{}"
PARKING = {"sender": PARKED, "sending_until": _FOR_EVER, "run_at": _FOR_EVER}
#: How often a key is asked for again that was freed just after it was found taken.
_STEPS = 500
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
    A wish for a parked job (a step that waited for the one before it, a task replaced by a chain) becomes that job.
    """
    rows = [_row(wish) for wish in wishes]
    ids = [str(row["id"]) for row in rows]
    named = [n for n, wish in enumerate(wishes) if wish.job_id is not None and wish.unique_key is None]
    doubtful = [n for n, wish in enumerate(wishes) if wish.unique_key is not None]
    ours = set(range(len(rows))).difference(named, doubtful)
    _insert_all(session, [rows[n] for n in sorted(ours)])
    # Nearly always all of a canvas call's ids are new.
    if len(named) < 2 or not _insert_if_new(session, [rows[n] for n in named]):
        doubtful = named + doubtful
    accepted = len(rows)
    for n in doubtful:
        if (existing := _insert_unless_taken(session, rows[n])) is not None:
            ids[n] = existing
            accepted -= 1
    if accepted:
        session.execute(_TALLY.insert(), {"accepted": accepted, "pruned": 0})
    return ids


def _row(wish: Wish) -> dict[str, Any]:
    row = wish.columns() | {"expires_at": wish.expiry}
    row["id"] = wish.job_id or new_job_id()
    row["live_key"] = wish.unique_key
    if wish.delay_seconds is not None:
        row["run_at"] = seconds_from_now(wish.delay_seconds)
    elif wish.run_at is not None:
        row["run_at"] = wish.run_at
    if wish.parked:
        row |= PARKING
    return row


def _insert_all(session: Session, rows: list[dict[str, Any]]) -> None:
    """Rows of one shape go in one statement: a thousand jobs cost a few round trips, not a thousand."""
    shapes: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for row in rows:
        if isinstance(row.get("run_at"), ColumnElement) or isinstance(row["expires_at"], ColumnElement):
            # Its time is the database's: a statement of its own.
            session.execute(_TABLE.insert().values(row))
        else:
            shapes.setdefault(tuple(row), []).append(row)
    for alike in shapes.values():
        session.execute(_TABLE.insert(), alike)


def _insert_if_new(session: Session, rows: list[dict[str, Any]]) -> bool:
    """All of them, or none: then at least one id is taken."""
    try:
        with session.begin_nested():
            _insert_all(session, rows)
    except IntegrityError:
        return False
    return True


def _insert_unless_taken(session: Session, row: dict[str, Any]) -> str | None:
    for tries_left in reversed(range(_MOST_TRIES)):
        try:
            with session.begin_nested():
                session.execute(_TABLE.insert().values(row))
            return None
        except IntegrityError:
            if (existing := _holder(session, row)) is not None:
                _arrive(session, row)
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


def _arrive(session: Session, row: dict[str, Any]) -> None:
    """The step that a parked row stood for. Cancelled meanwhile, it stays so, but knows now what it would have done."""
    parked = and_(Job.id == row["id"], Job.sender == PARKED)
    found = session.execute(select(Job.state, Job.attempt, Job.options).where(parked)).first()
    if found is None or not (found.attempt or found.options == NOT_KNOWN):
        # Celery sends some canvases twice under the same ids: a body stays with its first join.
        return
    if found.attempt:
        # A replaced task keeps what its caller asked for.
        values = {name: row[name] for name in ("task", "args", "kwargs", "options", "queue", "retries", "limit_key")}
    else:
        values = {name: value for name, value in row.items() if name != "id" and value is not None}
    values |= {
        "run_at": row.get("run_at", now()),
        "sender": row.get("sender"),
        "sending_until": row.get("sending_until"),
    }
    if found.state == JobState.CANCELLED:
        values["live_key"] = null()
    else:
        values |= {"state": JobState.WAITING, "finished_at": null(), **error_columns(None)}
    try:
        with session.begin_nested():
            change(session, parked, **values)
    except IntegrityError:
        _fail_for_its_key(session, parked, values)


def _fail_for_its_key(session: Session, parked: ColumnElement[bool], values: dict[str, Any]) -> None:
    """A step came while another live job holds its key: it fails alone, for the one before it has done its work."""
    from flaskapp.jobs.workflow import follow

    sentence = f"Its turn came while another live job held its unique_key {values['unique_key']!r}."
    error = Error("KeyHeld", f"{sentence} Run it again once that one has ended.")
    ids = session.scalars(select(Job.id).where(parked)).all()
    change(session, parked, **values | finish(JobState.FAILED) | error_columns(error))
    follow(session, {}, ids)


def submit_failed(session: Session, wishes: Sequence[Wish], error: Error) -> set[str]:
    """Record steps that can no longer run, so that whoever waits for them learns why: waiting or new rows ─▶ failed.

    They stay parked: should one arrive after all, because the step that failed was run again, it runs. Missing in the
    answer are those that ran or were cancelled before.
    """
    failed: set[str] = set()
    for start in range(0, len(wishes), _STEPS):
        some = {str(wish.job_id): wish for wish in wishes[start : start + _STEPS]}
        known = set(session.scalars(select(Job.id).where(Job.id.in_(some))))
        new = [wish for job_id, wish in some.items() if job_id not in known]
        submit(session, [replace(wish, parked=True, options=NOT_KNOWN) for wish in new])
        waiting = select(Job.id).where(Job.id.in_(some), Job.state == JobState.WAITING)
        ids = list(session.scalars(waiting.order_by(Job.id).with_for_update()))
        values = finish(JobState.FAILED) | {"sender": PARKED, "run_at": now()}
        change(session, Job.id.in_(ids), **values, **error_columns(error))
        failed.update(ids)
    return failed
