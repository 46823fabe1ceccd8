"""`flask jobs …`: the job core from a shell, with everybody's jobs in sight.

The same checks and the same shapes as the API. Data goes to standard output, refusals to standard error with
an exit code that is not 0.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click
from flask import current_app
from flask.cli import AppGroup
from werkzeug.exceptions import HTTPException

from flaskapp.api import parsing, wishes
from flaskapp.api.shapes import job_shape, job_shapes
from flaskapp.errors import OffloadError
from flaskapp.extensions import db
from flaskapp.jobs import letters, lifecycle, queries
from flaskapp.jobs.models import Job, JobState
from flaskapp.worker.sessions import let_jobs_leave, wake_relay

jobs = AppGroup("jobs", help="Submit jobs, look at them, cancel them, run them again.")
_COLUMNS = {"ID": 36, "STATE": 9, "TASK": 28, "QUEUE": 8, "ATTEMPT": 7, "CREATED": 19}


@contextmanager
def refusals() -> Iterator[None]:
    """A refusal is one sentence on standard error and exit code 1."""
    try:
        yield
    except OffloadError as problem:
        raise click.ClickException(str(problem)) from problem
    except HTTPException as problem:
        raise click.ClickException(problem.description or problem.name) from problem


@jobs.command("submit")
@click.argument("task")
@click.option("--args", "args", default="[]", help="JSON list, e.g. '[1, \"two\"]'.")
@click.option("--kwargs", "kwargs", default="{}", help='JSON object, e.g. \'{"key": "value"}\'.')
@click.option("--queue", help="Left out: the task's own queue.")
@click.option("--run-at", help="ISO 8601 with a zone, e.g. 2027-01-31T08:00:00Z.")
@click.option("--unique-key", help="While a live job holds it, its id is printed and no job is added.")
@click.option("--limit-key", help="It shares the limit of this key; see `flask jobs limit`.")
@click.option("--max-attempts", type=int)
def submit(task: str, args: str, kwargs: str, **options: Any) -> None:
    """Submit one job of TASK and print its id, alone."""
    with refusals():
        fields = {"task": task, "args": _json("--args", args), "kwargs": _json("--kwargs", kwargs), **options}
        job_id, _is_new = wishes.submit(wishes.read_wish(fields), owner=None)
        db.session.commit()
    click.echo(job_id)
    let_jobs_leave()


def _json(option: str, text: str) -> Any:
    try:
        return parsing.read_json(text)
    except HTTPException as problem:
        raise click.ClickException(f"{option}: {problem.description}") from problem


@jobs.command("list")
@click.option("--state", "states", multiple=True, type=click.Choice([state.value for state in JobState]))
@click.option("--task", help="Only jobs of this task.")
@click.option("--queue", help="Only jobs of this queue.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="A JSON list of jobs, as the API shows them.")
def list_jobs(states: tuple[str, ...], task: str | None, queue: str | None, limit: int, as_json: bool) -> None:
    """The newest jobs, newest first."""
    page = queries.jobs(db.session(), queries.Filter(states=states, task=task, queue=queue), limit)
    if as_json:
        click.echo(json.dumps(job_shapes(db.session(), page.jobs, wishes.celery_app().tasks), indent=2))
        return
    click.echo("  ".join(f"{title:<{width}}" for title, width in _COLUMNS.items()).rstrip())
    for job in page.jobs:
        click.echo(_line(job))


def _line(job: Job) -> str:
    created = job.created_at.strftime("%Y-%m-%d %H:%M:%S")
    cells = zip((job.id, job.state, job.task, job.queue, str(job.attempt), created), _COLUMNS.values(), strict=True)
    return "  ".join(f"{cell:<{width}}" for cell, width in cells).rstrip()


@jobs.command("show")
@click.argument("job_id")
@click.option("--json", "as_json", is_flag=True, help="As the API shows it.")
def show(job_id: str, as_json: bool) -> None:
    """One job with everything that is known about it."""
    shape = job_shape(db.session(), _job(job_id), wishes.celery_app().tasks)
    if as_json:
        click.echo(json.dumps(shape, indent=2))
        return
    for name, value in shape.items():
        if name == "attempts":
            value = "".join(f"\n  {one['number']}: {one['outcome']} on {one['worker']}" for one in value)
        elif name == "error" and value:
            value = f"{value['type']}: {value['message']}\n{value['traceback'] or ''}".rstrip()
        elif not isinstance(value, str | None):
            value = json.dumps(value)
        if value not in (None, ""):
            click.echo(f"{name + ':':<13} {value}")


@jobs.command("cancel")
@click.argument("job_id")
def cancel(job_id: str) -> None:
    """Cancel a job that is not final."""
    job = _job(job_id)
    if not lifecycle.cancel(db.session(), job.id, by="the command line"):
        raise click.ClickException(f"Job {job_id} is {_job(job_id).state} already: there is nothing to cancel.")
    db.session.commit()
    click.echo(f"Job {job_id} is cancelled.")


@jobs.command("run-again")
@click.argument("job_id")
def run_again(job_id: str) -> None:
    """Put a failed or cancelled job back to waiting."""
    job = _job(job_id)
    if not lifecycle.run_again(db.session(), job.id):
        state = _job(job_id).state
        raise click.ClickException(
            f"Job {job_id} is {state}: only failed and cancelled jobs whose unique_key is free can run again."
        )
    wake_relay(db.session())
    db.session.commit()
    click.echo(f"Job {job_id} is waiting again.")
    let_jobs_leave()


@jobs.command("prune")
def prune() -> None:
    """Delete final jobs that are older than KEEP_SUCCEEDED_DAYS and KEEP_FAILED_DAYS."""
    settings = current_app.config["SETTINGS"]
    total = 0
    # In short commits: SQLite has one writer, and a page must not wait for ours.
    while pruned := lifecycle.prune(db.session(), settings.keep_succeeded_days, settings.keep_failed_days):
        db.session.commit()
        total += pruned
    while letters.prune_letters(db.session(), settings.keep_failed_days):
        db.session.commit()
    db.session.commit()
    click.echo(f"{total} jobs are pruned.")


def _job(job_id: str) -> Job:
    job = queries.job_by_id(db.session(), job_id) if parsing.is_job_id(job_id) else None
    if job is None:
        raise click.ClickException(f"There is no job {job_id[:155]}. `flask jobs list` shows the newest.")
    return job
