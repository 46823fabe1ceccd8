"""The rhythms that an entry's `schedule` may have, each as a question: when is it due next, and when was it due?

Nominal times only: nothing here looks at a clock, so whoever asks later gets the same answer.
"""

import copy
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any

from celery.schedules import BaseSchedule, crontab, schedule

from flaskapp.errors import BadSchedule
from flaskapp.worker import crontabs
from flaskapp.worker.crontabs import Fields

_CENTURY = timedelta(days=36_600)
#: A rhythm that can only be asked forwards is asked so often at most in one turn.
_MOST_STEPS = 10_000
#: What Celery's `relative` rounds to: the largest of these that the interval reaches.
_UNITS = ((timedelta(days=1), "days"), (timedelta(hours=1), "hours"), (timedelta(minutes=1), "minutes"))


class at(BaseSchedule):
    """One run at a date: `at(datetime(2027, 1, 31, 8))` or `at("2027-01-31T08:00")`, in the entry's time zone."""

    def __init__(self, when: datetime | str, **options: Any) -> None:
        self.when = datetime.fromisoformat(when) if isinstance(when, str) else when
        super().__init__(**options)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, at) and other.when == self.when

    def __hash__(self) -> int:
        return hash(self.when)

    def __repr__(self) -> str:
        return f"at {self.when}"


class Rhythm:
    """Due times, in UTC."""

    #: As people read it, e.g. `every 60 s` or `0 3 * * *`; the same as long as the rhythm is.
    text: str

    def anchor(self, moment: datetime) -> datetime:
        """What a rhythm that is first seen at `moment` counts from."""
        return moment.replace(microsecond=0)

    def anchored(self, anchor: datetime) -> "Rhythm":
        return self

    def next_time(self, after: datetime) -> datetime | None:
        """The first due time later than `after`; None if there is none."""
        raise NotImplementedError

    def newest_times(self, after: datetime, until: datetime, limit: int) -> list[datetime]:
        """The newest due times later than `after` and not later than `until`, in order, `limit` at most."""
        found: list[datetime] = []
        for _ in range(_MOST_STEPS):
            following = self.next_time(after)
            if following is None or following > until:
                break
            found.append(after := following)
        return found[-limit:]


@dataclass(frozen=True)
class Every(Rhythm):
    """anchor + n × every: it does not drift, whenever anybody looks."""

    every: timedelta
    zone: tzinfo
    #: Celery's `relative`: count from a whole day, hour or minute of the local clock.
    relative: bool = False
    start: datetime = datetime(2000, 1, 1, tzinfo=UTC)

    @property
    def text(self) -> str:  # type: ignore[override]
        unit = self._unit()
        return f"every {self.every.total_seconds():g} s{f', on whole {unit[1]}' if unit else ''}"

    def _unit(self) -> tuple[timedelta, str] | None:
        return next((unit for unit in _UNITS if self.relative and self.every >= unit[0]), None)

    @property
    def _by_local_clock(self) -> bool:
        unit = self._unit()
        return unit is not None and unit[1] == "days"

    def anchor(self, moment: datetime) -> datetime:
        unit = self._unit()
        wall = moment.astimezone(self.zone).replace(tzinfo=None, microsecond=0)
        if unit is None:
            return moment.replace(microsecond=0)
        midnight = wall.replace(hour=0, minute=0, second=0)
        rounded = midnight + (wall - midnight) // unit[0] * unit[0]
        return crontabs.only_instant(rounded, self.zone)

    def anchored(self, anchor: datetime) -> "Every":
        return replace(self, start=anchor)

    def next_time(self, after: datetime) -> datetime:
        number = self._passed(after) + 1
        while (following := self._time(number)) <= after:
            number += 1
        return following

    def newest_times(self, after: datetime, until: datetime, limit: int) -> list[datetime]:
        # Two more than there may be: in the hour that comes twice the local clock lags behind.
        newest = self._passed(until) + 2
        found = (self._time(newest - n) for n in range(limit + 3))
        return sorted({moment for moment in found if after < moment <= until})[-limit:]

    def _passed(self, moment: datetime) -> int:
        """How many intervals lie between the anchor and `moment`; by the local clock one less may."""
        if self._by_local_clock:
            return (self._wall(moment) - self._wall(self.start)) // self.every - 1
        return (moment - self.start) // self.every

    def _time(self, number: int) -> datetime:
        if self._by_local_clock:
            return crontabs.only_instant(self._wall(self.start) + number * self.every, self.zone)
        return self.start + number * self.every

    def _wall(self, moment: datetime) -> datetime:
        return moment.astimezone(self.zone).replace(tzinfo=None, fold=0)


