"""The pages of saved questions, and of the attacks that are tried on this installation."""

from collections.abc import Mapping
from typing import Any
from zoneinfo import ZoneInfo

from flask import abort, current_app, flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_login import current_user
from kombu.utils.json import loads

from flaskapp.accounts.audit import write_audit
from flaskapp.accounts.protection import requires
from flaskapp.errors import BadArguments
from flaskapp.extensions import db
from flaskapp.jobs import queries
from flaskapp.jobs.holding import why_held
from flaskapp.jobs.models import JobState
from flaskapp.jobs.queries import Filter
from flaskapp.query import actions, charts, saving
from flaskapp.query.models import QueryRun, SavedQuery
from flaskapp.query.safety import attacks_here
from flaskapp.query.tasks import run_saved, try_attacks
from flaskapp.query.views import _beside, _sent_parameters, query


@query.post("/<query_id>/save")
def save(query_id: str) -> ResponseReturnValue:
    run = actions.query_by_id(db.session(), query_id, current_user.name)
    if run is None:
        abort(404, "There is no such question, or it belongs to somebody else.")
    try:
        saved = saving.save(
            db.session(), request.form.get("name", ""), run.sql, loads(run.parameters), current_user.name
        )
    except BadArguments as refusal:
        db.session.rollback()
        flash(str(refusal), "warning")
        return redirect(url_for("query.show", query_id=query_id), 303)
    saved.timezone = current_app.config["SETTINGS"].timezone
    saving.set_chart(saved, charts.read_choice(request.form, len(actions.columns_of(run))))
    run.saved_id = saved.id
    write_audit(db.session(), "query.save", saved.id, saved.name)
    place = url_for("query.saved", saved_id=saved.id)
    db.session.commit()
    return redirect(place, 303)


@query.get("/saved/<saved_id>")
def saved(saved_id: str) -> str:
    return _page(_saved(saved_id))


@query.post("/saved/<saved_id>/schedule")
def schedule(saved_id: str) -> ResponseReturnValue:
    found = _changeable(saved_id)
    form = request.form
    try:
        mail_to = form.get("mail_to", "")
        saving.set_rhythm(db.session(), found, form.get("crontab", ""), form.get("timezone", ""), mail_to)
        sign, value = form.get("alert_sign", ""), form.get("alert_value", "")
        saving.set_alert(db.session(), found, form.get("alert_column", ""), sign, value)
    except BadArguments as refusal:
        db.session.rollback()
        return _page(found, form, str(refusal)), 422
    write_audit(db.session(), "query.schedule", saved_id, found.crontab or "only when asked")
    db.session.commit()
    flash("Kept. It runs by itself now." if found.crontab else "Kept. It runs when somebody asks.")
    return redirect(url_for("query.saved", saved_id=saved_id), 303)


@query.post("/saved/<saved_id>/run")
def run_now(saved_id: str) -> ResponseReturnValue:
    """As its rhythm would: with its owner's rights, and mailed. The rhythm stays as it is."""
    found = _changeable(saved_id)
    result = run_saved.apply_async((saved_id,), owner=found.owner)
    write_audit(db.session(), "query.run-saved", saved_id, found.name)
    db.session.commit()
    return redirect(url_for("console.job", job_id=result.id), 303)


@query.post("/saved/<saved_id>/delete")
def forget(saved_id: str) -> ResponseReturnValue:
    found = _changeable(saved_id)
    write_audit(db.session(), "query.forget", saved_id, found.name)
    saving.forget(db.session(), found)
    db.session.commit()
    flash("Deleted. Its answers stay with whoever asked.")
    return redirect(url_for("query.index"), 303)


@query.get("/safety")
def safety() -> str:
    template = "query/_safety.html" if request.args.get("part") == "table" else "query/safety.html"
    last = queries.jobs(db.session(), Filter(task=try_attacks.name), limit=1).jobs
    job = last[0] if last else None
    told = loads(job.result or "[]") if job is not None and job.state == JobState.SUCCEEDED else []
    outcomes = {place: {"held": held, "words": words} for place, (held, words) in enumerate(told)}
    return render_template(
        template,
        job=job,
        held_back=why_held(db.session(), job) if job is not None else "",
        attacks=attacks_here(),
        outcomes=outcomes,
        held=sum(bool(each["held"]) for each in outcomes.values()),
        database=db.engine.dialect.name,
    )


@query.post("/safety")
@requires("operator")
def try_safety() -> ResponseReturnValue:
    result = try_attacks.apply_async((current_user.name,), unique_key="query.safety")
    write_audit(db.session(), "query.safety", result.id)
    db.session.commit()
    return redirect(url_for("query.safety"), 303)


def _page(found: SavedQuery, typed: Mapping[str, str] | None = None, refused: str = "") -> str:
    """With its settings, or with what was typed in their place."""
    parameters: dict[str, Any] = loads(found.parameters) | _sent_parameters(request.args, found.sql)
    mine = db.select(QueryRun).where(QueryRun.saved_id == found.id).order_by(QueryRun.created_at.desc()).limit(10)
    if current_user.visible_owner is not None:
        mine = mine.where(QueryRun.owner == current_user.name)
    runs = list(db.session.scalars(mine))
    jobs = {job.id: job for job in queries.jobs_by_ids(db.session(), [run.job_id for run in runs], None)}
    return render_template(
        "query/saved.html",
        saved=found,
        saved_query=found,
        next_there=found.next_due_at.astimezone(ZoneInfo(found.timezone)) if found.next_due_at else None,
        runs=[(run, jobs.get(run.job_id)) for run in runs],
        may_change=_may_change(found),
        signs=saving.SIGNS,
        settings=_settings(found) if typed is None else typed,
        refused=refused,
        **_beside(found.sql, parameters),
    )


def _settings(found: SavedQuery) -> dict[str, str]:
    return {
        "crontab": found.crontab or "",
        "timezone": found.timezone,
        "mail_to": found.mail_to.replace("\n", ", "),
        "alert_column": found.alert_column or "",
        "alert_sign": found.alert_sign or "",
        "alert_value": found.alert_number,
    }


def _saved(saved_id: str) -> SavedQuery:
    found = saving.saved_by_id(db.session(), saved_id)
    if found is None:
        abort(404, "There is no such saved question. It may have been deleted.")
    return found


def _may_change(found: SavedQuery) -> bool:
    return bool(found.owner == current_user.name or current_user.sees_all)


def _changeable(saved_id: str) -> SavedQuery:
    found = _saved(saved_id)
    if not _may_change(found):
        abort(403, "Only who saved a question, or an operator, may change it.")
    return found
