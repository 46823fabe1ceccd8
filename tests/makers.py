"""Jobs in every state, made by the arrows themselves, and time made to pass.

Promises: a made job has been where a real one would have been; nothing here commits.
Does not need Celery or a broker.
"""

from typing import Any

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from flaskapp.jobs import lifecycle
from flaskapp.jobs.clock import seconds_from_now
from flaskapp.jobs.models import Attempt, Job, JobState
from flaskapp.jobs.outcomes import Claimed, Error, Failed, Hint, Succeeded, Wish

WORKER = "one@here/1"
BOOM = Error("ValueError", "boom", "Traceback …")


def waiting(session: Session, **wish: Any) -> str:
    (job_id,) = lifecycle.submit(session, [Wish("tests.fate", **wish)])
    return job_id


def queued(session: Session, **wish: Any) -> str:
    job_id = waiting(session, **wish)
    send(session, job_id)
    return job_id


def send(session: Session, job_id: str) -> None:
    """As the relay does, for this job only."""
    sender = "the relay"
    session.execute(update(Job).where(Job.id == job_id).values(sender=sender, sends=Job.sends + 1))
    assert lifecycle.mark_queued(session, sender, [job_id]) == 1


def running(session: Session, **wish: Any) -> Claimed:
    job_id = queued(session, **wish)
    return claim(session, job_id)


def claim(session: Session, job_id: str, worker: str = WORKER) -> Claimed:
    return lifecycle.claim(session, [Hint(job_id, row_of(session, job_id)["sends"])], worker)[job_id]


def succeeded(session: Session, **wish: Any) -> str:
    claimed = running(session, **wish)
    assert lifecycle.settle(session, [Succeeded(claimed, "1")])
    return claimed.job_id


def failed(session: Session, **wish: Any) -> str:
    claimed = running(session, **wish)
    assert lifecycle.settle(session, [Failed(claimed, BOOM)])
    return claimed.job_id


def cancelled(session: Session, **wish: Any) -> str:
    job_id = waiting(session, **wish)
    assert lifecycle.cancel(session, job_id)
    return job_id


def in_state(session: Session, state: str, **wish: Any) -> str:
    makers = {
        JobState.WAITING: waiting,
        JobState.QUEUED: queued,
        JobState.RUNNING: lambda session, **wish: running(session, **wish).job_id,
        JobState.SUCCEEDED: succeeded,
        JobState.FAILED: failed,
        JobState.CANCELLED: cancelled,
    }
    return makers[JobState(state)](session, **wish)


def row_of(session: Session, job_id: str) -> dict[str, Any]:
    """Every column as the database has it now."""
    return dict(session.execute(select(Job.__table__).where(Job.id == job_id)).mappings().one())


def state_of(session: Session, job_id: str) -> str:
    return str(row_of(session, job_id)["state"])


def attempts_of(session: Session, job_id: str) -> int:
    return session.execute(select(func.count()).where(Attempt.job_id == job_id)).scalar_one()


def history_of(session: Session, job_id: str) -> list[tuple[int, str]]:
    rows = session.execute(select(Attempt.number, Attempt.outcome).where(Attempt.job_id == job_id))
    return sorted(tuple(row) for row in rows)  # type: ignore[type-var]


def pass_seconds(session: Session, job_id: str, seconds: float, *columns: str) -> None:
    """Write older times into these columns, for the clock is the database's."""
    values = {column: seconds_from_now(-seconds) for column in columns}
    session.execute(update(Job).where(Job.id == job_id).values(**values))
