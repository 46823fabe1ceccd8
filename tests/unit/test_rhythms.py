"""What may stand in an entry of beat_schedule, when it is due, and what is said about a wrong one."""

import zoneinfo
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from celery.beat import BeatLazyFunc, ScheduleEntry
from celery.schedules import BaseSchedule, crontab, schedule
from flask import Flask

from flaskapp import config, create_app
from flaskapp.errors import BadSchedule
from flaskapp.worker.celery_app import Offload
from flaskapp.worker.entries import read_entry
from flaskapp.worker.rhythms import Rhythm, at, read_rhythm

NOON = datetime(2026, 7, 1, 12, 0, 30, tzinfo=UTC)
BERLIN = ZoneInfo("Europe/Berlin")


@pytest.fixture(scope="module")
def celery(tmp_path_factory: pytest.TempPathFactory) -> Offload:
    app: Flask = create_app(config.from_environment({"INSTANCE_PATH": str(tmp_path_factory.mktemp("instance"))}))
    return app.extensions["celery"]  # type: ignore[no-any-return]


def rhythm(written: Any, zone: Any = UTC, relative: bool = False, first_seen: datetime = NOON) -> Rhythm:
    read = read_rhythm(written, relative, zone)
    return read.anchored(read.anchor(first_seen))


def following(of: Rhythm, after: datetime, count: int) -> list[datetime | None]:
    found: list[datetime | None] = []
    moment: datetime | None = after
    for _ in range(count):
        moment = of.next_time(moment) if moment is not None else None
        found.append(moment)
    return found


# --- when it is due ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "due"),
    [
        (crontab(), NOON.replace(second=0)),
        (crontab(minute="30"), NOON.replace(hour=11, minute=30, second=0)),
        (crontab(minute=0, hour=3), NOON.replace(hour=3, second=0)),
        (crontab(minute=0, hour=0, day_of_month=1, month_of_year=2), datetime(2026, 2, 1, tzinfo=UTC)),
        (crontab(minute=0, hour=0, day_of_month=29, month_of_year=2), datetime(2024, 2, 29, tzinfo=UTC)),
        (schedule(timedelta(hours=1)), NOON),
        (3600, NOON),
        (datetime(2026, 6, 1, 8, tzinfo=UTC), datetime(2026, 6, 1, 8, tzinfo=UTC)),
    ],
)
def test_the_latest_missed_time_is_found(written: Any, due: datetime) -> None:
    long_ago = NOON - timedelta(days=1200)
    assert rhythm(written, first_seen=long_ago).newest_times(long_ago, NOON, 1) == [due]


def test_an_interval_counts_from_its_first_sight_and_does_not_drift() -> None:
    every = rhythm(0.7)
    year = timedelta(days=365)
    (due,) = every.newest_times(NOON, NOON + year, 1)
    assert (due - NOON) % timedelta(seconds=0.7) == timedelta(0)
    assert timedelta(0) <= NOON + year - due < timedelta(seconds=0.7)
    assert every.next_time(due) == due + timedelta(seconds=0.7)


def test_a_relative_interval_counts_from_whole_hours() -> None:
    found = following(rhythm(timedelta(hours=2), relative=True), NOON, 2)
    assert found == [NOON.replace(hour=14, second=0), NOON.replace(hour=16, second=0)]


def test_a_relative_day_begins_at_local_midnight_on_long_and_short_days_too() -> None:
    for first_seen in (datetime(2026, 3, 27, 9, tzinfo=UTC), datetime(2026, 10, 23, 9, tzinfo=UTC)):
        daily = rhythm(timedelta(days=1), BERLIN, relative=True, first_seen=first_seen)
        found = following(daily, first_seen, 4)
        clocks = [moment.astimezone(BERLIN).hour for moment in found if moment]
        assert clocks == [0, 0, 0, 0]
        assert daily.newest_times(first_seen, found[-1] or NOON, 9) == found


def test_one_run_at_a_date_is_due_once() -> None:
    once = rhythm(at("2026-07-02T08:00"), BERLIN)
    assert following(once, NOON, 2) == [datetime(2026, 7, 2, 6, tzinfo=UTC), None]
    assert once.text == "once, at 2026-07-02 08:00 CEST"


def test_one_run_at_a_time_that_the_clock_jumps_over_is_due_right_after() -> None:
    once = rhythm(at(datetime(2026, 3, 29, 2, 30)), BERLIN)
    assert once.next_time(NOON - timedelta(days=200)) == datetime(2026, 3, 29, 1, tzinfo=UTC)


class EveryThirdHour(BaseSchedule):
    """As a user would write it: from the last run and the present."""

    def remaining_estimate(self, last_run_at: datetime) -> timedelta:
        whole = last_run_at.replace(minute=0, second=0, microsecond=0)
        return whole + timedelta(hours=3 - whole.hour % 3) - self.now()

    def __repr__(self) -> str:
        return "<every third hour>"


