"""PostgreSQL: an account that may read views only, one connection per question, READ ONLY, and a cursor.

A cursor takes one SELECT and nothing else. Before it opens, the planner says what it would touch: system tables are
refused there, however they were written, and functions that reach past the question too.
"""

import json
from collections.abc import Iterator
from typing import Any

from .link import CANNOT_SIGN_IN, Link, Refused, Unable, wait_for_what_was_stopped
from .parameters import numbered
from .reach import check_plan, check_question
from .values import Collected

_SYSTEM = {"pg_catalog", "information_schema", "pg_toast"}
_MOST_AT_ONCE = 500
#: Of the lock that is held on a connection's number while somebody waits for its answer.
ASKED = 0x0FF10AE
#: Work that nobody waits for. Only the account itself is told by every server what its connections do. Those that
#: look, as this one does, are no leftovers; nor are those that sit there, of whoever signed in.
_LEFT_OVER = """
    SELECT other.pid FROM pg_catalog.pg_stat_activity other, pg_catalog.pg_stat_activity mine
    WHERE mine.pid = pg_catalog.pg_backend_pid() AND other.usesysid = mine.usesysid
    AND other.state NOT LIKE 'idle%%' AND other.query <> mine.query AND NOT EXISTS (
        SELECT 1 FROM pg_catalog.pg_locks
        WHERE locktype = 'advisory' AND granted AND classid = %s::oid AND objid = other.pid::bigint
    )
"""


def ask(request: dict[str, Any], link: Link) -> dict[str, Any]:
    import psycopg
    from psycopg.types.string import TextLoader

    seconds = request["seconds"]
    options = {
        "default_transaction_read_only": "on",
        "statement_timeout": f"{int(seconds * 1000)}",
        "lock_timeout": "5s",
        # The server itself notices a client that is gone.
        "client_connection_check_interval": "1s",
        "idle_in_transaction_session_timeout": f"{int(seconds * 1000) + 5000}",
        "search_path": request["schema"],
        "TimeZone": "UTC",
        "max_parallel_workers_per_gather": "0",
    }
    try:
        connection = psycopg.connect(
            **request["connect"] | {"options": " ".join(f"-c {name}={value}" for name, value in options.items())}
        )
    except psycopg.OperationalError as problem:
        raise Unable(CANNOT_SIGN_IN.format(_first_line(problem))) from problem
    # Not in a transaction: in one the server shows the same moment again and again.
    connection.autocommit = True
    wait_for_what_was_stopped(lambda: _left_over(connection), request["patience"])
    connection.autocommit = False
    connection.read_only = True
    for kind in ("date", "timestamp", "timestamptz", "time", "timetz", "interval", "json", "jsonb"):
        # As the server writes them: there are moments before and after everything that Python knows.
        connection.adapters.register_loader(kind, TextLoader)
    link.connected(connection.info.backend_pid, connection.cancel)
    sql, names = numbered(request["sql"])
    values = [_text(request["parameters"][name]) for name in names]
    collected = Collected(request["rows"], request["bytes"])
    try:
        plan = _plan(psycopg.RawCursor(connection), sql, values, request["restricted"])
        cursor = psycopg.RawServerCursor(connection, "answer")
        cursor.execute(sql, values)
        columns = [column.name for column in cursor.description or ()]
        at_once = 1
        while (rows := cursor.fetchmany(at_once)) and collected.take(rows):
            at_once = min(2 * at_once, _MOST_AT_ONCE)
    except psycopg.Error as problem:
        raise Refused(_sentence(problem)) from problem
    finally:
        # Whatever it did counts for nothing.
        connection.close()
    return {"columns": columns, "rows": collected.rows, "truncated": collected.truncated, "plan": plan}


def _left_over(connection: Any) -> set[int]:
    return {row[0] for row in connection.execute(_LEFT_OVER, (ASKED,)).fetchall()}


def _text(value: Any) -> Any:
    """Without a type of its own: PostgreSQL takes it for what the question needs."""
    if isinstance(value, bool) or value is None:
        return value
    return str(value)


def _plan(cursor: Any, sql: str, values: list[Any], restricted: bool) -> str:
    """What it would do, as text; raises Refused for what no question may touch."""
    check_question(cursor, sql)
    cursor.execute("EXPLAIN (VERBOSE, FORMAT JSON) " + sql, values, prepare=True)
    plan = cursor.fetchone()[0]
    nodes = list(_nodes(json.loads(plan) if isinstance(plan, str) else plan))
    for node in nodes:
        name = node.get("Relation Name") or node.get("Function Name")
        if name and node.get("Schema") in _SYSTEM and "Relation Name" in node:
            raise Refused(f"Refused: reading {node['Schema']}.{name}. A question reads the tables that are listed.")
    check_plan(cursor, [text for node in nodes for text in _texts(node)])
    # The estimates are made of everybody's rows.
    cursor.execute(f"EXPLAIN (COSTS {'OFF' if restricted else 'ON'}) " + sql, values, prepare=True)
    return "\n".join(row[0] for row in cursor.fetchall())


def _nodes(thing: Any) -> Iterator[dict[str, Any]]:
    if isinstance(thing, dict):
        yield thing
        thing = list(thing.values())
    if isinstance(thing, list):
        for part in thing:
            yield from _nodes(part)


def _texts(node: dict[str, Any]) -> Iterator[str]:
    for value in node.values():
        for text in value if isinstance(value, list) else [value]:
            if isinstance(text, str):
                yield text


def _sentence(problem: Any) -> str:
    if problem.sqlstate == "57014":
        return "It ran for too long, or was cancelled."
    # 42P01: the table is not there, or not for questions.
    if problem.sqlstate in ("42501", "25006", "0A000", "42P01"):
        return f"Refused by PostgreSQL: {_first_line(problem)}. A question reads the tables that are listed."
    if problem.sqlstate == "42601" and "prepared statement" in str(problem):
        return "Refused: more than one statement. Write one SELECT."
    return f"PostgreSQL says: {_first_line(problem)}"


def _first_line(problem: Exception) -> str:
    return (str(problem).strip().splitlines() or [type(problem).__name__])[0]
