"""How a job loses its process: crash and rescue ─▶ waiting, and after the third ─▶ failed, with the evidence.

Nothing here commits: the caller owns the transaction.
"""

import math
from collections.abc import Sequence

from sqlalchemy import ColumnElement, and_, select
from sqlalchemy.orm import Session

from flaskapp.jobs.changes import change, error_columns, finish, held, remember, wait
from flaskapp.jobs.clock import seconds_from_now
from flaskapp.jobs.models import Job, JobState, Progress, Worker
from flaskapp.jobs.outcomes import Crashed, Error
from flaskapp.jobs.retry import MOST_CRASHES, crash_delay_seconds
from flaskapp.jobs.workflow import follow


def crash(session: Session, outcome: Crashed) -> bool:
    """running ─▶ waiting after a lost process, or ─▶ failed with the evidence after the third."""
    return bool(_crashed(session, held(outcome.claimed), "crashed", outcome.error, outcome.brief))


def rescue(session: Session, workers: Sequence[str]) -> list[str]:
    """The leases of these workers ran out: their running jobs go back to waiting, or fail after the third crash.

    What is known of a worker stands in its row: call this before it is deleted.
    """
    rescued = []
    for worker in workers:
        error = Error("LeaseExpired", _silence(session, worker))
        theirs = and_(Job.worker == worker, Job.state == JobState.RUNNING)
        rescued += _crashed(session, theirs, "rescued", error, "no sign of life")
    follow(session, {}, rescued)
    return rescued


def _silence(session: Session, worker_id: str) -> str:
    worker = session.get(Worker, worker_id, populate_existing=True)
    if worker is None:
        return f"Its worker {worker_id} stopped giving signs of life."
    last = worker.heartbeat_at.strftime("%Y-%m-%d %H:%M:%S UTC")
    memory = "" if worker.memory is None else f", when its processes had {size(worker.memory)} of memory"
    return (
        f"Its worker {worker_id} (process {worker.pid} on {worker.host}) stopped giving signs of life. "
        f"Its last was at {last}{memory}."
    )


def _crashed(session: Session, where: ColumnElement[bool], outcome: str, error: Error, brief: str) -> list[str]:
    rows = session.execute(select(Job).where(where).order_by(Job.id).with_for_update()).scalars().all()
    for row in rows:
        crashes = row.crashes + 1
        far = _how_far(session, row)
        evidence = f"{error.message} It had come to {far}." if far else error.message
        if crashes >= MOST_CRASHES:
            known = f" ({brief})" if brief else ""
            sentence = f"Stopped after {crashes} crashes{known}. {evidence}{_advice(brief)}"
            values = {
                **finish(JobState.FAILED),
                **error_columns(Error(error.type, sentence, error.traceback)),
            }
        else:
            seen = Error(error.type, evidence, error.traceback)
            remember(session, row, outcome, seen)
            delay = crash_delay_seconds(crashes)
            # Without a delay it keeps its place in line.
            values = {**wait(seconds_from_now(delay) if delay else Job.run_at), **error_columns(seen)}
        change(session, and_(where, Job.id == row.id), crashes=crashes, **values)
        session.expire(row)
    return [row.id for row in rows]


def _advice(brief: str) -> str:
    if not brief.startswith("signal 9"):
        return ""
    return " If nobody sent that signal, memory ran out: give it more, or less to do at a time, and run it again."


def _how_far(session: Session, row: Job) -> str:
    """The last that this attempt told of its progress: `48,112 of 100,000: reading`."""
    told = session.scalars(select(Progress).where(Progress.job_id == row.id, Progress.attempt == row.attempt)).first()
    if told is None:
        return ""
    total = "" if told.total is None else f" of {_number(told.total)}"
    return f"{_number(told.current)}{total}{f': {told.message}' if told.message else ''}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if math.isfinite(value) and value == int(value) else f"{value:,.2f}"


def size(count: int) -> str:
    """`2.1 GB`, in powers of ten as on a page."""
    for unit, name in ((10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if count >= unit:
            return f"{count / unit:,.1f} {name}"
    return f"{count} bytes"
