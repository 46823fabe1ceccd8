"""Crontabs in a time zone: the two odd hours of the year, and a comparison with somebody who watches the clock."""

import random
from datetime import UTC, date, datetime, timedelta, tzinfo
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from celery.schedules import crontab

from flaskapp.worker.crontabs import Fields, newest_times, next_time
from flaskapp.worker.rhythms import fields_of

BERLIN = ZoneInfo("Europe/Berlin")
MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)
SPRING, AUTUMN = datetime(2026, 3, 29, tzinfo=BERLIN), datetime(2026, 10, 25, tzinfo=BERLIN)


def times(rhythm: crontab, zone: tzinfo, start: datetime, end: datetime) -> list[datetime]:
    """Every due time from `start` (not included) to `end`, one after the other."""
    found, moment = [], start.astimezone(UTC)
    while (moment := next_time(fields_of(rhythm), zone, moment)) is not None and moment <= end:
        found.append(moment)
    return found


def clocks(moments: list[datetime], zone: tzinfo) -> list[str]:
    return [f"{moment.astimezone(zone):%d %H:%M}" for moment in moments]


# --- the two odd hours ------------------------------------------------------------------------------------


def test_a_daily_time_that_the_clock_jumps_over_is_due_once_right_after_the_jump() -> None:
    found = times(crontab(minute=30, hour=2), BERLIN, SPRING - DAY, SPRING + 2 * DAY)
    assert clocks(found, BERLIN) == ["28 02:30", "29 03:00", "30 02:30"]


def test_a_daily_time_that_comes_twice_is_due_once_on_its_first_pass() -> None:
    found = times(crontab(minute=30, hour=2), BERLIN, AUTUMN - DAY, AUTUMN + 2 * DAY)
    assert clocks(found, BERLIN) == ["24 02:30", "25 02:30", "26 02:30"]
    assert found[1] == datetime(2026, 10, 25, 0, 30, tzinfo=UTC)


def test_times_within_the_hour_that_does_not_exist_become_one() -> None:
    found = times(crontab(minute="*/15", hour=2), BERLIN, SPRING, SPRING + timedelta(hours=12))
    assert clocks(found, BERLIN) == ["29 03:00"]


@pytest.mark.parametrize("odd", [SPRING, AUTUMN], ids=["spring", "autumn"])
def test_quarters_of_every_hour_run_in_real_time_through_both_odd_hours(odd: datetime) -> None:
    found = times(crontab(minute="*/15"), BERLIN, odd, odd.astimezone(UTC) + timedelta(hours=6))
    assert {later - earlier for earlier, later in pairwise(found)} == {15 * MINUTE}
    assert len(found) == 24


def test_half_an_hour_is_jumped_over_on_lord_howe_island() -> None:
    zone = ZoneInfo("Australia/Lord_Howe")
    start = datetime(2026, 10, 3, 12, tzinfo=zone)
    found = times(crontab(minute=15, hour=2), zone, start, start + DAY)
    assert clocks(found, zone) == ["04 02:30"]


def test_a_day_that_an_island_skips_is_made_up_as_the_next_one_begins() -> None:
    zone = ZoneInfo("Pacific/Apia")
    start = datetime(2011, 12, 29, 3, tzinfo=zone)
    found = times(crontab(minute=0, hour=3), zone, start, start.astimezone(UTC) + 2 * DAY)
    assert clocks(found, zone) == ["31 00:00", "31 03:00", "01 03:00"]


def test_a_leap_day_is_found_and_a_leap_day_on_a_monday_too() -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    leap = crontab(minute=0, hour=0, day_of_month=29, month_of_year=2)
    monday = crontab(minute=0, hour=0, day_of_month=29, month_of_year=2, day_of_week=1)
    assert next_time(fields_of(leap), UTC, start) == datetime(2028, 2, 29, tzinfo=UTC)
    assert next_time(fields_of(monday), UTC, start) == datetime(2044, 2, 29, tzinfo=UTC)


def test_five_years_of_missed_minutes_are_not_looked_at_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[date] = []
    has_day = Fields.has_day
    monkeypatch.setattr(Fields, "has_day", lambda self, day: asked.append(day) or has_day(self, day))
    end = datetime(2026, 7, 1, 12, tzinfo=UTC)

    found = newest_times(fields_of(crontab()), UTC, end - 5 * 365 * DAY, end, 1)

    assert found == [end]
    assert len(asked) < 10


# --- somebody who watches the clock -----------------------------------------------------------------------

ZONES = [
    "UTC",
    "Asia/Kolkata",  # no changes
    "Europe/Berlin",
    "America/New_York",
    "America/Sao_Paulo",  # until 2018 midnight did not exist
    "Australia/Lord_Howe",  # half an hour
    "Africa/Casablanca",  # around Ramadan
    "Asia/Beirut",
    "America/Havana",
]


def watch(fields: Fields, zone: tzinfo, start: datetime, end: datetime) -> list[datetime]:
    """By brute force: look at the local clock each minute, and remember what it jumps over."""
    every_hour = set(fields.hour) == set(range(24))
    due, shown = [], (start - DAY).astimezone(zone).replace(tzinfo=None)
    latest = shown
    moment = start - DAY
    while (moment := moment + MINUTE) <= end:
        wall = moment.astimezone(zone).replace(tzinfo=None)
        jumped = [shown + n * MINUTE for n in range(1, int((wall - shown) / MINUTE))]
        named = names(fields, wall) and (every_hour or wall > latest)
        made_up = not every_hour and any(names(fields, one) and one > latest for one in jumped)
        if moment > start and (named or made_up):
            due.append(moment)
        shown, latest = wall, max(latest, wall)
    return due


def names(fields: Fields, wall: datetime) -> bool:
    return wall.hour in fields.hour and wall.minute in fields.minute and fields.has_day(wall.date())


def some(rng: random.Random) -> crontab:
    return crontab(
        minute=rng.choice(["*", "*/15", "7,30", "0", "59", "*/7"]),
        hour=rng.choice(["*", "*", "2", "0-5", "*/3", "23", "0", "1,2,3"]),
        day_of_week=rng.choice(["*", "*", "*", "sun", "mon-fri"]),
        day_of_month=rng.choice(["*", "*", "*", "1-7", "*/2"]),
        month_of_year=rng.choice(["*", "*", "3,10", "4,11"]),
    )


def changes(zone: tzinfo, year: int) -> list[datetime]:
    """The hours of a year in which the clock is set, and one in which it is not."""
    hours = [datetime(year, 1, 1, tzinfo=UTC) + n * timedelta(hours=1) for n in range(366 * 24)]
    offset = [hour.astimezone(zone).utcoffset() for hour in hours]
    return [hours[n] for n in range(1, len(hours)) if offset[n] != offset[n - 1]] + [hours[4000]]


@pytest.mark.parametrize("name", ZONES)
def test_crontabs_agree_with_somebody_who_watches_the_clock(name: str) -> None:
    zone, seed = ZoneInfo(name), random.randrange(10**6)
    rng = random.Random(seed)
    for year in (2017, rng.randrange(1995, 2016), 2026):
        for change in changes(zone, year):
            for rhythm in [some(rng) for _ in range(3)]:
                start, end = change - timedelta(hours=rng.randrange(1, 40)), change + timedelta(hours=30)
                expected = watch(fields_of(rhythm), zone, start, end)
                assert times(rhythm, zone, start, end) == expected, (seed, rhythm, change)
                limit = rng.randrange(1, 50)
                newest = newest_times(fields_of(rhythm), zone, start, end, limit)
                assert newest == expected[-limit:], (seed, rhythm, change, limit)
