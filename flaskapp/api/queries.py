"""Questions in SQL over HTTP: the same verbs as the page."""

from typing import Any

from flask import Response, url_for
from flask_login import current_user
from werkzeug.exceptions import NotFound

from flaskapp.accounts.audit import write_audit
from flaskapp.api.blueprint import answer, api
from flaskapp.api.keys import changes
from flaskapp.api.parsing import json_object, refuse_unknown
from flaskapp.api.problems import StateForbids
from flaskapp.errors import BadArguments
from flaskapp.extensions import db
from flaskapp.jobs import lifecycle, queries
from flaskapp.jobs.models import JobState
from flaskapp.query import actions
from flaskapp.query.models import QueryRun
from flaskapp.worker.sessions import wake_relay


@api.post("/queries")
@changes(body_limit=200_000)
def ask_query() -> Response:
    fields = json_object()
    refuse_unknown(fields, ("sql", "parameters"))
    sql, parameters = fields.get("sql"), fields.get("parameters")
    if not isinstance(sql, str):
        raise BadArguments('sql must be a text, e.g. {"sql": "SELECT state, count(*) FROM job GROUP BY state"}.')
    if parameters is not None and not isinstance(parameters, dict):
        raise BadArguments('parameters must be an object, e.g. {"state": "failed"}.')
    query = actions.ask(db.session(), sql, parameters, current_user.name)
    write_audit(db.session(), "query", query.id, sql[:500])
    body = {"id": query.id, "job_id": query.job_id}
    return answer(body, 202, url_for("api.show_query", query_id=query.id))


@api.get("/queries/<query_id>")
def show_query(query_id: str) -> Response:
    return answer(_shape(_query(query_id)))


@api.post("/queries/<query_id>/cancel")
@changes()
def cancel_query(query_id: str) -> Response:
    """Its process is killed and, on a server, its statement ended."""
    query = _query(query_id)
    if not lifecycle.cancel(db.session(), query.job_id, by=current_user.name):
        state = _state(query)
        raise StateForbids(f"Question {query_id} is {state} already: there is nothing to cancel.", state)
    write_audit(db.session(), "query.cancel", query.id)
    wake_relay(db.session())
    return answer(_shape(_query(query_id)), 202)


def _query(query_id: str) -> QueryRun:
    query = actions.query_by_id(db.session(), query_id, current_user.visible_owner)
    if query is None:
        raise NotFound
    return query


def _shape(query: QueryRun) -> dict[str, Any]:
    state = _state(query)
    return {
        "id": query.id,
        "job_id": query.job_id,
        "sql": query.sql,
        "state": state,
        "columns": actions.columns_of(query),
        "rows": actions.rows_of(query),
        "truncated": query.truncated,
        "error": _error(query, state),
        "seconds": query.seconds,
        "plan": query.plan,
    }


def _state(query: QueryRun) -> str:
    job = queries.job_by_id(db.session(), query.job_id)
    return str(job.state) if job is not None else "pruned"


def _error(query: QueryRun, state: str) -> str | None:
    """Of its last end; while it runs again there is none."""
    if state not in (JobState.FAILED, JobState.CANCELLED, "pruned"):
        return None
    job = queries.job_by_id(db.session(), query.job_id)
    return (job.error_message if job is not None else query.error) or query.error
