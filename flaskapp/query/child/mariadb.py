"""MariaDB: an account that may read views only, one connection per question, READ ONLY, one prepared statement.

The statement must also hold as the inside of `SELECT * FROM (…)`: what is no SELECT does not, whatever it is.
"""

import re
import unicodedata
from typing import Any

from .link import CANNOT_SIGN_IN, Link, Refused, Unable, wait_for_what_was_stopped
from .parameters import with_marks
from .values import Collected

_DUPLICATE_COLUMN = 1060
_INCOMPLETE = 1931
#: Errors that speak of the question only. Others may quote values of rows that a view would have held back.
_ABOUT_THE_QUESTION = {
    1044, 1045, 1046, 1049, 1052, 1054, 1055, 1056, 1060, 1064, 1065, 1066, 1109, 1111, 1140, 1142, 1143, 1146, 1210,
    1221, 1222, 1227, 1235, 1241, 1242, 1248, 1305, 1317, 1327, 1370, 1582, 1583, 1792, 1295, 1345, 1347, 1436, 4078,
}  # fmt: skip
_MOST_AT_ONCE = 500
#: Texts, and what may stand behind a statement: its end, and comments that do not run.
_PIECES = re.compile(
    r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|`[^`]*`|(?P<nothing>;|--(?=\s|\Z)[^\n]*|\#[^\n]*|/\*(?!M?!).*?\*/)""",
    re.DOTALL,
)


def ask(request: dict[str, Any], link: Link) -> dict[str, Any]:
    import pymysql
    from pymysql.constants import FIELD_TYPE
    from pymysql.converters import conversions

    seconds = request["seconds"]
    # Moments as the server writes them: it knows the day 0000-00-00, Python does not.
    as_text = (FIELD_TYPE.DATE, FIELD_TYPE.DATETIME, FIELD_TYPE.TIMESTAMP, FIELD_TYPE.TIME)
    conv = {kind: how for kind, how in conversions.items() if kind not in as_text}
    options = {"conv": conv, "autocommit": False, "local_infile": False, "read_timeout": seconds + 10}

    def connect() -> Any:
        return pymysql.connect(**request["connect"] | options)

    try:
        connection = connect()
    except pymysql.err.OperationalError as problem:
        raise Unable(CANNOT_SIGN_IN.format(problem.args[-1])) from problem
    number = connection.thread_id()

    def cancel() -> None:
        other = connect()
        other.cursor().execute(f"KILL {int(number)}")

    wait_for_what_was_stopped(lambda: _killed(connection, request["connect"]["user"]), request["patience"])
    link.connected(number, cancel)
    sql, names = with_marks(request["sql"])
    collected = Collected(request["rows"], request["bytes"])
    try:
        _refuse_what_all_may_use(sql)
        cursor = connection.cursor()
        cursor.execute(
            "SET SESSION max_statement_time=%s, time_zone='+00:00', "
            "SESSION optimizer_switch='condition_pushdown_for_derived=off', SESSION group_concat_max_len=1000000",
            (seconds,),
        )
        cursor.execute("START TRANSACTION READ ONLY")
        # First as it stands, for the sake of what is said of a slip of the pen; nothing runs by being prepared.
        sql = _without_its_end(sql)
        cursor.execute("PREPARE answer FROM %s", (sql,))
        _prove_that_it_is_a_select(cursor, sql)
        cursor.close()
        cursor = connection.cursor(pymysql.cursors.SSCursor)
        for i, name in enumerate(names):
            cursor.execute(f"SET @p{i} = %s", (request["parameters"][name],))
        using = " USING " + ", ".join(f"@p{i}" for i in range(len(names))) if names else ""
        cursor.execute("EXECUTE answer" + using)
        if cursor.description is None:
            raise Refused("This is no question. Write one SELECT.")
        columns = [column[0] for column in cursor.description]
        at_once = 1
        while (rows := cursor.fetchmany(at_once)) and collected.take(rows):
            at_once = min(2 * at_once, _MOST_AT_ONCE)
        if not collected.truncated:
            _refuse_what_is_incomplete(connection.cursor())
    except pymysql.err.Error as problem:
        raise Refused(_sentence(problem, request["restricted"])) from problem
    finally:
        # Not closed politely: that would read the rest of a hundred million rows.
        connection._force_close()
    return {"columns": columns, "rows": collected.rows, "truncated": collected.truncated, "plan": ""}


def _killed(connection: Any, user: str) -> set[int]:
    """An account sees its own connections."""
    cursor = connection.cursor()
    cursor.execute("SELECT id FROM information_schema.processlist WHERE user = %s AND command = 'Killed'", (user,))
    return {row[0] for row in cursor.fetchall()}


def _without_its_end(sql: str) -> str:
    """Without the semicolon and the comments behind it: in brackets they would be no SQL."""
    bare = _PIECES.sub(lambda piece: (" " if piece["nothing"] else "x") * len(piece[0]), sql)
    return sql[: len(bare.rstrip())]


def _prove_that_it_is_a_select(cursor: Any, sql: str) -> None:
    import pymysql

    inside = f"SELECT * FROM (\n{sql}\n) AS answer"  # noqa: S608 -- prepared, never run
    try:
        cursor.execute("PREPARE proof FROM %s", (inside,))
        cursor.execute("DEALLOCATE PREPARE proof")
    except pymysql.err.Error as problem:
        if problem.args[0] == 1064:
            raise Refused("Refused: this is not one SELECT that only reads. Write one.") from problem
        if problem.args[0] != _DUPLICATE_COLUMN:
            raise


def _refuse_what_is_incomplete(cursor: Any) -> None:
    """A recursion is cut off after a thousand steps, and only a warning says so: sums over it would be wrong."""
    cursor.execute("SHOW WARNINGS")
    for _, code, words in cursor.fetchall():
        if code == _INCOMPLETE:
            raise Refused(f"MariaDB says: {words}. Recurse less often; seq_1_to_5000 is a table of numbers.")


def _refuse_what_all_may_use(sql: str) -> None:
    """No grant can take these away: what others ask, the server's settings, and locks that others wait for."""
    folded = "".join(mark for mark in unicodedata.normalize("NFKD", sql) if not unicodedata.combining(mark)).upper()
    for name in ("INFORMATION_SCHEMA", "PERFORMANCE_SCHEMA", "@@"):
        if name in folded:
            raise Refused(f"Refused: reading {name.lower()}. A question reads the tables that are listed.")
    if found := re.search(r"(?:GET|RELEASE|RELEASE_ALL|IS_USED|IS_FREE)_LOCKS?\b", folded):
        raise Refused(f"Refused: the function {found[0].lower()}. A question holds no locks.")


def _sentence(problem: Any, restricted: bool) -> str:
    code = problem.args[0] if problem.args else 0
    if code in (1969, 1317, 2013):
        return "It ran for too long, or was cancelled."
    # 1146: the table is not there, or not for questions.
    if code in (1142, 1044, 1227, 1370, 1792, 1143, 1146):
        return f"Refused by MariaDB: {problem.args[-1]}. A question reads the tables that are listed."
    if restricted and code not in _ABOUT_THE_QUESTION:
        return f"MariaDB stopped it with error {code}."
    return f"MariaDB says: {problem.args[-1]}"
