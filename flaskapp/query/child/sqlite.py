"""SQLite: a read-only connection whose authorizer lets a question see its views and nothing else.

Each view hides its table behind a name that is made up for this one question: the authorizer is told through which
view or WITH a column is read, and whoever writes the question cannot know that name.
"""

import secrets
import sqlite3
from typing import Any
from urllib.parse import quote

from .link import Link, Refused
from .values import Collected

_WORDS = {
    sqlite3.SQLITE_INSERT: "writing to {0}",
    sqlite3.SQLITE_UPDATE: "writing to {0}",
    sqlite3.SQLITE_DELETE: "deleting from {0}",
    sqlite3.SQLITE_ATTACH: "attaching a file",
    sqlite3.SQLITE_DETACH: "detaching a database",
    sqlite3.SQLITE_PRAGMA: "the setting {0}",
    sqlite3.SQLITE_TRANSACTION: "a transaction of its own",
    sqlite3.SQLITE_SAVEPOINT: "a transaction of its own",
    sqlite3.SQLITE_FUNCTION: "the function {1}",
    sqlite3.SQLITE_READ: "reading {0}",
}
#: What SQLite says before it asks the authorizer.
_BEYOND = ("no such table", "cannot modify")
_FUNCTIONS_REFUSED = {"load_extension", "fts3_tokenizer"}
#: Tables that are functions, and touch nothing but their argument.
_TABLE_FUNCTIONS = {"json_each", "json_tree"}


class _Guard:
    """The authorizer: everything is refused that is not a read of a view."""

    def __init__(self, views: dict[str, str], whole: set[str], tables: set[str]) -> None:
        self._views = views
        #: Views that hold no row of their table back.
        self._whole = whole
        self._tables = tables
        self.refused = ""

    def __call__(self, action: int, one: str | None, two: str | None, where: str | None, through: str | None) -> int:
        if self._allows(action, (one or "").lower(), (two or "").lower(), where, through):
            return sqlite3.SQLITE_OK
        self.refused = self.refused or _WORDS.get(action, "changing anything").format(one, two)
        return sqlite3.SQLITE_DENY

    def plainly(self, plan: str) -> str:
        """With the names of the views instead of those that are made up."""
        for name, secret in self._views.items():
            plan = plan.replace(secret, name)
        return plan

    def _allows(self, action: int, one: str, two: str, where: str | None, through: str | None) -> bool:
        if action in (sqlite3.SQLITE_SELECT, sqlite3.SQLITE_RECURSIVE):
            return True
        if action == sqlite3.SQLITE_FUNCTION:
            return two not in _FUNCTIONS_REFUSED
        if action != sqlite3.SQLITE_READ:
            return False
        if through is not None and through in self._views.values():
            # Inside one of our views: its own text decides what is read.
            return True
        if where == "temp":
            return one in self._views
        if one in _TABLE_FUNCTIONS:
            return True
        if where == "main" and not two:
            # Rows are counted behind a view that SQLite has dissolved, so not through it.
            return one in self._whole
        # The name of a WITH comes without database and column; so does a real table of which no column is read.
        return where is None and not two and (one in self._views or one not in self._tables)


def ask(request: dict[str, Any], link: Link) -> dict[str, Any]:
    link.connected(0, lambda: None)
    connection = _opened(request)
    guard = _prepared(connection, request)
    connection.set_authorizer(guard)
    collected = Collected(request["rows"], request["bytes"])
    try:
        plan = guard.plainly(_plan(connection, request))
        guard.refused = ""
        cursor = connection.execute(request["sql"], request["parameters"])
        if cursor.description is None:
            raise Refused("This is no question. Write one SELECT.")
        columns = [column[0] for column in cursor.description]
        collected.take(cursor)
    except (sqlite3.Error, sqlite3.Warning) as problem:
        raise Refused(_sentence(problem, guard)) from problem
    return {"columns": columns, "rows": collected.rows, "truncated": collected.truncated, "plan": plan}


def _opened(request: dict[str, Any]) -> sqlite3.Connection:
    connection = sqlite3.connect(f"file:{quote(request['database'])}?mode=ro", uri=True, isolation_level=None)
    connection.text_factory = lambda raw: raw.decode("utf-8", "replace")
    # Sorting stays in memory, where it has a limit: on disk it would have none.
    connection.execute("PRAGMA temp_store=MEMORY")
    connection.execute("PRAGMA busy_timeout=15000")
    connection.execute("PRAGMA trusted_schema=OFF")
    connection.execute(f"PRAGMA hard_heap_limit={request['heap']}")
    connection.execute("SELECT count(*) FROM json_each('[]'), json_tree('[]')").fetchall()
    for limit, most in (
        (sqlite3.SQLITE_LIMIT_LENGTH, 20_000_000),
        (sqlite3.SQLITE_LIMIT_SQL_LENGTH, 100_000),
        (sqlite3.SQLITE_LIMIT_ATTACHED, 0),
        (sqlite3.SQLITE_LIMIT_COMPOUND_SELECT, 100),
        (sqlite3.SQLITE_LIMIT_EXPR_DEPTH, 200),
        (sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH, 1000),
        (sqlite3.SQLITE_LIMIT_WORKER_THREADS, 0),
        (sqlite3.SQLITE_LIMIT_TRIGGER_DEPTH, 1),
    ):
        connection.setlimit(limit, most)
    return connection


def _prepared(connection: sqlite3.Connection, request: dict[str, Any]) -> _Guard:
    tables = {name.lower() for (name,) in connection.execute("SELECT name FROM main.sqlite_master")}
    tables |= {"sqlite_master", "sqlite_schema", "sqlite_temp_master", "sqlite_temp_schema", "sqlite_stmt", "dbstat"}
    secret_names: dict[str, str] = {}
    for name, (select, holds_back) in request["views"].items():
        secret = "v" + secrets.token_hex(16)
        secret_names[name.lower()] = secret
        # Materialized: no condition of the question is tried on a row before the view has let it through.
        kept = "MATERIALIZED" if holds_back else ""
        connection.execute(f'CREATE TEMP VIEW "{name}" AS WITH {secret} AS {kept} ({select}) SELECT * FROM {secret}')  # noqa: S608
    whole = {name.lower() for name, (_, holds_back) in request["views"].items() if not holds_back}
    return _Guard(secret_names, whole, tables)


def _plan(connection: sqlite3.Connection, request: dict[str, Any]) -> str:
    """What SQLite would do; empty if the question itself asks for a plan."""
    try:
        rows = connection.execute("EXPLAIN QUERY PLAN " + request["sql"], request["parameters"]).fetchall()
    except (sqlite3.Error, sqlite3.Warning):
        return ""
    depth = {0: 0}
    lines = []
    for number, parent, _, detail in rows:
        depth[number] = depth.get(parent, 0) + 1
        lines.append("  " * (depth[number] - 1) + str(detail))
    return "\n".join(lines)


def _sentence(problem: Exception, guard: _Guard) -> str:
    if guard.refused:
        return f"Refused: {guard.refused}. A question reads the tables that are listed, and changes nothing."
    if getattr(problem, "sqlite_errorcode", None) == sqlite3.SQLITE_NOMEM:
        return "It needs more memory than a question may have."
    if str(problem).startswith(_BEYOND):
        return f"Refused by SQLite: {problem}. A question reads the tables that are listed, and changes nothing."
    return f"SQLite says: {problem}"
