"""What follows a saved question's answer: has its threshold been crossed, and who gets it by mail?"""

import logging
import math
from collections.abc import Callable
from typing import Any

from sqlalchemy.orm import Session

from flaskapp.query import actions, saving
from flaskapp.query.mailing import mail_answer
from flaskapp.query.models import SavedQuery
from flaskapp.query.showing import as_number

logger = logging.getLogger(__name__)

_CROSSED: dict[str, Callable[[float, float], bool]] = {
    ">": lambda value, limit: value > limit,
    ">=": lambda value, limit: value >= limit,
    "<": lambda value, limit: value < limit,
    "<=": lambda value, limit: value <= limit,
    "=": lambda value, limit: value == limit,
    "<>": lambda value, limit: value != limit,
}
#: As answers have them.
_ENDLESS = {"Infinity": math.inf, "-Infinity": -math.inf}


def look(session: Session, saved_id: str, query_id: str) -> str:
    """Note since when the threshold is crossed, and mail the answer, in its own transaction; says what was mailed."""
    saved, run = saving.saved_by_id(session, saved_id), actions.query_by_id(session, query_id, None)
    if saved is None or run is None or run.owner != saved.owner:
        # Asked with another's rights, the answer is not what its owner watches, or wants to be sent.
        return ""
    columns, rows = actions.columns_of(run), actions.rows_of(run)
    crossed = is_crossed(saved, columns, rows)
    if crossed and saved.alert_since is None:
        saved.alert_since = saving.moment(session)
        logger.warning("alert: saved question %s has %s", saved.id, saved.alert_words)
    elif not crossed:
        saved.alert_since = None
    return mail_answer(saved, run, columns, rows, crossed)


def is_crossed(saved: SavedQuery, columns: list[str], rows: list[list[Any]]) -> bool:
    """In any row; never by a column that the answer does not have."""
    if saved.alert_column not in columns or saved.alert_sign not in _CROSSED or saved.alert_value is None:
        return False
    place, compare, limit = columns.index(saved.alert_column), _CROSSED[saved.alert_sign], saved.alert_value
    numbers = (_compared(row[place]) for row in rows)
    return any(compare(number, limit) for number in numbers if number is not None)


def _compared(value: Any) -> float | None:
    """What has no end is a number too; true and false are the 1 and 0 that other databases answer."""
    if isinstance(value, bool):
        return float(value)
    return _ENDLESS[value] if isinstance(value, str) and value in _ENDLESS else as_number(value)
