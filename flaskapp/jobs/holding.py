"""Why a job that is due does not start: what people set for its queue or its key."""

from sqlalchemy import select
from sqlalchemy.orm import Session

from flaskapp.jobs.clock import now
from flaskapp.jobs.limits import Bound, Rule, full
from flaskapp.jobs.models import Job, JobState, Limit, Queue


def why_held(session: Session, job: Job) -> str:
    """One sentence; empty if nothing that people set holds it, or it is not yet due or has begun."""
    if job.state not in (JobState.WAITING, JobState.QUEUED) or job.is_parked:
        return ""
    if session.scalar(select(Job.id).where(Job.id == job.id, Job.run_at > now())):
        return ""
    queue = session.get(Queue, job.queue)
    if queue is not None and queue.paused_at is not None:
        return f"The queue {job.queue} is paused: nothing of it starts."
    if job.state == JobState.QUEUED:
        return ""
    if queue is not None and queue.draining_at is not None:
        return f"The queue {job.queue} is being drained: nothing more of it is sent."
    busy = full(session)
    if queue is not None and Bound("queue", queue.name) in busy:
        return f"It waits for its turn in the queue {queue.name}: {_words(queue)}."
    key = session.get(Limit, job.limit_key) if job.limit_key else None
    if key is not None and Bound("key", key.key) in busy:
        return f"It waits for its turn among the jobs of {key.key}: {_words(key)}."
    return ""


def _words(row: Queue | Limit) -> str:
    return Rule(row.max_running, row.rate_count, row.rate_seconds).in_words()
