"""Questions that are kept under a name: everybody may run them, their owner (or an operator) changes them.

A rhythm is a crontab in its own zone. Beat asks each minute what is due; each due time is taken once, by whoever swaps
`next_due_at` first.
"""

import json
import math
from datetime import datetime
from typing import Any
from uuid import uuid4
from zoneinfo import ZoneInfo

import sqlalchemy as sa
from celery.schedules import ParseException, crontab
from kombu.utils.json import dumps, loads
from sqlalchemy.orm import Session

from flaskapp.errors import BadArguments
from flaskapp.jobs.clock import now
from flaskapp.mail.addresses import mailboxes
from flaskapp.query.actions import checked, columns_of
from flaskapp.query.charts import Choice
from flaskapp.query.child.parameters import names_in
from flaskapp.query.models import QueryRun, SavedQuery
from flaskapp.worker.rhythms import read_rhythm

_LONGEST_RHYTHM = 100
MOST_LISTED = 200
SIGNS = (">", ">=", "<", "<=", "=", "<>")


def save(session: Session, name: str, sql: str, parameters: dict[str, Any], owner: str) -> SavedQuery:
    """Keep it; the caller commits."""
    name = name.strip()
    if not 1 <= len(name) <= 120 or not name.isprintable():
        raise BadArguments("Give it a name of 1 to 120 characters, e.g. Failures of the last week.")
    if session.scalar(sa.select(SavedQuery.id).where(SavedQuery.name == name).limit(1)) is not None:
        raise BadArguments("There is a saved question of that name. Choose another one: schedules ask by it.")
    kept = checked(sql, {wanted: parameters.get(wanted, "") for wanted in names_in(sql)})
    saved = SavedQuery(id=str(uuid4()), owner=owner, name=name, sql=sql, parameters=json.dumps(kept))
    session.add(saved)
    session.flush()
    return saved


def all_saved(session: Session, owner: str) -> list[SavedQuery]:
    """Those of `owner` first: however many others keep, they hide none of them, nor its alert."""
    others_last = sa.case((SavedQuery.owner == owner, 0), else_=1)
    found = sa.select(SavedQuery).order_by(others_last, SavedQuery.name, SavedQuery.id)
    return list(session.scalars(found.limit(MOST_LISTED)))


def saved_by_id(session: Session, saved_id: str) -> SavedQuery | None:
    return session.get(SavedQuery, saved_id)


def found(session: Session, id_or_name: str) -> SavedQuery | None:
    """By its id, or by its name if only one has it: what beat_schedule.py writes."""
    if (saved := session.get(SavedQuery, id_or_name)) is not None:
        return saved
    named = session.scalars(sa.select(SavedQuery).where(SavedQuery.name == id_or_name).limit(2)).all()
    return named[0] if len(named) == 1 else None


def forget(session: Session, saved: SavedQuery) -> None:
    """Its answers stay with whoever asked."""
    session.execute(sa.update(QueryRun).where(QueryRun.saved_id == saved.id).values(saved_id=None))
    session.delete(saved)


def set_chart(saved: SavedQuery, choice: Choice | None) -> None:
    saved.chart = dumps([choice.kind, choice.x, choice.y]) if choice else None


def chart_of(saved: SavedQuery, columns: int) -> Choice | None:
    """None also if the answer has become too narrow for it."""
    if not saved.chart:
        return None
    choice = Choice(*loads(saved.chart))
    return choice if max(choice.x, choice.y) < columns else None


def set_rhythm(session: Session, saved: SavedQuery, text: str, zone: str, mail_to: str) -> None:
    """Five fields of a crontab, or nothing: then it runs when somebody asks."""
    text, zone = " ".join(text.split()), zone.strip() or saved.timezone
    parts = mail_to.replace(",", "\n").splitlines()
    # With a name before it, or several in a row without.
    addresses = [one for part in parts for one in ([part.strip()] if "<" in part else part.split())]
    people = [one.address for one in mailboxes(addresses, "Mail the answer to")] if addresses else []
    due_at = next_time(text or "0 0 * * *", zone, moment(session))
    saved.crontab, saved.timezone, saved.mail_to = text or None, zone, "\n".join(people)
    saved.next_due_at = due_at if text else None


def next_time(text: str, zone: str, after: datetime) -> datetime | None:
    try:
        clock = ZoneInfo(zone)
    except (ValueError, OSError, LookupError) as problem:
        raise BadArguments(f"{zone[:40]!r} is not a time zone. Write e.g. Europe/Berlin, or UTC.") from problem
    try:
        if len(text.split()) != 5 or len(text) > _LONGEST_RHYTHM:
            raise ValueError
        return read_rhythm(crontab.from_string(text), False, clock).next_time(after)
    except (ValueError, ParseException) as problem:
        raise BadArguments(
            f"{text[:60]!r} is not a rhythm. Write five fields: minute, hour, day, month, weekday; "
            "e.g. 0 7 * * * for every morning at seven."
        ) from problem


def set_alert(session: Session, saved: SavedQuery, column: str, sign: str, value: str) -> None:
    """Crossed when any row's `column` stands in that relation to `value`; an empty column takes the alert away."""
    column = column.strip()
    if not column:
        saved.alert_column = saved.alert_sign = saved.alert_value = saved.alert_since = None
        return
    if sign not in SIGNS:
        raise BadArguments(f"The sign must be one of {' '.join(SIGNS)}.")
    try:
        number = float(value)
    except ValueError as problem:
        raise BadArguments("The threshold must be a number, e.g. 10.") from problem
    if not math.isfinite(number) or len(column) > 255 or not column.isprintable():
        raise BadArguments("The threshold must be a number, and the column one of the answer.")
    if (known := _last_columns(session, saved)) and column not in known:
        # A misspelt one would never be crossed, and nobody would know.
        raise BadArguments(f"The last answer has no column {column}. It has: {', '.join(known)[:500]}.")
    if (saved.alert_column, saved.alert_sign, saved.alert_value) != (column, sign, number):
        # Nobody has looked yet whether this one is crossed.
        saved.alert_since = None
    saved.alert_column, saved.alert_sign, saved.alert_value = column, sign, number


def _last_columns(session: Session, saved: SavedQuery) -> list[str]:
    """Empty if no answer is left."""
    answered = sa.select(QueryRun).where(QueryRun.saved_id == saved.id, QueryRun.columns.is_not(None))
    last = session.scalars(answered.order_by(QueryRun.created_at.desc()).limit(1)).first()
    return columns_of(last) if last is not None else []


def due(session: Session) -> list[SavedQuery]:
    return list(session.scalars(sa.select(SavedQuery).where(SavedQuery.next_due_at <= now())))


def take(session: Session, saved: SavedQuery) -> bool:
    """Move its due time on; False if another beat was first. Missed times are not made up: the next answer is newer."""
    assert saved.crontab is not None  # noqa: S101 -- for the types
    following = next_time(saved.crontab, saved.timezone, moment(session))
    taken = session.execute(
        sa.update(SavedQuery)
        .where(SavedQuery.id == saved.id, SavedQuery.next_due_at == saved.next_due_at)
        .values(next_due_at=following)
        .execution_options(synchronize_session=False)
    )
    return bool(taken.rowcount)  # type: ignore[attr-defined]


def moment(session: Session) -> datetime:
    found: datetime = session.execute(sa.select(now())).scalar_one()
    return found