def test_another_kind_of_schedule_is_asked_for_its_nominal_times() -> None:
    third = rhythm(EveryThirdHour())
    assert following(third, NOON, 2) == [NOON.replace(hour=15, second=0), NOON.replace(hour=18, second=0)]
    assert third.newest_times(NOON - timedelta(days=1), NOON, 2) == [
        NOON.replace(hour=9, second=0),
        NOON.replace(hour=12, second=0),
    ]


def test_another_kind_of_schedule_that_tells_no_time_is_said_to_be_wrong() -> None:
    with pytest.raises(BadSchedule, match=r"answers no next time .* Correct its class, or write crontab"):
        rhythm(BaseSchedule()).next_time(NOON)


# --- entries ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"schedule": 0}, "schedule must be a span between 0.01 seconds"),
        ({"schedule": -5}, "schedule must be a span"),
        ({"schedule": 1e300}, "at most a hundred years"),
        ({"schedule": "hourly"}, "schedule must be crontab"),
        ({"schedule": None}, "schedule must be crontab"),
        ({"task": None}, "task must be the name of a task"),
        ({"missed": "never"}, "missed must be 'latest' or 'skip' or 'all', not 'never'."),
        ({"overlap": "no"}, "overlap must be 'allow' or 'skip', not 'no'."),
        ({"timezone": "Europe/Berlim"}, "timezone is 'Europe/Berlim', which is no time zone"),
        ({"timezone": "../../etc/passwd"}, "which is no time zone"),
        ({"overlaps": "skip"}, "'overlaps' is no key of an entry. The keys are task, schedule,"),
        ({"args": "text"}, "arguments of diagnostics.echo must be a list"),
        ({"args": [object()]}, "cannot be written as JSON"),
        ({"options": {"expires": "soon"}}, "'soon' is not a time"),
        ({"options": {"countdown": "soon"}}, "A countdown is a number of seconds"),
        ({"options": {"eta": NOON}}, "write schedule = at"),
        ({"options": 7}, "cannot be read"),
    ],
)
def test_what_is_wrong_with_an_entry_is_one_sentence(celery: Offload, wrong: dict[str, Any], sentence: str) -> None:
    with pytest.raises(BadSchedule) as said:
        read_entry(celery, "report", {"task": "diagnostics.echo", "schedule": 10, **wrong})
    assert str(said.value).startswith("Schedule 'report': ")
    assert sentence in str(said.value)
    assert "\n" not in str(said.value)


def test_an_entry_of_another_kind_is_refused(celery: Offload) -> None:
    with pytest.raises(BadSchedule, match="must be a dict"):
        read_entry(celery, "report", ["diagnostics.echo", 10])


def test_celerys_own_entries_and_add_periodic_task_are_read_too(celery: Offload) -> None:
    made = ScheduleEntry("made", "diagnostics.echo", schedule=10, args=("x",), app=celery)
    assert read_entry(celery, "made", made)[0].rhythm.text == "every 10 s"

    added = {"task": "diagnostics.echo", "schedule": 10, "options": {"missed": "all", "queue": "mail"}}
    entry, order = read_entry(celery, "added", added)
    assert (entry.missed, order.wish.queue) == ("all", "mail")


def test_lazy_arguments_are_asked_each_time(celery: Offload) -> None:
    numbers: Iterator[int] = iter(range(10))
    written = {"task": "diagnostics.echo", "schedule": 10, "args": (BeatLazyFunc(next, numbers),)}
    entry, order = read_entry(celery, "lazy", written)
    assert [order.wish.args, entry.order(celery).wish.args] == ["[0]", "[1]"]


def test_a_zone_of_the_entry_goes_before_the_applications(celery: Offload) -> None:
    written = {"task": "diagnostics.echo", "schedule": crontab(minute=0, hour=8)}
    celery.conf.timezone = "America/New_York"
    try:
        assert read_entry(celery, "a", written)[0].timezone == "America/New_York"
        assert read_entry(celery, "b", written | {"timezone": "Europe/Berlin"})[0].timezone == "Europe/Berlin"
    finally:
        celery.conf.timezone = "UTC"


def test_without_time_zone_data_utc_works_and_other_zones_say_what_to_install(celery: Offload, tmp_path: Path) -> None:
    written = {"task": "diagnostics.echo", "schedule": crontab(minute=0, hour=8)}
    zoneinfo.reset_tzpath(to=[str(tmp_path)])
    zoneinfo.ZoneInfo.clear_cache()
    try:
        assert read_entry(celery, "here", written)[0].timezone == "UTC"
        with pytest.raises(BadSchedule, match="this machine has no time zone data: pip install tzdata"):
            read_entry(celery, "there", written | {"timezone": "Europe/Berlin"})
    finally:
        zoneinfo.reset_tzpath()
        zoneinfo.ZoneInfo.clear_cache()
