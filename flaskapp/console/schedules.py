"""The page of schedules: each rhythm, when it was last due, when it is due next, and the job it made."""

from flask import render_template, request
from flask.typing import ResponseReturnValue

from flaskapp.console import live
from flaskapp.console.blueprint import console
from flaskapp.console.viewer import visible_owner
from flaskapp.extensions import db
from flaskapp.jobs import queries


@console.get("/schedules")
def schedules() -> ResponseReturnValue:
    if request.args.get("part") == "list":
        return live.fragment(lambda: render_template("console/_schedules.html", **_listed()))
    return render_template("console/schedules.html", **_listed())


def _listed() -> dict[str, object]:
    found = queries.schedules(db.session())
    ids = [schedule.last_job_id for schedule in found if schedule.last_job_id]
    jobs = {job.id: job for job in queries.jobs_by_ids(db.session(), ids, visible_owner())}
    return {"schedules": found, "jobs": jobs}
