"""The page of schedules: each rhythm, its due times and what became of them, and what an operator may do to it."""

from flask import abort, flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_login import current_user

from flaskapp.accounts.audit import nothing_changed, write_audit
from flaskapp.accounts.protection import requires
from flaskapp.console import live
from flaskapp.console.blueprint import console
from flaskapp.console.viewer import visible_owner
from flaskapp.errors import BadSchedule
from flaskapp.extensions import db
from flaskapp.jobs import queries
from flaskapp.jobs import schedules as memory
from flaskapp.jobs.models import Schedule

FIRINGS_SHOWN = 8


@console.get("/schedules")
def schedules() -> ResponseReturnValue:
    if request.args.get("part") != "list":
        return render_template("console/schedules.html", **_listed())
    # Buttons carry a token of the person's own: that piece is not for everyone.
    if current_user.may("operator"):
        return live.uncached(_list())
    return live.fragment(_list)


@console.post("/schedules/<path:name>/run")
@requires("operator")
def schedule_run(name: str) -> ResponseReturnValue:
    found = _schedule_or_404(name)
    try:
        job_id, is_new = memory.run_now(db.session(), found, current_user.name)
    except BadSchedule as refusal:
        flash(str(refusal), "warning")
        return _back()
    if is_new:
        write_audit(db.session(), "schedule.run", name, job_id)
        db.session.commit()
        flash("Handed over, beside its rhythm: the next due time stays what it is.")
    else:
        db.session.rollback()
        flash("A job with its unique key is under way already: this is it.", "warning")
    return redirect(url_for("console.job", job_id=job_id), 303)


@console.post("/schedules/<path:name>/pause")
@requires("operator")
def schedule_pause(name: str) -> ResponseReturnValue:
    _schedule_or_404(name)
    paused = memory.pause(db.session(), name, current_user.name)
    return _done(paused, name, "schedule.pause", "Paused: it makes no jobs.")


@console.post("/schedules/<path:name>/resume")
@requires("operator")
def schedule_resume(name: str) -> ResponseReturnValue:
    _schedule_or_404(name)
    sentence = "Resumed, from now on: what was due meanwhile is not made up."
    return _done(memory.resume(db.session(), name), name, "schedule.resume", sentence)


@console.post("/schedules/<path:name>/remove")
@requires("operator")
def schedule_remove(name: str) -> ResponseReturnValue:
    _schedule_or_404(name)
    return _done(memory.remove(db.session(), name), name, "schedule.remove", "Removed, with its history.")


def _done(has_changed: bool, name: str, action: str, sentence: str) -> ResponseReturnValue:
    if has_changed:
        write_audit(db.session(), action, name)
        db.session.commit()
        flash(sentence)
    else:
        db.session.rollback()
        nothing_changed()
        flash("Nothing to change: somebody else, or a beat, was first.", "warning")
    return _back()


def _back() -> ResponseReturnValue:
    return redirect(url_for("console.schedules"), 303)


def _schedule_or_404(name: str) -> Schedule:
    found = memory.schedule_by_name(db.session(), name)
    if found is None:
        abort(404, "There is no such schedule any more.")
    return found


def _list() -> str:
    return render_template("console/_schedules.html", **_listed())


def _listed() -> dict[str, object]:
    found = queries.schedules(db.session())
    ids = [schedule.last_job_id for schedule in found if schedule.last_job_id]
    jobs = {job.id: job for job in queries.jobs_by_ids(db.session(), ids, visible_owner())}
    histories = {one.name: memory.history(db.session(), one.name, FIRINGS_SHOWN) for one in found}
    is_watched = memory.somebody_looks(db.session())
    standings = {one.name: memory.standing(one, is_watched) for one in found}
    return {"schedules": found, "jobs": jobs, "histories": histories, "standings": standings, "words": memory.words}
