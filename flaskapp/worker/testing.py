"""For users' own tests: run what was submitted, in this process, by the same road as a worker."""

from typing import Any

from celery import current_app
from kombu.utils.json import loads
from sqlalchemy import select
from sqlalchemy.orm import Session

from flaskapp.broker import publisher
from flaskapp.extensions import db
from flaskapp.jobs import lifecycle
from flaskapp.jobs.clock import now
from flaskapp.jobs.models import Job, JobState
from flaskapp.jobs.outcomes import Hint
from flaskapp.jobs.unknown import UNKNOWN
from flaskapp.worker.attempt import CLAIM_KEY, run

WORKER = "run_due_jobs@this-process"


def run_due_jobs(limit: int = 1000) -> list[str]:
    """Claim and run every due job, also those they submit, until none is left; answers their ids in order.

    Commits and closes the current session first, as a request's end would. Jobs that wait for a later time (a
    retry's backoff, an eta), for a paused queue, for a limit or for a worker that knows their task stay waiting. Each
    is settled exactly as in a worker, failures included.
    """
    db.session.remove()
    done: list[str] = []
    held: set[str] = set()
    while len(done) < limit and (job := _next_due(held)) is not None:
        if job.task in current_app.tasks and _run(job):
            done.append(job.id)
        else:
            held.add(job.id)
    return done


def _next_due(held: set[str]) -> Job | None:
    with Session(db.engine, expire_on_commit=False) as session:
        due = select(Job).where(Job.state.in_([JobState.WAITING, JobState.QUEUED]), Job.run_at <= now())
        due = due.where(Job.sender.is_distinct_from(lifecycle.PARKED), Job.sender.is_distinct_from(UNKNOWN))
        due = due.where(Job.id.not_in(held))
        return session.scalars(due.order_by(Job.priority.desc(), Job.run_at, Job.id).limit(1)).first()


def _run(job: Job) -> bool:
    """False if it may not run now: its queue is paused, or a limit leaves no room."""
    with Session(db.engine) as session, session.begin():
        claimed = lifecycle.claim(session, [Hint(job.id, job.sends)], WORKER).get(job.id)
    if claimed is None:
        return False
    request: dict[str, Any] = publisher.headers(job) | {
        CLAIM_KEY: claimed,
        "delivery_info": {"exchange": None, "routing_key": job.queue, "priority": None, "redelivered": False},
        "hostname": WORKER,
    }
    body = (loads(job.args), loads(job.kwargs), loads(publisher.embed(job)))
    report = run(job.task, request, body, None, None)
    if report.outcome is not None:
        with Session(db.engine) as session, session.begin():
            lifecycle.settle(session, [report.outcome])
    return True
