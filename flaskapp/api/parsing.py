"""Reading what was sent: strictly, with a sentence for everything that does not fit.

What passes here can be stored on every database and travel in every message: bounded, no NUL in names, no
half characters, no NaN. Raises HTTP errors for bodies and addresses, BadArguments for values.
"""

import base64
import binascii
import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from flask import request
from werkzeug.exceptions import BadRequest, UnsupportedMediaType

from flaskapp.errors import BadArguments
from flaskapp.jobs.queries import Position

DEEPEST = 64
#: More than the longest mail has commas and brackets, and than a thousand jobs with two thousand numbers each.
MOST_VALUES = 2_000_000


def json_object() -> dict[str, Any]:
    """The body, which must be one JSON object. Its size was limited before (keys.py)."""
    if request.mimetype != "application/json":
        raise UnsupportedMediaType("Send the body as JSON, with the header Content-Type: application/json.")
    value = read_json(request.get_data())
    if not isinstance(value, dict):
        raise BadArguments('The body must be one JSON object, e.g. {"task": "diagnostics.echo", "args": [1]}.')
    return value


def read_json(text: bytes | str) -> Any:
    _check_number(text)
    try:
        value = json.loads(text, parse_constant=_refuse_constant)
        json.dumps(value, ensure_ascii=False).encode()
    except RecursionError as problem:
        raise BadArguments(_too_deep) from problem
    except UnicodeEncodeError as problem:
        raise BadArguments(
            r"The JSON has half of a character pair (\ud800 … \udfff alone). Send whole ones."
        ) from problem
    except ValueError as problem:
        raise BadRequest(f"This is not JSON that can be read: {str(problem)[:200]}.") from problem
    check_depth(value)
    return value


def _check_number(text: bytes | str) -> None:
    """While it is read nothing else of this process runs, and a list of two characters becomes sixty bytes."""
    starts = (b"[", b"{", b",") if isinstance(text, bytes) else ("[", "{", ",")
    if sum(map(text.count, starts)) > MOST_VALUES:  # type: ignore[arg-type]
        raise BadArguments(f"The JSON has more than {MOST_VALUES:,} commas and brackets. Send less at once.")


_too_deep = f"The JSON is nested deeper than {DEEPEST} levels. Send it flatter."


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON number")


def check_depth(value: Any) -> None:
    level = [value]
    for _ in range(DEEPEST):
        level = [child for parent in level for child in _children(parent)]
        if not level:
            return
    raise BadArguments(_too_deep)


def _children(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []


def refuse_unknown(fields: Mapping[str, Any], known: tuple[str, ...], where: str = "") -> None:
    for name in fields:
        if name not in known:
            raise BadArguments(f"{where}{name[:80]!r} is not a field here. Known are: {', '.join(known)}.")


def text_field(fields: Mapping[str, Any], name: str, longest: int, where: str = "") -> str | None:
    value = fields.get(name)
    if value is None:
        return None
    if not isinstance(value, str) or not 1 <= len(value) <= longest or not value.isprintable():
        raise BadArguments(f"{where}{name} must be a text of 1 to {longest} printable characters.")
    return value


def integer_field(fields: Mapping[str, Any], name: str, least: int, most: int, where: str = "") -> int | None:
    value = fields.get(name)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise BadArguments(f"{where}{name} must be a whole number from {least} to {most}.")
    return value


def time_field(fields: Mapping[str, Any], name: str, where: str = "") -> datetime | None:
    value = fields.get(name)
    if value is None:
        return None
    example = "Write ISO 8601 with a zone, e.g. 2027-01-31T08:00:00Z."
    if not isinstance(value, str):
        raise BadArguments(f"{where}{name} must be a text. {example}")
    try:
        moment = datetime.fromisoformat(value)
    except ValueError as problem:
        raise BadArguments(f"{where}{name} cannot be read as a time. {example}") from problem
    if moment.tzinfo is None:
        raise BadArguments(f"{where}{name} has no zone, so it could mean any of 26 hours. {example}")
    if not 1970 < moment.year < 9999:
        raise BadArguments(f"{where}{name} must lie between the years 1971 and 9998.")
    return moment


# --- the query part of an address -------------------------------------------------------------------------


def query_text(name: str, longest: int = 255) -> str | None:
    """A filter; empty means not filtered."""
    value = request.args.get(name, "")
    return text_field({name: value}, name, longest) if value else None


def query_limit(most: int = 200, usual: int = 50) -> int:
    text = request.args.get("limit", "")
    if not text:
        return usual
    if not (text.isascii() and text.isdigit() and len(text) <= 4 and 1 <= int(text) <= most):
        raise BadArguments(f"limit must be a whole number from 1 to {most}.")
    return int(text)


def query_cursor() -> Position | None:
    text = request.args.get("cursor", "")
    if not text:
        return None
    try:
        moment, job_id = json.loads(base64.urlsafe_b64decode(text.encode()))
        position = Position(datetime.fromisoformat(moment), job_id)
    except (ValueError, TypeError, RecursionError, binascii.Error) as problem:
        raise BadArguments(_bad_cursor) from problem
    if position.created_at.tzinfo is None or not is_job_id(job_id):
        raise BadArguments(_bad_cursor)
    return position


_bad_cursor = "cursor is not one that a page of this list gave. Pass `next` of the page before, or leave it out."


def cursor_of(position: Position | None) -> str | None:
    if position is None:
        return None
    return base64.urlsafe_b64encode(json.dumps([position.created_at.isoformat(), position.id]).encode()).decode()


def is_job_id(value: object) -> bool:
    return isinstance(value, str) and 1 <= len(value) <= 155 and value.isprintable()
