"""A limit as people and scripts write it: `{"max_running": 2, "rate": {"count": 10, "seconds": 60}}`, or `10/60`."""

import math
from typing import Any

from flaskapp.api.parsing import integer_field, refuse_unknown
from flaskapp.errors import BadArguments
from flaskapp.jobs.limits import Rule

MOST_RUNNING = 10_000
#: Each start that still counts is a small row.
MOST_STARTS = 10_000
LONGEST_SECONDS = 31 * 86_400.0


def read_rule(fields: dict[str, Any]) -> Rule:
    """What is left out is not limited; raises BadArguments for what cannot be a limit."""
    refuse_unknown(fields, ("max_running", "rate"))
    running = integer_field(fields, "max_running", 1, MOST_RUNNING)
    rate = fields.get("rate")
    if rate is None:
        return Rule(running)
    if not isinstance(rate, dict):
        raise BadArguments('rate must be an object, e.g. {"count": 10, "seconds": 60}.')
    refuse_unknown(rate, ("count", "seconds"), "rate.")
    count = integer_field(rate, "count", 1, MOST_STARTS, "rate.")
    if count is None:
        raise BadArguments("rate.count is missing: how many may start in that span?")
    return Rule(running, count, _seconds(rate.get("seconds")))


def _seconds(value: object) -> float:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value) or not 0.001 <= value <= LONGEST_SECONDS:  # type: ignore[operator,arg-type]
        raise BadArguments(f"rate.seconds must be a number from 0.001 to {LONGEST_SECONDS:.0f}, e.g. 60 for a minute.")
    return float(value)  # type: ignore[arg-type]


def rate_of_text(text: str) -> dict[str, Any]:
    """`10/60`: ten in sixty seconds."""
    count, slash, seconds = text.partition("/")
    try:
        if slash:
            return {"count": int(count), "seconds": float(seconds)}
    except (ValueError, OverflowError):
        pass
    raise BadArguments(f"A rate is written COUNT/SECONDS, e.g. 10/60 for ten a minute, not {text[:40]!r}.")


def rule_shape(rule: Rule) -> dict[str, Any]:
    rate = None if rule.rate_count is None else {"count": rule.rate_count, "seconds": rule.rate_seconds}
    return {"max_running": rule.max_running, "rate": rate}
