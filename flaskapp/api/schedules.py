"""Schedules over HTTP: each rhythm, what became of its last due times, and run now, pause, resume, remove.

A name may have spaces and slashes; it stands percent-encoded in the address.
"""

from typing import Any

from flask import Response, url_for
from flask_login import current_user
from werkzeug.exceptions import Conflict, NotFound

from flaskapp.accounts.audit import nothing_changed, write_audit
from flaskapp.accounts.protection import requires
from flaskapp.api import wishes
from flaskapp.api.blueprint import answer, api
from flaskapp.api.keys import changes
from flaskapp.api.shapes import job_shape, moment
from flaskapp.errors import BadSchedule
from flaskapp.extensions import db
from flaskapp.jobs import queries, schedules
from flaskapp.jobs.models import Firing, Job, Schedule

#: "The last few" of each schedule in the list.
FIRINGS_SHOWN = 5


@api.get("/schedules")
def list_schedules() -> Response:
    found = queries.schedules(db.session())
    ids = [schedule.last_job_id for schedule in found if schedule.last_job_id]
    jobs = {job.id: job for job in queries.jobs_by_ids(db.session(), ids, current_user.visible_owner)}
    return answer({"items": [schedule_shape(one, jobs.get(str(one.last_job_id))) for one in found]})


@api.post("/schedules/<path:schedule>/run")
@requires("operator")
@changes()
def run_schedule(schedule: str) -> Response:
    found = _schedule(schedule)
    try:
        job_id, is_new = schedules.run_now(db.session(), found, current_user.name)
    except BadSchedule as refusal:
        raise Conflict(str(refusal)) from refusal
    if is_new:
        write_audit(db.session(), "schedule.run", schedule, job_id)
    else:
        nothing_changed()
    job = queries.job_by_id(db.session(), job_id)
    if job is None:
        raise Conflict("The job was deleted at this very moment. Send the request again.")
    shape = job_shape(db.session(), job, wishes.celery_app().tasks)
    return answer(shape, 202 if is_new else 200, url_for("api.show_job", job_id=job_id))


@api.post("/schedules/<path:schedule>/pause")
@requires("operator")
@changes()
def pause_schedule(schedule: str) -> Response:
    """Paused already is paused: asking twice is no mistake."""
    _schedule(schedule)
    _audit(schedules.pause(db.session(), schedule, current_user.name), "schedule.pause", schedule)
    return _answer(schedule)


@api.post("/schedules/<path:schedule>/resume")
@requires("operator")
@changes()
def resume_schedule(schedule: str) -> Response:
    _schedule(schedule)
    _audit(schedules.resume(db.session(), schedule), "schedule.resume", schedule)
    return _answer(schedule)


@api.post("/schedules/<path:schedule>/remove")
@requires("operator")
@changes()
def remove_schedule(schedule: str) -> Response:
    found = _schedule(schedule)
    shape = schedule_shape(found, None)
    if not schedules.remove(db.session(), schedule):
        raise Conflict(f"Schedule {schedule!r} stands in the code of a running beat. Take its entry out first.")
    write_audit(db.session(), "schedule.remove", schedule)
    return answer(shape)


def _audit(has_changed: bool, action: str, name: str) -> None:
    if has_changed:
        write_audit(db.session(), action, name)
    else:
        nothing_changed()


def _schedule(name: str) -> Schedule:
    found = schedules.schedule_by_name(db.session(), name)
    if found is None:
        raise NotFound(f"There is no schedule {name[:64]!r}. GET /api/v1/schedules lists them.")
    return found


def _answer(name: str) -> Response:
    found = _schedule(name)
    job = queries.job_by_id(db.session(), found.last_job_id, current_user.visible_owner) if found.last_job_id else None
    return answer(schedule_shape(found, job))


def schedule_shape(schedule: Schedule, last_job: Job | None) -> dict[str, Any]:
    """As scripts see it (docs and openapi.py list the fields)."""
    return {
        "name": schedule.name,
        "task": schedule.task,
        "rhythm": schedule.rhythm,
        "timezone": schedule.timezone,
        "missed": schedule.missed,
        "overlap": schedule.overlap,
        "last_due_at": moment(schedule.last_time),
        "next_due_at": moment(schedule.next_time),
        "paused": schedule.paused_at is not None,
        "paused_at": moment(schedule.paused_at),
        "paused_by": schedule.paused_by if schedule.paused_at else None,
        "gone_at": moment(schedule.gone_at),
        "problem": schedule.problem,
        "last_job_id": schedule.last_job_id,
        "last_job_state": last_job.state if last_job else None,
        "firings": [_firing(one) for one in schedules.history(db.session(), schedule.name, FIRINGS_SHOWN)],
    }


def _firing(firing: Firing) -> dict[str, Any]:
    return {
        "due_at": moment(firing.due_at),
        "until_at": moment(firing.until_at),
        "times": firing.times,
        "outcome": firing.outcome,
        "reason": firing.reason,
        "job_id": firing.job_id,
        "at": moment(firing.at),
    }
