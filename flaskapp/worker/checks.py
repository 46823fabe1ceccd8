"""What the job table can hold, said in a sentence before the database says it in a stack trace.

The same on every database: SQLite takes what PostgreSQL refuses, and a message that PostgreSQL refuses would come
back for ever. Nothing here looks at what a task wants of its arguments.
"""

import math
from typing import Any

from kombu.utils.json import dumps

from flaskapp.errors import BadArguments
from flaskapp.jobs.models import Job
from flaskapp.jobs.outcomes import Wish, clean_text

_TEXTS = ("task", "queue", "owner", "unique_key", "limit_key", "root_id", "parent_id", "group_id", "counts_for")
MOST = 2**31 - 1
_CENTURY_SECONDS = 100 * 366 * 86400


def checked(wish: Wish) -> Wish:
    """The wish itself; raises BadArguments if no row can hold it."""
    if wish.job_id is not None:
        check_id(wish.job_id)
    for name in _TEXTS:
        text, longest = getattr(wish, name), Job.__table__.c[name].type.length  # type: ignore[attr-defined]
        if text is not None and not (isinstance(text, str) and len(text) <= longest and text == clean_text(text)):
            raise BadArguments(f"{name} must be a text of at most {longest} printable characters, not {text!r:.60}.")
    for name in ("priority", "retries"):
        if abs(getattr(wish, name)) > MOST:
            raise BadArguments(f"{name} must lie between -{MOST} and {MOST}.")
    for name in ("time_limit", "soft_time_limit"):
        seconds = getattr(wish, name)
        if seconds is not None and not (isinstance(seconds, int | float) and 0 < seconds < _CENTURY_SECONDS):
            raise BadArguments(f"{name} must be a number of seconds above 0, not {seconds!r:.60}.")
    return wish


def check_id(job_id: str) -> None:
    longest = Job.__table__.c.id.type.length  # type: ignore[attr-defined]
    if not 0 < len(job_id) <= longest or job_id != clean_text(job_id):
        raise BadArguments(f"A job id has 1 to {longest} characters that can be written; {job_id[:40]!r} is none.")


def json_text(what: str, value: Any) -> str:
    try:
        return str(dumps(value))
    except (TypeError, ValueError) as problem:
        raise BadArguments(f"{what} cannot be written as JSON: {problem}.") from problem


def whole_number(name: str, value: Any, least: int) -> int:
    try:
        number = int(value)
    except (TypeError, ValueError, OverflowError) as problem:
        raise BadArguments(f"{name} must be a whole number, not {value!r:.60}.") from problem
    if not least <= number <= MOST:
        raise BadArguments(f"{name} must lie between {least} and {MOST}, not {value!r:.60}.")
    return number


def seconds(name: str, value: Any) -> float:
    """A span that every database can add to its clock."""
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError) as problem:
        raise BadArguments(f"A {name} is a number of seconds, not {value!r:.60}.") from problem
    if not math.isfinite(number) or abs(number) > _CENTURY_SECONDS:
        raise BadArguments(f"A {name} must lie within a hundred years, not {value!r:.60} seconds.")
    return number
