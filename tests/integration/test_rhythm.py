"""Schedules after long absences, beside wrong entries, and with Celery's options."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from celery.schedules import crontab, schedule
from sqlalchemy import update
from sqlalchemy.orm import Session

from flaskapp.jobs.clock import seconds_from_now
from flaskapp.jobs.models import Schedule
from flaskapp.worker import schedules
from flaskapp.worker.schedules import fire_due, latest_due
from tests.helpers import Bench

NOON = datetime(2026, 7, 1, 12, 0, 30, tzinfo=UTC)


@pytest.fixture
def entries(bench: Bench) -> Iterator[dict[str, Any]]:
    before = bench.celery.conf.beat_schedule
    bench.celery.conf.beat_schedule = entries = {}
    yield entries
    bench.celery.conf.beat_schedule = before


def fire(bench: Bench, passed: float = 100) -> list[str]:
    """First sight, then a turn after `passed` seconds."""
    with Session(bench.engine) as session:
        fire_due(session, bench.celery)
        session.execute(update(Schedule).values(last_due_at=seconds_from_now(-passed)))
        session.commit()
        return fire_due(session, bench.celery)


@pytest.mark.parametrize(
    ("rhythm", "due"),
    [
        (crontab(), NOON.replace(second=0)),
        (crontab(minute="30"), NOON.replace(hour=11, minute=30, second=0)),
        (crontab(minute=0, hour=3), NOON.replace(hour=3, second=0)),
        (crontab(minute=0, hour=0, day_of_month=1, month_of_year=2), datetime(2026, 2, 1, tzinfo=UTC)),
        (crontab(minute=0, hour=0, day_of_month=29, month_of_year=2), datetime(2024, 2, 29, tzinfo=UTC)),
        (schedule(timedelta(hours=1)), NOON),
    ],
)
def test_the_latest_missed_time_is_found(rhythm: Any, due: datetime) -> None:
    assert latest_due(rhythm, NOON - timedelta(days=1200), NOON) == due


def test_five_years_of_missed_minutes_are_not_counted_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    steps = []
    step = schedules.next_due
    monkeypatch.setattr(schedules, "next_due", lambda *args: steps.append(args) or step(*args))

    latest_due(crontab(), NOON - timedelta(days=5 * 365), NOON)

    assert len(steps) < 100


@pytest.mark.parametrize(
    "wrong",
    [
        {"task": "diagnostics.echo", "schedule": 0},
        {"schedule": 10},
        {"task": "diagnostics.echo", "schedule": 10, "args": [object()]},
    ],
)
def test_a_wrong_entry_stops_no_other(bench: Bench, entries: dict[str, Any], wrong: dict[str, Any]) -> None:
    entries |= {"wrong": wrong, "right": {"task": "diagnostics.echo", "schedule": 10, "args": ("x",)}}

    (job_id,) = fire(bench)

    assert bench.job(job_id).schedule == "right"


def test_an_entry_takes_celerys_options(bench: Bench, entries: dict[str, Any]) -> None:
    options = {"expires": 60, "priority": 3, "queue": "mail", "time_limit": 5}
    entries["one"] = {"task": "diagnostics.echo", "schedule": 10, "args": ("x",), "options": options}

    (job_id,) = fire(bench)

    job = bench.job(job_id)
    assert (job.priority, job.queue, job.time_limit, job.owner) == (3, "mail", 5, None)
    assert job.expires_at is not None
