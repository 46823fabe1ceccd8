"""What live pages compare to see that something changed: two cheap SELECTs, asked again and again.

`pulse` changes when any job moves; `versions` says which of the watched jobs did. Neither reads a whole history.
"""

from collections.abc import Collection

from sqlalchemy import Connection, func, select
from sqlalchemy.orm import Session

from flaskapp.jobs.models import FINAL_STATES, Job, JobState, Progress

_LIVE_STATES = (JobState.WAITING, JobState.QUEUED, JobState.RUNNING)
_IDS_PER_SELECT = 500


def pulse(connection: Connection) -> str:
    """A text that differs once a job was accepted, started, finished or put back since it was last asked."""
    newest = select(func.max(Job.created_at)).scalar_subquery()
    # Each of these is one seek in an index, however long the history is.
    finished = [
        select(func.max(Job.finished_at)).where(Job.state == state).scalar_subquery() for state in sorted(FINAL_STATES)
    ]
    live = [select(func.count()).where(Job.state == state).scalar_subquery() for state in _LIVE_STATES]
    return "|".join(str(value) for value in connection.execute(select(newest, *finished, *live)).one())


def versions(connection: Connection, job_ids: Collection[str]) -> dict[str, str]:
    """A text per job that differs once its state, attempt or progress did; empty for an id without a row."""
    found = dict.fromkeys(job_ids, "")
    ids = sorted(found)
    for start in range(0, len(ids), _IDS_PER_SELECT):
        rows = connection.execute(
            select(Job.id, Job.state, Job.attempt, Job.run_at, Job.finished_at, Progress.at, Progress.current)
            .join(Progress, Progress.job_id == Job.id, isouter=True)
            .where(Job.id.in_(ids[start : start + _IDS_PER_SELECT]))
        )
        found.update({row[0]: "|".join(str(value) for value in row[1:]) for row in rows})
    return found


def visible(session: Session, job_ids: Collection[str], owner: str | None) -> frozenset[str]:
    """Those of `job_ids` that exist and that `owner` may watch; None may watch all."""
    query = select(Job.id).where(Job.id.in_(job_ids))
    if owner is not None:
        query = query.where(Job.owner == owner)
    return frozenset(session.scalars(query))
