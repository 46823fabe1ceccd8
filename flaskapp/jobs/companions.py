"""What stops with a job: a subject that remembers more than its job says here what a cancel means for that.

Whoever cancels (a page, a script, `revoke`) goes through lifecycle.cancel, so the subject's own rows change in the same
transaction. The core only knows the task's name.
"""

from collections.abc import Callable

from sqlalchemy import select
from sqlalchemy.orm import Session

from flaskapp.jobs.models import Job

#: Called once the job is cancelled.
Stop = Callable[[], None]
#: (session, the job's id, its arguments as JSON): locks what will stop; None if nothing would.
Companion = Callable[[Session, str, str], Stop | None]

#: Task → its companion.
COMPANIONS: dict[str, Companion] = {}


def companion_of(session: Session, job_id: str) -> Stop | None:
    """What has to stop with this job, locked: elsewhere, too, it is locked before the job is."""
    if not COMPANIONS:
        return None
    row = session.execute(select(Job.task, Job.args).where(Job.id == job_id)).first()
    companion = COMPANIONS.get(row.task) if row is not None else None
    return companion(session, job_id, row.args) if row is not None and companion is not None else None
