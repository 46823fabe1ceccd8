"""The pages of questions: ask, watch, look at the answer, take it home."""

import json
from typing import Any

from flask import Blueprint, Response, abort, current_app, flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_login import current_user

from flaskapp.accounts.audit import nothing_changed, write_audit
from flaskapp.errors import BadArguments
from flaskapp.extensions import db
from flaskapp.jobs import lifecycle, queries
from flaskapp.jobs.clock import now
from flaskapp.jobs.holding import why_held
from flaskapp.jobs.models import Job
from flaskapp.query import actions, charts, exporting, limits, saving, showing
from flaskapp.query.catalogue import VIEWS, loaded_tables
from flaskapp.query.charts import Choice
from flaskapp.query.child.parameters import names_in
from flaskapp.query.models import QueryRun
from flaskapp.worker.sessions import wake_relay

query = Blueprint("query", __name__, url_prefix="/query")
#: Servers take no longer ones, ours included.
_LONGEST_LINK = 4000
EXAMPLE = "SELECT state, count(*) AS jobs\nFROM job\nGROUP BY state\nORDER BY jobs DESC"


@query.get("")
def index() -> str:
    """The editor. An address with `sql` fills it, and runs nothing: a link is not a wish."""
    sql = request.args.get("sql", "")
    return _editor(sql, _sent_parameters(request.args, sql))


@query.post("")
def ask() -> ResponseReturnValue:
    sql = request.form.get("sql", "").replace("\r\n", "\n")
    parameters = _sent_parameters(request.form, sql)
    # An answer is the page's, unless its asker says that it may go on without them.
    keep = request.form.get("keep") == "1"
    saved_id = request.form.get("saved_id") or None
    try:
        saved = saving.saved_by_id(db.session(), saved_id) if saved_id else None
        if saved is None or saved.sql.strip() != sql.strip():
            # Changed, it is another question: it may be kept under a name of its own.
            saved_id = None
        asked = actions.ask(db.session(), sql, parameters, current_user.name, saved_id, keep)
    except BadArguments as refusal:
        db.session.rollback()
        return _editor(sql, parameters, str(refusal)), 422
    write_audit(db.session(), "query", asked.id, sql[:500])
    place = url_for("query.show", query_id=asked.id)
    db.session.commit()
    return redirect(place, 303)


@query.get("/<query_id>")
def show(query_id: str) -> ResponseReturnValue:
    found = _or_404(query_id)
    if found.left_at is not None and found.owner == current_user.name:
        # Loaded again: it is wanted after all.
        found.left_at = None
        db.session.commit()
        found = _or_404(query_id)
    if request.args.get("part") == "run":
        return Response(render_template("query/_run.html", **_shown(found)), headers={"Cache-Control": "no-store"})
    return render_template("query/show.html", **_shown(found), **_beside(found.sql, actions.parameters_of(found)))


@query.post("/<query_id>/cancel")
def cancel(query_id: str) -> ResponseReturnValue:
    found = _or_404(query_id)
    if lifecycle.cancel(db.session(), found.job_id, by=current_user.name):
        write_audit(db.session(), "query.cancel", query_id)
        wake_relay(db.session())
        db.session.commit()
        flash("Cancelled. What still runs is stopped within seconds.")
    else:
        db.session.rollback()
        nothing_changed()
        flash("There is nothing to cancel: it has ended meanwhile.", "warning")
    return redirect(url_for("query.show", query_id=query_id), 303)


@query.post("/<query_id>/left")
def left(query_id: str) -> ResponseReturnValue:
    """The page that asked is being closed; if nobody opens it again within seconds, its question is stopped."""
    found = _or_404(query_id)
    nothing_changed()
    if not found.keep and found.owner == current_user.name:
        db.session.execute(db.update(QueryRun).where(QueryRun.id == query_id).values(left_at=now()))
    db.session.commit()
    return "", 204


@query.get("/<query_id>/answer.<kind>")
def download(query_id: str, kind: str) -> Response:
    found = _or_404(query_id)
    if found.columns is None or kind not in ("csv", "json", "parquet"):
        abort(404, "There is no answer to take home.")
    columns, rows, truncated = actions.columns_of(found), actions.rows_of(found), found.truncated
    # Whoever waits for a turn to write holds no connection meanwhile.
    db.session.remove()
    if kind == "csv":
        response = Response(exporting.as_csv(columns, rows), mimetype="text/csv")
    elif kind == "json":
        response = Response(exporting.as_json(columns, rows, truncated), mimetype="application/json")
    else:
        response = Response(exporting.as_parquet(columns, rows, truncated), mimetype="application/vnd.apache.parquet")
    name = exporting.file_name(f"answer-{query_id[:8]}", kind, truncated)
    response.headers.set("Content-Disposition", "attachment", filename=name)
    return response


