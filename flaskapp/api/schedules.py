"""Schedules over HTTP: each rhythm, when it was last due and when it is next."""

from flask import Response

from flaskapp.api.blueprint import answer, api
from flaskapp.api.shapes import moment
from flaskapp.extensions import db
from flaskapp.jobs import queries


@api.get("/schedules")
def list_schedules() -> Response:
    items = [
        {
            "name": schedule.name,
            "task": schedule.task,
            "rhythm": schedule.rhythm,
            "last_due_at": moment(schedule.last_due_at),
            "next_due_at": moment(schedule.next_due_at),
            "paused_at": moment(schedule.paused_at),
            "last_job_id": schedule.last_job_id,
        }
        for schedule in queries.schedules(db.session())
    ]
    return answer({"items": items})
