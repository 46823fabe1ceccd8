"""The pages of jobs: the list with its filters, one job with its whole story, and what a person may do to it.

A page and its live update are rendered from the same piece (_row.html, _job.html).
"""

from typing import Any

from flask import abort, current_app, flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_login import current_user

from flaskapp.console import listing, live
from flaskapp.console.blueprint import console
from flaskapp.console.listing import Listing
from flaskapp.console.progress import Pace, pace
from flaskapp.console.remember import remembered
from flaskapp.console.timeline import timeline
from flaskapp.console.titles import result_style, result_view, seen
from flaskapp.console.tree import tree_of
from flaskapp.console.viewer import job_or_404, visible_owner
from flaskapp.extensions import db
from flaskapp.jobs import lifecycle, queries
from flaskapp.jobs.holding import why_held
from flaskapp.jobs.models import Job, JobState
from flaskapp.jobs.unknown import UNKNOWN
from flaskapp.worker.sessions import wake_relay

#: A page never watches more rows than it shows.
MOST_IDS = 2 * listing.PAGE_LENGTH


@console.get("/jobs")
def jobs() -> str:
    asked = Listing.asked_by(request)
    page = listing.read_page(asked, visible_owner())
    return render_template(
        "console/jobs.html",
        asked=asked,
        page=page,
        paces=_paces(page.jobs),
        tasks=_task_names(asked.task),
        queues=_queue_names(asked.queue),
        asked_by={name: words for name, (_, words) in listing.ASKED_BY.items()},
        unfinished=any(not job.is_final for job in page.jobs),
    )


@console.get("/jobs/rows")
def job_rows() -> ResponseReturnValue:
    """The rows of a list page as they are now, and those of `id` that have left the list."""

    def render() -> str:
        owner = visible_owner()
        shown = listing.read_page(Listing.asked_by(request), owner).jobs
        ids = set(request.args.getlist("id")[:MOST_IDS]) - {job.id for job in shown}
        left = queries.jobs_by_ids(db.session(), sorted(ids), owner) if ids else []
        return render_template("console/_rows.html", jobs=shown, left=left, paces=_paces([*shown, *left]))

    return live.fragment(render)


@console.get("/jobs/<path:job_id>")
def job(job_id: str) -> ResponseReturnValue:
    found = job_or_404(job_id)
    if request.args.get("part") == "job":
        return live.uncached(render_template("console/_job.html", **_story(found)))
    return render_template("console/job.html", result_style=result_style(found), **_story(found))


@console.post("/jobs/<path:job_id>/cancel")
def job_cancel(job_id: str) -> ResponseReturnValue:
    found = job_or_404(job_id)
    was_running = found.state == JobState.RUNNING
    if lifecycle.cancel(db.session(), found.id, by=current_user.name):
        wake_relay(db.session())
        db.session.commit()
        flash("Cancelled. Its worker stops it within seconds." if was_running else "Cancelled before it was started.")
    else:
        db.session.rollback()
        flash(f"Nothing to cancel: it has {_ended(job_id)} meanwhile.", "warning")
    return redirect(url_for("console.job", job_id=job_id), 303)


@console.post("/jobs/<path:job_id>/run-again")
def job_run_again(job_id: str) -> ResponseReturnValue:
    found = job_or_404(job_id)
    if lifecycle.run_again(db.session(), found.id):
        wake_relay(db.session())
        db.session.commit()
        flash("It waits to run again, with all its retries.")
    else:
        db.session.rollback()
        flash(_why_not_again(job_or_404(job_id)), "warning")
    return redirect(url_for("console.job", job_id=job_id), 303)


@console.post("/jobs/sample")
def job_sample() -> ResponseReturnValue:
    """For a first look: one job of ten seconds."""
    celery = current_app.extensions.get("celery")
    if celery is None:
        abort(404)
    sent = celery.send_task("diagnostics.sleep", args=[10], owner=current_user.name)
    db.session.commit()
    return redirect(url_for("console.job", job_id=sent.id), 303)


def _ended(job_id: str) -> str:
    return {"cancelled": "been cancelled"}.get(state := job_or_404(job_id).state, state)


def _why_not_again(found: Job) -> str:
    if found.state == "succeeded":
        return "It has succeeded, and a success is recorded once. Submit a new job instead."
    if found.is_parked and found.is_final:
        return "It could not run because another step failed. Run that one again, and this one follows."
    if found.is_final:
        return "Another job with the same unique key is under way. Wait for it to finish, then run this one again."
    return f"It is {found.state} already: there is nothing to run again."


def _story(found: Job) -> dict[str, Any]:
    shown = seen(found)
    tree = tree_of(found, visible_owner())
    return {
        "job": found,
        "seen": shown,
        "moments": timeline(found, queries.attempts(db.session(), found.id), shown.text),
        "unknown_task": found.sender == UNKNOWN,
        "held": why_held(db.session(), found),
        "pace": _paces([found]).get(found.id),
        "tree": tree,
        # A workflow shows them in their place.
        "children": [] if tree else _children(found.id),
        "result": shown.result,
        "result_view": result_view(found) if found.state == "succeeded" else None,
    }


def _children(job_id: str) -> list[Job]:
    return [child for child in queries.children(db.session(), job_id) if visible_owner() in (None, child.owner)]


def _paces(found: list[Job]) -> dict[str, Pace]:
    """Only of jobs that may still move: a finished list costs no second query."""
    unfinished = {job.id: job for job in found if job.state != "succeeded" and job.attempt}
    rows = queries.progress(db.session(), sorted(unfinished)) if unfinished else {}
    paces = {job_id: pace(unfinished[job_id], row) for job_id, row in rows.items()}
    return {job_id: value for job_id, value in paces.items() if value is not None}


def _task_names(chosen: str) -> list[str]:
    """What the filter offers: the tasks that are known here, or else those the table has seen."""
    celery = current_app.extensions.get("celery")
    names = [name for name in celery.tasks if not name.startswith("celery.")] if celery else []
    return sorted({*(names or remembered(queries.known_tasks)), *filter(None, [chosen])})


def _queue_names(chosen: str) -> list[str]:
    return sorted({*(depth.name for depth in remembered(queries.queue_depths)), *filter(None, [chosen])})
