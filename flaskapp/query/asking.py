"""Asking: the child process is started, watched and, when its time is up, ended. What comes back is an answer."""

import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from flask import current_app
from sqlalchemy import Engine

from flaskapp.config import Settings
from flaskapp.errors import OffloadError
from flaskapp.extensions import db
from flaskapp.query import access, leftovers, limits
from flaskapp.query.catalogue import VIEWS, LoadedTable, loaded_tables
from flaskapp.query.models import QueryPass

_HERE = Path(__file__).parent
#: How long a child may take to cancel what it started.
_GRACE_SECONDS = 3.0
#: How often it looks whether the question is still wanted.
_LOOK_SECONDS = 2.0
#: For the child to start and to sign in.
_START_SECONDS = 15.0


class QueryRefused(OffloadError):
    """There is no answer; the message says what was refused, and why."""


class CannotAsk(OffloadError):
    """Nobody gets an answer now, whatever the question; the message says why."""


@dataclass(frozen=True)
class Answer:
    columns: list[str]
    rows: list[list[Any]]
    truncated: bool
    plan: str
    seconds: float


def ask(
    sql: str,
    parameters: dict[str, Any],
    owner: str,
    sees_all: bool,
    seconds: float | None = None,
    still_wanted: Callable[[], bool] = lambda: True,
) -> Answer:
    """The answer, as far as `owner` may see it; raises QueryRefused, CannotAsk. No transaction may be open meanwhile.

    `still_wanted` is asked every other second; False ends the question.
    """
    settings: Settings = current_app.config["SETTINGS"]
    seconds = seconds or settings.query_seconds
    engine = db.engine
    tables = loaded_tables(db.session(), None if sees_all else owner)
    db.session.rollback()
    request: dict[str, Any] = {
        "sql": sql,
        "parameters": parameters,
        "restricted": not sees_all,
        "rows": limits.MOST_ROWS,
        "bytes": limits.MOST_BYTES,
        "memory": limits.MEMORY,
        "heap": limits.SQLITE_HEAP,
        "seconds": seconds,
    }
    let_in: Callable[[int], AbstractContextManager[None]] = _nothing
    if engine.dialect.name == "sqlite":
        request |= {
            "backend": "sqlite",
            "database": str(Path(str(engine.url.database)).absolute()),
            "views": _sqlite_views(tables, owner, sees_all),
        }
    else:
        reader = access.reader_of(settings)
        access.refresh(engine, reader, tables)
        backend = "postgresql" if engine.dialect.name == "postgresql" else "mariadb"
        request |= {"backend": backend, "connect": reader.connect_arguments(engine), "schema": access.SCHEMA}
        request["patience"] = leftovers.WAIT_SECONDS

        def let_in(connection_id: int) -> AbstractContextManager[None]:
            return _pass(engine, reader, connection_id, owner, sees_all)

    started = time.monotonic()
    answer = _Child(request, seconds, still_wanted).answer(let_in)
    if "unable" in answer:
        raise CannotAsk(answer["unable"])
    if "refused" in answer:
        raise QueryRefused(answer["refused"])
    return Answer(
        answer["columns"], answer["rows"], answer["truncated"], answer["plan"], round(time.monotonic() - started, 3)
    )


def _sqlite_views(tables: list[LoadedTable], owner: str, sees_all: bool) -> dict[str, tuple[str, bool]]:
    """The text of each view, and whether it holds rows back."""
    visible = "" if sees_all else "{owner} = '" + owner.replace("'", "''") + "'"
    views = {
        view.name: (
            access.select_of(view.name, "main.", visible, lambda name: f'"{name}"'),
            bool(visible and view.owner),
        )
        for view in VIEWS
    }
    for table in tables:
        # The name is ours (t_, hex digits, a number).
        select_all = f'SELECT * FROM main."{table.table_name}"'  # noqa: S608
        views |= {table.table_name: (select_all, False), table.nice_name: (select_all, False)}
    return views


@contextmanager
def _nothing(_connection_id: int) -> Iterator[None]:
    yield


@contextmanager
def _pass(engine: Engine, reader: access.Reader, connection_id: int, owner: str, sees_all: bool) -> Iterator[None]:
    """While it asks, the connection sees what `owner` sees. One that was left behind is replaced, never believed."""
    table = QueryPass.__table__
    mine = sa.delete(QueryPass).where(QueryPass.connection == connection_id)
    with engine.begin() as connection:
        connection.execute(mine)
        connection.execute(sa.insert(table).values(connection=connection_id, owner=owner, sees_all=sees_all))  # type: ignore[arg-type]
    try:
        with leftovers.asked(engine, reader, connection_id):
            yield
    finally:
        with engine.begin() as connection:
            connection.execute(mine)


class _Child:
    """One child process and its deadline."""

    def __init__(self, request: dict[str, Any], seconds: float, still_wanted: Callable[[], bool]) -> None:
        self._request = request
        self._still_wanted = still_wanted
        self._seconds = seconds
        self._read = b""

    def answer(self, let_in: Callable[[int], AbstractContextManager[None]]) -> dict[str, Any]:
        # An environment of its own: no key and no password of ours is in it.
        environment = {"PATH": os.environ.get("PATH", ""), "PYTHONPATH": str(_HERE), "PYTHONDONTWRITEBYTECODE": "1"}
        with subprocess.Popen(
            [sys.executable, "-m", "child"],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd="/",
        ) as process:
            try:
                self._deadline = time.monotonic() + _START_SECONDS + self._seconds
                self._tell(process, json.dumps(self._request))
                words = self._line(process)
                if "connected" in words:
                    with let_in(words["connected"]):
                        self._deadline = time.monotonic() + self._seconds + 1
                        self._tell(process, "go")
                        words = self._line(process)
                return words
            finally:
                self._end(process)

    def _tell(self, process: "subprocess.Popen[bytes]", line: str) -> None:
        assert process.stdin is not None  # noqa: S101 -- for the types
        try:
            process.stdin.write(line.encode() + b"\n")
            process.stdin.flush()
        except BrokenPipeError:
            pass  # it is gone; reading tells how it ended

    def _line(self, process: "subprocess.Popen[bytes]") -> dict[str, Any]:
        assert process.stdout is not None  # noqa: S101 -- for the types
        descriptor = process.stdout.fileno()
        while b"\n" not in self._read:
            left = self._deadline - time.monotonic()
            if left <= 0:
                raise QueryRefused(f"It ran longer than {self._seconds:g} seconds and was stopped.")
            if not select.select([descriptor], [], [], min(left, _LOOK_SECONDS))[0]:
                if not self._still_wanted():
                    raise QueryRefused("The page that asked was closed, so it was stopped.")
                continue
            block = os.read(descriptor, 1 << 20)
            if not block:
                raise QueryRefused(_how_it_ended(process))
            self._read += block
        line, _, self._read = self._read.partition(b"\n")
        words: dict[str, Any] = json.loads(line)
        return words

    def _end(self, process: "subprocess.Popen[bytes]") -> None:
        """The end of its input tells it to cancel; if it does not, it is killed."""
        assert process.stdin is not None  # noqa: S101 -- for the types
        with suppress(BrokenPipeError):
            process.stdin.close()
        try:
            process.wait(_GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()


def _how_it_ended(process: "subprocess.Popen[bytes]") -> str:
    code = process.wait(_GRACE_SECONDS)
    if code < 0:
        return f"The process that asked was ended by signal {-code}: most likely it needed too much memory or time."
    return f"The process that asked ended with code {code}, without an answer."
