"""What the arrows are made of: the one UPDATE, the fence, and the columns that each kind of state sets.

Only lifecycle.py and its neighbours use these; nobody else changes a job's row.
"""

from datetime import datetime
from typing import Any, cast

from sqlalchemy import ColumnElement, CursorResult, and_, insert, null, select, update
from sqlalchemy.orm import InstrumentedAttribute, Session

from flaskapp.jobs.clock import now
from flaskapp.jobs.models import PARKED, Attempt, Job, JobState
from flaskapp.jobs.outcomes import Claimed, Error

#: Where a session keeps the ids of the jobs that its next commit makes due.
SUBMITTED = "submitted"


def change(session: Session, where: ColumnElement[bool], **values: Any) -> int:
    statement = update(Job).where(where).values(values).execution_options(synchronize_session=False)
    return cast(CursorResult[Any], session.execute(statement)).rowcount


def lock_in_order(session: Session, where: ColumnElement[bool]) -> None:
    """Whoever is about to change several jobs takes their rows by id: two that do so never wait for each other."""
    rows = select(Job.id).where(where).order_by(Job.id).with_for_update()
    # MariaDB locks what it reads, in the order of the index that it reads by.
    for dialect in ("mariadb", "mysql"):
        rows = rows.with_hint(Job, "FORCE INDEX (PRIMARY)", dialect)
    session.execute(rows).all()


def held(claimed: Claimed) -> ColumnElement[bool]:
    """The fence: this job, still running, still this attempt."""
    return and_(Job.id == claimed.job_id, Job.state == JobState.RUNNING, Job.attempt == claimed.number)


def lay_down(session: Session, where: ColumnElement[bool], until: ColumnElement[Any]) -> int:
    """Sent, but not to be started now: queued (or just being sent) ─▶ waiting, for no relay before `until`."""
    # A parked job was never sent: a message that says so is made up.
    sent = and_(where, Job.sender.is_distinct_from(PARKED))
    unstarted = and_(sent, Job.state.in_([JobState.WAITING, JobState.QUEUED]))
    return change(session, unstarted, state=JobState.WAITING, queued_at=null(), sender=null(), sending_until=until)


def finish(state: JobState) -> dict[str, Any]:
    return {
        "state": state,
        "finished_at": now(),
        "live_key": null(),
        "sender": null(),
        "sending_until": null(),
    }


def wait(due: datetime | ColumnElement[datetime] | InstrumentedAttribute[datetime]) -> dict[str, Any]:
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


def made_due(session: Session, job_id: str) -> None:
    """Note that this transaction lets a job run, so that whoever commits it nudges the outbox."""
    session.info.setdefault(SUBMITTED, []).append(job_id)


def error_columns(error: Error | None) -> dict[str, Any]:
    if error is None:
        return {"error_type": null(), "error_message": null(), "error_traceback": null(), "error_data": null()}
    return {
        "error_type": error.type[:255],
        "error_message": error.message,
        "error_traceback": error.traceback,
        "error_data": error.data,
    }


def archive(session: Session, claimed: Claimed, outcome: str, error: Error | None) -> bool:
    row = session.execute(select(Job).where(held(claimed)).with_for_update()).scalar()
    if row is None:
        return False
    remember(session, row, outcome, error)
    session.expire(row)
    return True


def remember(
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
        **error_columns(error),
    }
    del values["error_data"]
    session.execute(insert(Attempt).values(values))
