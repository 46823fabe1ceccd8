"""When a crontab is due: pure functions of its field sets and a time zone, nominal times only.

Two rules for the two odd hours of the year. An entry for every hour runs whenever the local clock shows its minute,
in real time. Any other entry runs once for each local time it names: one that the clock jumps over at the first
instant after the jump, one that comes twice on its first pass.
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from functools import lru_cache

_DAY = timedelta(days=1)
#: A 29 February on a given weekday comes back within forty years.
_MOST_DAYS = 41 * 366


@dataclass(frozen=True)
class Fields:
    """What `celery.schedules.crontab` has expanded; a day must be in all three of its sets (Sunday is 0)."""

    minute: frozenset[int]
    hour: frozenset[int]
    day_of_week: frozenset[int]
    day_of_month: frozenset[int]
    month_of_year: frozenset[int]

    def has_day(self, day: date) -> bool:
        return (
            day.month in self.month_of_year
            and day.day in self.day_of_month
            and day.isoweekday() % 7 in self.day_of_week
        )


def next_time(fields: Fields, zone: tzinfo, after: datetime) -> datetime | None:
    """The first due time later than `after`, in UTC; None if there is none within forty years."""
    start = after.astimezone(zone).date() - _DAY
    for number in range(_MOST_DAYS):
        day = start + number * _DAY
        if any(found := [moment for moment in _times_of_day(fields, zone, day) if moment > after]):
            # A clock set back over midnight mixes two days: the next one may have an earlier time.
            following = [moment for moment in _times_of_day(fields, zone, day + _DAY) if moment > after]
            return min([*found, *following])
    return None


def newest_times(fields: Fields, zone: tzinfo, after: datetime, until: datetime, limit: int) -> list[datetime]:
    """The newest due times later than `after` and not later than `until`, in order, `limit` at most."""
    found: set[datetime] = set()
    day, first = until.astimezone(zone).date() + _DAY, after.astimezone(zone).date() - _DAY
    days_left = None
    while day >= first and days_left != 0:
        found |= {moment for moment in _times_of_day(fields, zone, day) if after < moment <= until}
        if days_left is not None:
            days_left -= 1
        elif len(found) >= limit:
            # Two more: days may mix around midnight.
            days_left = 2
        day -= _DAY
    return sorted(found)[-limit:]


def instants(wall: datetime, zone: tzinfo) -> list[datetime]:
    """The moments, in UTC, at which the local clock shows `wall`: one, two, or none if it is jumped over."""
    passes = [wall.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1)]
    shown = [moment for moment in passes if moment.astimezone(zone).replace(tzinfo=None, fold=0) == wall]
    return sorted(set(shown))


def only_instant(wall: datetime, zone: tzinfo) -> datetime:
    """The one moment, in UTC, that stands for a local time: its first pass, or the end of the jump over it."""
    shown = instants(wall, zone)
    return shown[0] if shown else _end_of_jump(wall, zone)


def _times_of_day(fields: Fields, zone: tzinfo, day: date) -> list[datetime]:
    return _computed(fields, zone, day) if fields.has_day(day) else []


# Beat asks for the same day once a second.
@lru_cache(maxsize=64)
def _computed(fields: Fields, zone: tzinfo, day: date) -> list[datetime]:
    walls = [datetime.combine(day, time(hour, minute)) for hour in fields.hour for minute in fields.minute]
    if len(fields.hour) == 24:
        return [moment for wall in walls for moment in instants(wall, zone)]
    return [only_instant(wall, zone) for wall in walls]


def _end_of_jump(wall: datetime, zone: tzinfo) -> datetime:
    # Read with the offset after the jump it lies before it, and the other way round: the jump is in between.
    before = wall.replace(tzinfo=zone, fold=1).astimezone(UTC)
    beyond = wall.replace(tzinfo=zone, fold=0).astimezone(UTC)
    offset = beyond.astimezone(zone).utcoffset()
    while beyond - before > timedelta(seconds=1):
        middle = before + timedelta(seconds=(beyond - before).total_seconds() // 2)
        if middle.astimezone(zone).utcoffset() == offset:
            beyond = middle
        else:
            before = middle
    return beyond