def _editor(sql: str, parameters: dict[str, Any], error: str = "") -> str:
    return render_template(
        "query/index.html",
        error=error,
        recent=_recent(),
        saved=saving.all_saved(db.session(), current_user.name),
        most_listed=saving.MOST_LISTED,
        **_beside(sql, parameters),
    )


def _beside(sql: str, parameters: dict[str, Any]) -> dict[str, Any]:
    """What the form and the list of tables need, on every page."""
    return {
        "sql": sql,
        "names": names_in(sql)[: limits.MOST_PARAMETERS],
        "parameters": parameters,
        "views": VIEWS,
        "tables": loaded_tables(db.session(), current_user.visible_owner),
        "example": EXAMPLE,
        "longest": limits.LONGEST_SQL,
        "seconds": current_app.config["SETTINGS"].query_seconds,
    }


def _recent() -> list[tuple[QueryRun, Job | None]]:
    runs = actions.newest(db.session(), current_user.name, 12)
    jobs = {job.id: job for job in queries.jobs_by_ids(db.session(), [run.job_id for run in runs], None)}
    return [(run, jobs.get(run.job_id)) for run in runs]


def _shown(found: QueryRun) -> dict[str, Any]:
    """The answer as it stands now, with its table and its chart."""
    job = queries.job_by_id(db.session(), found.job_id)
    columns, rows = actions.columns_of(found), actions.rows_of(found)
    order = showing.read_order(request.args.get("sort", ""), len(columns))
    rows = showing.ordered(rows, order)
    saved = saving.saved_by_id(db.session(), found.saved_id) if found.saved_id else None
    choice = _choice(columns, rows, saved)
    return {
        "run": found,
        "job": job,
        "held": why_held(db.session(), job) if job is not None else "",
        "columns": columns,
        "rows": rows[: showing.ROWS_SHOWN],
        "most_columns": showing.COLUMNS_SHOWN,
        "order": order,
        "cell": showing.cell,
        "numeric": showing.numeric_columns(columns, rows),
        "choice": choice,
        "kinds": charts.KINDS,
        "chart": charts.drawn(choice, columns, rows) if choice else "",
        "chart_note": charts.note(choice, rows) if choice else "",
        "saved_query": saved,
        "share": _link(found, saved),
        "is_mine": found.owner == current_user.name,
        "error": found.error
        or (job.error_message if job is not None and job.state in ("failed", "cancelled") else None),
    }


def _link(found: QueryRun, saved: Any) -> str:
    """For others, who ask it with their own rights; empty if it is too long: then a saved one is shared by its page."""
    fields = _as_fields(actions.parameters_of(found))
    if saved is not None and saved.sql == found.sql:
        link = url_for("query.saved", saved_id=saved.id, **fields, _external=True)
    else:
        link = url_for("query.index", sql=found.sql, **fields, _external=True)
    return link if len(link) < _LONGEST_LINK else ""


def _choice(columns: list[str], rows: list[list[Any]], saved: Any) -> Choice | None:
    if "chart" in request.args:
        return charts.read_choice(request.args, len(columns))
    if saved is not None and (kept := saving.chart_of(saved, len(columns))):
        return kept
    return charts.suggested(columns, rows)


def _as_fields(parameters: dict[str, Any]) -> dict[str, Any]:
    return {f"p_{name}": "" if value is None else value for name, value in parameters.items()}


def _sent_parameters(fields: Any, sql: str) -> dict[str, Any]:
    """What stands in `p_…`; what is not sent is missing, and its field is shown."""
    return {name: _value(fields[f"p_{name}"]) for name in names_in(sql) if f"p_{name}" in fields}


def _value(text: str) -> Any:
    """A number if it is written like one and no database has to refuse it; a form has only texts."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and str(value) == text
    return value if is_number and -(2**63) <= value < 2**63 else text


def _or_404(query_id: str) -> QueryRun:
    found = actions.query_by_id(db.session(), query_id, current_user.visible_owner)
    if found is None:
        abort(404, "There is no such question, or it belongs to somebody else.")
    return found


def title_of(job: Job) -> str:
    """Its name if it was saved under one, else the question's own beginning."""
    found = actions.of_job(db.session(), job.id)
    if found is None:
        return ""
    saved = saving.saved_by_id(db.session(), found.saved_id) if found.saved_id else None
    if saved is not None:
        return f"Query “{saved.name}”"
    sql = " ".join(found.sql.split())
    return f"Query {sql[:80]}{'…' if len(sql) > 80 else ''}"


def result_of(job: Job) -> str:
    found = actions.of_job(db.session(), job.id)
    return render_template("query/_result.html", **_shown(found)) if found is not None else ""
