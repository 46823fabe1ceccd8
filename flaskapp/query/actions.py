"""What people do with questions: ask, look at the answer, keep one under a name."""

import json
import math
from typing import Any
from uuid import uuid4

from flask import current_app
from kombu.utils.json import loads
from sqlalchemy import and_, select
from sqlalchemy.orm import Session, undefer

from flaskapp.errors import BadArguments
from flaskapp.jobs.lifecycle import LIVE_STATES
from flaskapp.jobs.models import Job
from flaskapp.query import limits
from flaskapp.query.child.parameters import names_in
from flaskapp.query.models import QueryRun, SavedQuery

#: From here on a person's questions go by age.
_MOST_TURNS = 20


def ask(
    session: Session,
    sql: str,
    parameters: dict[str, Any] | None,
    owner: str,
    saved_id: str | None = None,
    keep: bool = True,
) -> QueryRun:
    """Write the question and ask for its job; the caller commits. BadArguments if it cannot be asked at all."""
    query_id = str(uuid4())
    kept = checked(sql, parameters or {})
    # Of its caller's own rights: what a running job submits would otherwise be that job's owner's.
    celery, turn = current_app.extensions["celery"], _turn(session, owner)
    result = celery.send_task("query.run", args=[query_id], owner=owner, priority=turn)
    query = QueryRun(
        id=query_id,
        owner=owner,
        sql=sql,
        parameters=json.dumps(kept),
        saved_id=saved_id,
        job_id=result.id,
        keep=keep,
    )
    session.add(query)
    session.flush()
    return query


def _turn(session: Session, owner: str) -> int:
    """The priority of a person's next question: who has many open ones lets those go first who have fewer."""
    live = and_(Job.state.in_(LIVE_STATES), Job.queue == "query", Job.owner == owner)
    return -len(session.scalars(select(Job.id).where(live).limit(_MOST_TURNS)).all())


def checked(sql: str, parameters: dict[str, Any]) -> dict[str, Any]:
    """The values that the question names; BadArguments for what no database should have to refuse."""
    if not sql.strip():
        raise BadArguments("There is no question. Write SQL, e.g. SELECT state, count(*) FROM job GROUP BY state.")
    if len(sql) > limits.LONGEST_SQL:
        raise BadArguments(f"The question has {len(sql):,} characters; at most {limits.LONGEST_SQL:,} are taken.")
    if "\0" in sql:
        raise BadArguments("The question has a NUL character in it. Remove it.")
    names = names_in(sql)
    if len(names) > limits.MOST_PARAMETERS:
        raise BadArguments(f"The question has {len(names)} parameters; at most {limits.MOST_PARAMETERS} are taken.")
    missing = [name for name in names if name not in parameters]
    if missing:
        cure = "Give it one: in its field, or over HTTP in parameters."
        raise BadArguments(f"The question asks for :{missing[0]}, which has no value yet. {cure}")
    for name in names:
        _check_value(name, parameters[name])
    return {name: parameters[name] for name in names}


def _check_value(name: str, value: Any) -> None:
    if isinstance(value, str) and (len(value) > limits.LONGEST_PARAMETER or "\0" in value):
        raise BadArguments(f"The parameter {name} is too long, or has a NUL character in it.")
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise BadArguments(f"The parameter {name} does not fit into 64 bits.")
    if isinstance(value, float) and not math.isfinite(value):
        raise BadArguments(f"The parameter {name} is no number that can be written out. Give it as a text.")
    if not isinstance(value, str | int | float | bool | None):
        raise BadArguments(f"The parameter {name} must be a text, a number, true, false or null.")


def query_by_id(session: Session, query_id: str, owner: str | None) -> QueryRun | None:
    """With its rows; None also if it is somebody else's. `owner` None sees all."""
    query = session.get(QueryRun, query_id, options=[undefer(QueryRun.rows)])
    return query if query is not None and owner in (None, query.owner) else None


def of_job(session: Session, job_id: str) -> QueryRun | None:
    found = select(QueryRun).where(QueryRun.job_id == job_id).options(undefer(QueryRun.rows))
    return session.scalars(found).first()


def newest(session: Session, owner: str | None, limit: int = 20) -> list[QueryRun]:
    query = select(QueryRun).order_by(QueryRun.created_at.desc(), QueryRun.id).limit(limit)
    return list(session.scalars(query if owner is None else query.where(QueryRun.owner == owner)))


def parameters_of(asked: QueryRun | SavedQuery) -> dict[str, Any]:
    # Not as kombu reads JSON: there a name `__type__` would have a meaning.
    return dict(json.loads(asked.parameters))


def columns_of(query: QueryRun) -> list[str]:
    return list(loads(query.columns)) if query.columns else []


def rows_of(query: QueryRun) -> list[list[Any]]:
    return list(loads(query.rows)) if query.rows else []
