"""The rhythm: which entries of `app.conf.beat_schedule` are due, and one job for each due time.

A `schedule` row holds the newest due time that became a job; it is compared and swapped in the transaction that
submits the job, so any number of beats make one. Times missed while no beat ran become one job, for the latest.
"""

import logging
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from celery.schedules import BaseSchedule, crontab, maybe_schedule
from sqlalchemy import insert, select, update
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.orm import Session

from flaskapp.jobs import lifecycle
from flaskapp.jobs.clock import now
from flaskapp.jobs.models import Schedule

logger = logging.getLogger(__name__)


def fire_due(session: Session, app: Any) -> list[str]:
    """Submit a job for every entry that is due; commits each entry on its own. Answers the new job ids."""
    moment = session.execute(select(now())).scalar_one()
    known = {row.name: row for row in session.scalars(select(Schedule))}
    session.rollback()
    fired = []
    for name, entry in app.conf.beat_schedule.items():
        try:
            fired += _fire_if_due(session, app, name, entry, known.get(name), moment)
        except DBAPIError:
            raise
        except Exception:
            # An entry that cannot be read or sent (an interval of nought, a misspelt word) must not stop the others.
            session.rollback()
            logger.exception("schedule=%s cannot be used; correct its entry in beat_schedule.py", name)
    return fired


def _fire_if_due(
    session: Session, app: Any, name: str, entry: Mapping[str, Any], row: Schedule | None, moment: datetime
) -> list[str]:
    rhythm = maybe_schedule(entry["schedule"])
    if row is None:
        _remember(session, name, entry, rhythm, moment)
        return []
    if row.rhythm != describe(rhythm) or row.task != entry["task"]:
        _rewrite(session, name, entry, rhythm)
    if row.paused_at is None and (due := latest_due(rhythm, row.last_due_at, moment)) is not None:
        return _fire(session, app, name, entry, rhythm, row.last_due_at, due)
    return []


def latest_due(rhythm: BaseSchedule, after: datetime, moment: datetime) -> datetime | None:
    """The latest due time later than `after` and not later than `moment`; None if there is none."""
    if not isinstance(rhythm, crontab):
        every: timedelta = rhythm.run_every
        passed = (moment - after) // every
        return after + passed * every if passed >= 1 else None
    # After a long absence the last hour, day, month or year is looked at first, not every minute since then.
    for days in (1 / 24, 1, 31, 366):
        start = moment - timedelta(days=days)
        if start > after and next_due(rhythm, start) <= moment:
            after = start
            break
    due, following = None, next_due(rhythm, after)
    while following <= moment:
        due, following = following, next_due(rhythm, following)
    return due


def next_due(rhythm: BaseSchedule, after: datetime) -> datetime:
    if not isinstance(rhythm, crontab):
        every: timedelta = rhythm.run_every
        return after + every
    start, delta, _ = rhythm.remaining_delta(after)
    following: datetime = start + delta
    return following.astimezone(UTC)


def describe(rhythm: BaseSchedule) -> str:
    """The rhythm as people read it."""
    if isinstance(rhythm, crontab):
        fields = ("minute", "hour", "day_of_month", "month_of_year", "day_of_week")
        return " ".join(str(getattr(rhythm, f"_orig_{field}")) for field in fields)
    return f"every {rhythm.run_every.total_seconds():g} s"


def _remember(session: Session, name: str, entry: Mapping[str, Any], rhythm: BaseSchedule, moment: datetime) -> None:
    """A new entry begins now: nothing before its first sight was missed."""
    try:
        session.execute(
            insert(Schedule).values(
                name=name,
                task=entry["task"],
                rhythm=describe(rhythm),
                last_due_at=moment,
                next_due_at=next_due(rhythm, moment),
            )
        )
        session.commit()
    except IntegrityError:
        # Another beat saw it at the same moment.
        session.rollback()


def _rewrite(session: Session, name: str, entry: Mapping[str, Any], rhythm: BaseSchedule) -> None:
    session.execute(update(Schedule).where(Schedule.name == name).values(rhythm=describe(rhythm), task=entry["task"]))
    session.commit()


def _fire(
    session: Session,
    app: Any,
    name: str,
    entry: Mapping[str, Any],
    rhythm: BaseSchedule,
    seen: datetime,
    due: datetime,
) -> list[str]:
    options = dict(entry.get("options") or {})
    asked = app.wish(entry["task"], entry.get("args"), entry.get("kwargs"), options)
    wish = replace(asked, run_at=due, delay_seconds=None, schedule=name)
    mine = update(Schedule).where(Schedule.name == name, Schedule.last_due_at == seen)
    swapped = session.execute(mine.values(last_due_at=due, next_due_at=next_due(rhythm, due)))
    if swapped.rowcount == 0:  # type: ignore[attr-defined]
        session.rollback()
        return []
    ids = lifecycle.submit(session, [wish])
    session.execute(update(Schedule).where(Schedule.name == name).values(last_job_id=ids[0]))
    session.commit()
    logger.info("schedule=%s due=%s job=%s", name, due.isoformat(), ids[0])
    return ids
