"""The job core's own tasks."""

from typing import Any

from celery import shared_task
from flask import current_app

from flaskapp.config import Settings
from flaskapp.extensions import db
from flaskapp.jobs import letters, lifecycle, queries, schedules
from flaskapp.jobs.models import JobState
from flaskapp.jobs.workflow import ERRBACKS_TASK

_GROUP = 1000


@shared_task(name="maintenance.prune", internal=True)
def prune() -> int:
    """Delete finished jobs and dead letters that were kept long enough; answers how many jobs."""
    settings: Settings = current_app.config["SETTINGS"]
    pruned = _GROUP
    total = 0
    while pruned == _GROUP:
        pruned = lifecycle.prune(db.session(), settings.keep_succeeded_days, settings.keep_failed_days, _GROUP)
        # A short commit for each thousand: nobody waits long for the write lock.
        db.session.commit()
        total += pruned
    schedules.prune_firings(db.session())
    while letters.prune_letters(db.session(), settings.keep_failed_days, _GROUP) == _GROUP:
        db.session.commit()
    db.session.commit()
    return total


@shared_task(name=ERRBACKS_TASK, bind=True, internal=True)
def call_errbacks(self: Any, job_id: str) -> None:
    """A job failed, wherever that was: call what was linked to its failure."""
    job = queries.job_by_id(db.session(), job_id)
    # Run again meanwhile: if it fails again, another one calls them.
    if job is not None and job.state == JobState.FAILED:
        self.app.backend.call_errbacks(job)
