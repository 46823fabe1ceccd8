"""Times, spans and numbers as people read them.

Pages show relative times and carry the exact one beside it; static/js/times.js says the same words later on.
Template filters only: nothing here reads the database.
"""

from datetime import UTC, datetime

from flask import Flask

_MINUTE, _HOUR, _DAY = 60, 3600, 86400


def init_app(app: Flask) -> None:
    app.jinja_env.filters.update(
        ago=ago, iso=iso, exact=exact, duration=duration, number=number, filesize=filesize, clock=clock
    )
    app.jinja_env.globals["now"] = utc_now


def utc_now() -> datetime:
    return datetime.now(UTC)


def ago(at: datetime) -> str:
    """`12 s ago`, `in 3 min`, `now`; the date once it is more than a week away."""
    seconds = (utc_now() - at).total_seconds()
    span = abs(seconds)
    if span < 1:
        return "now"
    if span >= 7 * _DAY:
        return f"{at:%-d %b %Y}"
    text = _largest_unit(span)
    return f"{text} ago" if seconds > 0 else f"in {text}"


def _largest_unit(span: float) -> str:
    if span < _MINUTE:
        return f"{int(span)} s"
    if span < _HOUR:
        return f"{int(span // _MINUTE)} min"
    if span < _DAY:
        return f"{int(span // _HOUR)} h"
    return f"{int(span // _DAY)} d"


def duration(seconds: float | None) -> str:
    """`8 ms`, `3.2 s`, `41 s`, `3 min 20 s`, `2 h 5 min`, `3 d 4 h`."""
    if seconds is None:
        return "–"
    seconds = max(0.0, seconds)
    if seconds < 0.1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < _MINUTE:
        return f"{whole} s"
    if whole < _HOUR:
        return _two(whole // _MINUTE, "min", whole % _MINUTE, "s")
    if whole < _DAY:
        return _two(whole // _HOUR, "h", whole % _HOUR // _MINUTE, "min")
    return _two(whole // _DAY, "d", whole % _DAY // _HOUR, "h")


def _two(large: int, large_unit: str, small: int, small_unit: str) -> str:
    return f"{large} {large_unit} {small} {small_unit}" if small else f"{large} {large_unit}"


def iso(at: datetime) -> str:
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def exact(at: datetime) -> str:
    return f"{at:%-d %b %Y, %H:%M:%S}.{at.microsecond // 1000:03} UTC"


def clock(at: datetime) -> str:
    return f"{at:%H:%M:%S}"


def number(value: float) -> str:
    """`48,112`, `0.25`; a fraction only where it says something."""
    if abs(value) >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:,.1f}" if abs(value) >= 1 else f"{value:.2g}"


def filesize(size: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" or size >= 100 else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:,.1f} TB"
