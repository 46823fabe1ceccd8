"""PostgreSQL: what a question may not name, for it would reach past itself: other sessions, settings, the catalogue.

Its plan does not show all that it calls: rows of VALUES, limits and window frames are missing there. But a function
must be named to be called, so the names in the question count too, wherever they stand; a text with one is a parameter.
"""

import re
from typing import Any

from .link import Refused

#: The server's own, whatever stands behind them. Of what begins with pg_ only these are harmless.
_OF_THE_SERVER = re.compile(
    r"\b(_?pg_(?!backend_pid\b|sleep\b|typeof\b|size_pretty\b)\w+"
    r"|_?reg(?:class|role|namespace|type|proc|procedure|oper|operator|collation)|_?aclitem)\b",
    re.IGNORECASE,
)
#: Functions that look beyond the question though the server does not call them volatile.
_LOOKING = re.compile(
    r"current_setting|dblink\w*|(?:query|table|cursor|schema|database)_to_xml\w*|txid_\w+|lo_\w+|to_reg\w+|format_type"
    r"|inet_(?:server|client)_\w+|has_\w+_privilege|\w*obj_description|col_description|acl\w+|makeaclitem"
    r"|row_security_active|oidvectortypes",
    re.IGNORECASE,
)
#: Volatile, and yet they only compute.
_HARMLESS = {"random", "clock_timestamp", "timeofday", "gen_random_uuid", "pg_sleep", "setseed"}
#: A name before a bracket, or before a comment that may hide one. Texts are not left out: that would need a parser.
_CALL = re.compile(r'([^\W\d][\w$]*)"?\s*(?:\(|/\*|--)')
_TEXT = re.compile(r"E?'(?:[^']|'')*'")
#: Whatever does more than compute is volatile. What was added may run SQL in a text and call itself stable, and the
#: functions by which types read and write their texts (cstring) turn numbers into names of the catalogue.
_DOES_MORE = """
    SELECT proname FROM pg_catalog.pg_proc WHERE proname = ANY($1) AND (
        provolatile = 'v' OR (provolatile = 's' AND pronamespace <> 'pg_catalog'::pg_catalog.regnamespace)
        OR 'pg_catalog.cstring'::pg_catalog.regtype::oid = ANY(prorettype || proargtypes::oid[])
    )
"""


def check_question(cursor: Any, sql: str) -> None:
    """Raises Refused."""
    if re.search(r'u&"', sql, re.IGNORECASE):
        raise Refused("Refused: a name written with escapes. Write it plainly.")
    if found := _OF_THE_SERVER.search(sql):
        raise Refused(f"Refused: {found[1]}. It reaches past the question; if it is a text, give it as a parameter.")
    _refuse_functions(cursor, sql)


def check_plan(cursor: Any, texts: list[str]) -> None:
    """Also what views and functions that were dissolved bring along; raises Refused. Texts of the question are none."""
    _refuse_functions(cursor, "\n".join(_TEXT.sub("''", text) for text in texts))


def _refuse_functions(cursor: Any, text: str) -> None:
    names = {found[1] for found in _CALL.finditer(text)}
    names |= {name.lower() for name in names}
    refused = {name for name in names if _LOOKING.fullmatch(name) or _OF_THE_SERVER.fullmatch(name)}
    refused |= {row[0] for row in cursor.execute(_DOES_MORE, [list(names)]).fetchall()} - _HARMLESS
    if refused:
        raise Refused(f"Refused: the function {min(refused)}. It reaches past the question.")
