"""Jobs over HTTP: submit, look, cancel, run again.

A viewer's world is their own jobs: for others they get 404, as for jobs that do not exist.
"""

from flask import Response, request, url_for
from flask_login import current_user
from werkzeug.exceptions import Conflict, NotFound

from flaskapp.accounts.audit import nothing_changed, write_audit
from flaskapp.api import parsing, wishes
from flaskapp.api.blueprint import answer, api
from flaskapp.api.keys import changes
from flaskapp.api.problems import StateForbids
from flaskapp.api.shapes import job_shape, job_shapes
from flaskapp.errors import BadArguments
from flaskapp.extensions import db
from flaskapp.jobs import lifecycle, queries
from flaskapp.jobs.models import Job, JobState
from flaskapp.worker.sessions import wake_relay

MOST_IN_BULK = 1000
BODY_LIMIT = 1_000_000
BULK_BODY_LIMIT = 16_000_000


@api.post("/jobs")
@changes(BODY_LIMIT)
def submit_job() -> Response:
    asked = wishes.read_wish(parsing.json_object())
    job_id, is_new = wishes.submit(asked, current_user.name)
    if is_new:
        write_audit(db.session(), "job.submit", job_id, asked.task)
    else:
        nothing_changed()
        wishes.check_may_see(job_id, current_user.visible_owner)
    return _answer_job(job_id, 202 if is_new else 200)


@api.post("/jobs/bulk")
@changes(BULK_BODY_LIMIT)
def submit_jobs() -> Response:
    """All of them or, if one cannot be granted, none."""
    fields = parsing.json_object()
    parsing.refuse_unknown(fields, ("jobs",))
    wanted = fields.get("jobs")
    if not isinstance(wanted, list) or not 1 <= len(wanted) <= MOST_IN_BULK:
        raise BadArguments(f"jobs must be a list of 1 to {MOST_IN_BULK:,} jobs. Send more in several requests.")
    asked = [wishes.read_wish(one, f"jobs[{n}].") for n, one in enumerate(wanted)]
    ids = wishes.submit_many(asked, current_user.name)
    write_audit(db.session(), "job.submit", ids[0], f"{len(ids)} jobs in one request")
    return answer({"ids": ids}, 202)


@api.get("/jobs")
def list_jobs() -> Response:
    wanted = queries.Filter(
        states=_states(),
        task=parsing.query_text("task"),
        queue=parsing.query_text("queue", 64),
        text=parsing.query_text("q"),
        owner=current_user.visible_owner,
    )
    page = queries.jobs(db.session(), wanted, parsing.query_limit(), parsing.query_cursor())
    shapes = job_shapes(db.session(), page.jobs, wishes.celery_app().tasks)
    return answer({"items": shapes, "next": parsing.cursor_of(page.older)})


@api.get("/jobs/<job_id>")
def show_job(job_id: str) -> Response:
    return answer(job_shape(db.session(), _job(job_id), wishes.celery_app().tasks))


@api.post("/jobs/<job_id>/cancel")
@changes()
def cancel_job(job_id: str) -> Response:
    job = _job(job_id)
    if not lifecycle.cancel(db.session(), job.id, by=current_user.name):
        state = _job(job_id).state
        raise StateForbids(f"Job {job_id} is {state} already: there is nothing to cancel.", state)
    write_audit(db.session(), "job.cancel", job_id, job.task)
    wake_relay(db.session())
    return _answer_job(job_id, 202)


@api.post("/jobs/<job_id>/run-again")
@changes()
def run_job_again(job_id: str) -> Response:
    job = _job(job_id)
    if not lifecycle.run_again(db.session(), job.id):
        state = _job(job_id).state
        raise StateForbids(_why_not_again(job_id, state), state)
    write_audit(db.session(), "job.run-again", job_id, job.task)
    wake_relay(db.session())
    return _answer_job(job_id, 202)


def _why_not_again(job_id: str, state: str) -> str:
    if state in (JobState.FAILED, JobState.CANCELLED):
        return f"Job {job_id} cannot run again while another live job holds its unique_key."
    return f"Job {job_id} is {state}: only failed and cancelled jobs can run again."


def _job(job_id: str) -> Job:
    if not parsing.is_job_id(job_id):
        raise NotFound
    job = queries.job_by_id(db.session(), job_id, current_user.visible_owner)
    if job is None:
        raise NotFound(f"There is no job {job_id} that you may see. It may have been pruned.")
    return job


def _answer_job(job_id: str, status: int) -> Response:
    job = queries.job_by_id(db.session(), job_id)
    if job is None:
        raise Conflict("The job was deleted at this very moment. Send the request again.")
    shape = job_shape(db.session(), job, wishes.celery_app().tasks)
    return answer(shape, status, url_for("api.show_job", job_id=job_id))


def _states() -> list[str]:
    states = [state for state in request.args.getlist("state") if state]
    for state in states:
        if state not in list(JobState):
            raise BadArguments(f"{state[:80]!r} is not a state. The states are: {', '.join(JobState)}.")
    return states
