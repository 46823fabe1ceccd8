"""The database: one declarative base, one Flask-SQLAlchemy object, and how each engine is tuned.

SQLite is made to behave like the others: a read sees what is committed now, and a unit that writes takes the
write lock before its first write, waiting for its turn instead of failing half-way.
"""

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any
from weakref import WeakSet

from flask_migrate import Migrate
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import Engine, TextClause, create_engine, event
from sqlalchemy.engine import URL
from sqlalchemy.engine.interfaces import DBAPIConnection, ExceptionContext, ExecutionContext
from sqlalchemy.orm import DeclarativeBase, Session

#: How long a writer waits for SQLite's one write lock, or for a row lock elsewhere.
LOCK_SECONDS = 15


class Base(DeclarativeBase):
    """What every model inherits; workers use the models without Flask."""


db = SQLAlchemy(metadata=Base.metadata)
migrate = Migrate()


def engine_options(url: URL, statement_seconds: float = 0) -> dict[str, Any]:
    """Pool and time limits for one engine; `statement_seconds` 0 leaves long statements alone."""
    match url.get_backend_name():
        case "sqlite":
            return {"connect_args": {"timeout": LOCK_SECONDS}, "pool_size": 20, "max_overflow": 60}
        case "postgresql":
            limits = f"-c lock_timeout={LOCK_SECONDS}s -c statement_timeout={int(statement_seconds * 1000)}"
            return {
                "pool_pre_ping": True,
                "pool_size": 10,
                "max_overflow": 30,
                # Who counts under a lock must see what was committed while he waited for it.
                "isolation_level": "READ COMMITTED",
                "connect_args": {"connect_timeout": 5, "options": limits, "tcp_user_timeout": 30_000},
            }
        case _:
            return {
                "pool_pre_ping": True,
                "pool_recycle": 3600,
                "pool_size": 10,
                "max_overflow": 30,
                "isolation_level": "READ COMMITTED",
                "connect_args": {
                    "connect_timeout": 5,
                    "read_timeout": statement_seconds or 3600,
                    "write_timeout": 60,
                    "init_command": f"SET time_zone='+00:00', innodb_lock_wait_timeout={LOCK_SECONDS}",
                },
            }


def control_engine(url: URL) -> Engine:
    """An engine for the job core's own short statements: none may hang for more than 20 seconds."""
    return tune(create_engine(url, **engine_options(url, statement_seconds=20)))


#: Held while a thread of this process is inside SQLite, and while the process forks.
_inside = threading.RLock()
_sqlite_engines: WeakSet[Engine] = WeakSet()


def _before_fork() -> None:
    """Leave SQLite, with no connection open: https://www.sqlite.org/howtocorrupt.html, section 2.6.

    A child takes its parent's file locks for its own. It would hold none, and the process that closes the
    database last would delete the log into which that child still writes.
    """
    _inside.acquire()
    for engine in _sqlite_engines:
        engine.dispose()


os.register_at_fork(before=_before_fork, after_in_parent=_inside.release, after_in_child=_inside.release)


@contextmanager
def core_session(engine: Engine, **options: Any) -> Iterator[Session]:
    """A session for the job core's own short units of work, beside which a worker may fork at any moment.

    libsqlite3 has locks of its own: a child forked while another thread holds one waits for it for ever, at its
    first statement. So on SQLite a fork waits until no thread is inside. Nothing is committed here.
    """
    with _inside if engine.dialect.name == "sqlite" else nullcontext(), Session(engine, **options) as session:
        yield session


def is_outage(problem: BaseException | None) -> bool:
    """True if somewhere in this chain of exceptions our database was away, took nothing (it was a standby for a while,
    or had no room), or another held its lock for too long.
    """
    return _is_noted("is_outage", problem)


def lost_to_another(problem: BaseException | None) -> bool:
    """True if in this chain our database is there, but ended a statement in favour of somebody else's."""
    return _is_noted("lost_to_another", problem)


def _is_noted(name: str, problem: BaseException | None) -> bool:
    while problem is not None and not getattr(problem, name, False):
        problem = problem.__cause__ or problem.__context__
    return problem is not None


#: How SQLite says that it is locked or may not be written, PostgreSQL and MariaDB that they are standbys.
_TAKES_NOTHING = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_READONLY, "25006", 1290, 1836}
_HAS_NO_ROOM = {sqlite3.SQLITE_FULL, "53100", 1021}
#: Two waited for each other, or changed the same at once, or one waited for a row for longer than LOCK_SECONDS.
_LOST = {"40P01", "40001", "55P03", 1213, 1205}


def _note_outage(context: ExceptionContext) -> None:
    # Only here is it known whose engine it was: a task may also talk to databases that are not ours.
    seen, code = context.sqlalchemy_exception, _code(context.original_exception)
    if seen is not None:
        is_away = context.is_disconnect or context.connection is None
        seen.is_outage = is_away or code in _TAKES_NOTHING | _HAS_NO_ROOM  # type: ignore[attr-defined]
        seen.lost_to_another = code in _LOST  # type: ignore[attr-defined]


def _code(problem: BaseException) -> str | int | None:
    """Each driver keeps it elsewhere."""
    number = problem.args[0] if problem.args and isinstance(problem.args[0], int) else None
    return getattr(problem, "sqlite_errorcode", None) or getattr(problem, "sqlstate", None) or number


def tune(engine: Engine) -> Engine:
    """Note outages of `engine`, and install what SQLite needs; the other databases need nothing."""
    event.listen(engine, "handle_error", _note_outage)
    if engine.dialect.name == "sqlite":
        with _inside:
            _sqlite_engines.add(engine)
        event.listen(engine, "connect", _open_sqlite)
        event.listen(engine, "before_cursor_execute", _begin_before_first_write)
    return engine


def _open_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    # Python's own implicit BEGIN is a plain one: a read that turns into a write would fail at once.
    connection.isolation_level = None
    connection.execute("PRAGMA journal_mode=WAL")
    # FULL: a committed job survives the loss of power, not only the loss of the process.
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA foreign_keys=ON")


def _begin_before_first_write(
    connection: Any,
    cursor: DBAPIConnection,
    statement: str,
    parameters: object,
    context: ExecutionContext | None,
    executemany: bool,
) -> None:
    """Reads outside a write see what is committed now; the first write, or FOR UPDATE, takes the lock."""
    raw: sqlite3.Connection = cursor.connection
    if not raw.in_transaction and _takes_the_lock(statement, context):
        raw.execute("BEGIN IMMEDIATE")


def _takes_the_lock(statement: str, context: Any) -> bool:
    word = statement.lstrip()[:6].upper()
    if word == "SELECT":
        compiled = getattr(context, "compiled", None)
        return getattr(getattr(compiled, "statement", None), "_for_update_arg", None) is not None
    if word.startswith("WITH"):
        # Of a text we only know its words; a write without the lock would be committed at once, on its own.
        is_text = context is None or context.compiled is None or isinstance(context.compiled.statement, TextClause)
        return bool(is_text or context.isinsert or context.isupdate or context.isdelete)
    return word not in ("PRAGMA", "EXPLAI", "VALUES", "VACUUM", "ATTACH", "DETACH")
