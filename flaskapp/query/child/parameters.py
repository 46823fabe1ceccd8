"""`:name` in a question: found, and turned into the database's own placeholder. Values are bound, never spliced.

It only has to skip texts and comments. Should it be wrong about one, the database finds a placeholder too many or too
few and refuses; a value can never become SQL.

What is opened and never closed goes to the end: looking for its close anew at each one would take minutes, and the web
process looks too.
"""

import re

_TOKEN = re.compile(
    r"""
    [eE]'(?:[^'\\]|\\.|'')*'          # PostgreSQL's text with escapes
  | '(?:[^']|'')*'
  | "(?:[^"]|"")*"
  | `(?:[^`]|``)*`
  | (?<![\w$])\$(?P<tag>[A-Za-z_]*)\$.*?(?:\$(?P=tag)\$|\Z)
  | --[^\n]*
  | /\*.*?(?:\*/|\Z)
  | ::                                # a cast
  | (?<![\w:]):(?P<name>[^\W\d]\w*)
    """,
    re.VERBOSE | re.DOTALL,
)


def names_in(sql: str) -> list[str]:
    """Each name once, in the order of their first mention."""
    return list(dict.fromkeys(found["name"] for found in _TOKEN.finditer(sql) if found["name"]))


def numbered(sql: str) -> tuple[str, list[str]]:
    """With $1, $2, …, and the names in that order."""
    names = names_in(sql)
    return _replaced(sql, lambda name: f"${names.index(name) + 1}"), names


def with_marks(sql: str) -> tuple[str, list[str]]:
    """With ? for each mention, and the name of each."""
    names: list[str] = []

    def mark(name: str) -> str:
        names.append(name)
        return "?"

    return _replaced(sql, mark), names


def _replaced(sql: str, placeholder) -> str:  # type: ignore[no-untyped-def]
    return _TOKEN.sub(lambda found: placeholder(found["name"]) if found["name"] else found[0], sql)