@dataclass(frozen=True)
class Crontab(Rhythm):
    fields: Fields
    zone: tzinfo
    text: str

    def next_time(self, after: datetime) -> datetime | None:
        return crontabs.next_time(self.fields, self.zone, after)

    def newest_times(self, after: datetime, until: datetime, limit: int) -> list[datetime]:
        return crontabs.newest_times(self.fields, self.zone, after, until, limit)


@dataclass(frozen=True)
class Once(Rhythm):
    moment: datetime
    text: str

    def next_time(self, after: datetime) -> datetime | None:
        return self.moment if self.moment > after else None


@dataclass(frozen=True)
class Foreign(Rhythm):
    """Any other BaseSchedule (`solar`, or a user's own), asked as if it were the moment of its last run."""

    schedule: BaseSchedule
    text: str

    def next_time(self, after: datetime) -> datetime:
        pinned = copy.copy(self.schedule)
        pinned.nowfun = lambda: after
        try:
            following: datetime = after + pinned.remaining_estimate(after)
        except Exception as problem:
            raise BadSchedule(
                f"schedule is {self.text}, whose remaining_estimate() answers no next time ({problem!r:.100}). "
                "Correct its class, or write crontab(…), timedelta(…), seconds or at(…)."
            ) from problem
        if following <= after:
            raise BadSchedule(f"schedule is {self.text}, whose next time after {after} is not later: {following}.")
        return following.astimezone(UTC)


def read_rhythm(value: Any, relative: bool, zone: tzinfo) -> Rhythm:
    """The rhythm that `schedule` names; raises BadSchedule with a sentence."""
    if isinstance(value, datetime | at):
        return _once(value.when if isinstance(value, at) else value, zone)
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = _span(value)
    if isinstance(value, timedelta):
        value = schedule(value, relative)
    if type(value) is schedule:
        return _every(value, zone)
    if type(value) is crontab:
        fields = ("minute", "hour", "day_of_month", "month_of_year", "day_of_week")
        return Crontab(fields_of(value), zone, " ".join(_written(getattr(value, f"_orig_{field}")) for field in fields))
    if isinstance(value, BaseSchedule):
        return Foreign(value, repr(value))
    raise BadSchedule(
        f"schedule must be crontab(…), timedelta(…), a number of seconds, at(…) or a datetime, not {value!r:.80}."
    )


def fields_of(value: crontab) -> Fields:
    names = ("minute", "hour", "day_of_week", "day_of_month", "month_of_year")
    return Fields(*(frozenset(getattr(value, name)) for name in names))


def _written(field: Any) -> str:
    return str(field) if isinstance(field, str | int) else ",".join(str(number) for number in sorted(field))


def _once(when: datetime, zone: tzinfo) -> Once:
    moment = crontabs.only_instant(when, zone) if when.tzinfo is None else when.astimezone(UTC)
    return Once(moment, f"once, at {said(moment, zone)}")


def _span(seconds: float) -> timedelta:
    try:
        return timedelta(seconds=seconds)
    except (OverflowError, ValueError):
        raise BadSchedule(f"schedule must be a span of at most a hundred years, not {seconds!r} seconds.") from None


def _every(value: schedule, zone: tzinfo) -> Every:
    every = value.run_every
    if not isinstance(every, timedelta) or not timedelta(milliseconds=10) <= every <= _CENTURY:
        raise BadSchedule(f"schedule must be a span between 0.01 seconds and a hundred years, not {every!r:.80}.")
    return Every(every, zone, value.relative)


def said(moment: datetime, zone: tzinfo) -> str:
    """A time as the schedule's people read it."""
    local = moment.astimezone(zone)
    return f"{local:%Y-%m-%d %H:%M:%S %Z}" if local.second else f"{local:%Y-%m-%d %H:%M %Z}"
