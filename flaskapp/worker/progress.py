"""How far a job says it is, written beside its transaction so that everybody sees it at once.

A hint, never a promise: a write that would have to wait is dropped, and the next one comes soon.
"""

import sqlite3
import time
from typing import Any

from celery import current_app
from kombu.utils.json import dumps
from sqlalchemy import Engine, event, insert, update
from sqlalchemy.exc import IntegrityError, OperationalError

from flaskapp.extensions import db
from flaskapp.jobs.clock import now
from flaskapp.jobs.models import Progress
from flaskapp.jobs.outcomes import Claimed, clean_text
from flaskapp.worker.engines import ProcessEngine

_AT_MOST_EVERY = 0.2
_last: dict[str, float] = {}
_engines: dict[str, ProcessEngine] = {}


def write_progress(
    claimed: Claimed,
    current: float = 0,
    total: float | None = None,
    message: str = "",
    state: str | None = None,
    meta: Any = None,
) -> None:
    """Store it unless one was stored in the last fifth of a second or the database is busy; the end is always tried."""
    moment = time.monotonic()
    at_the_end = total is not None and current >= total
    if not at_the_end and moment - _last.get(claimed.job_id, -1) < _AT_MOST_EVERY:
        return
    _last.clear()
    _last[claimed.job_id] = moment
    if isinstance(meta, dict):
        current, total = _number(meta.get("current"), current), _number(meta.get("total"), total)
        message = str(meta.get("message") or meta.get("status") or message)
    values = {
        "attempt": claimed.number,
        "current": current or 0,
        "total": total,
        "message": clean_text(message)[:500],
        "state": state,
        "meta": None if meta is None else dumps(meta),
        "at": now(),
    }
    if not _would_wait_for_ourselves():
        _store(claimed.job_id, values)


def _store(job_id: str, values: dict[str, Any]) -> None:
    try:
        with _engine().begin() as connection:
            changed = connection.execute(update(Progress).where(Progress.job_id == job_id).values(values))
            if changed.rowcount == 0:
                connection.execute(insert(Progress).values(job_id=job_id, **values))
    except (OperationalError, IntegrityError):
        # Locked, or inserted by another at this moment: the next report comes soon.
        return


def _would_wait_for_ourselves() -> bool:
    """On SQLite the task's own open write would keep this one out until it gives up."""
    if db.engine.dialect.name != "sqlite" or not db.session().in_transaction():
        return False
    raw: sqlite3.Connection = db.session().connection().connection.dbapi_connection  # type: ignore[assignment]
    return raw.in_transaction


def _engine() -> Engine:
    url = current_app.settings.database_url
    known = _engines.setdefault(str(url), ProcessEngine(url))
    engine = known.get()
    if engine.dialect.name == "sqlite" and not event.contains(engine, "connect", _be_brief):
        event.listen(engine, "connect", _be_brief)
    return engine


def _be_brief(connection: sqlite3.Connection, _record: object) -> None:
    connection.execute("PRAGMA busy_timeout=200")


def _number(value: object, otherwise: Any) -> Any:
    return value if isinstance(value, int | float) else otherwise
