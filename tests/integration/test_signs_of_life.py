"""The threads that everything leans on: they live through any trouble, and nobody's running job is forgotten."""

from typing import Any

import pytest
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from flaskapp.broker import outbox
from flaskapp.broker.outbox import Relay
from flaskapp.jobs.models import JobState
from flaskapp.worker import heartbeat as heartbeats
from flaskapp.worker.heartbeat import Heartbeat
from tests.helpers import wait_until
from tests.makers import WORKER, row_of, running


def test_a_running_job_that_its_worker_lost_sight_of_is_put_back(engine: Engine, session: Session) -> None:
    stray, held = running(session), running(session)
    session.commit()
    heartbeat = Heartbeat(engine, WORKER, "worker", holds=lambda: {held.job_id: held})

    heartbeat.beat()
    assert row_of(session, stray.job_id)["state"] == JobState.RUNNING
    session.rollback()
    heartbeat.beat()

    row = row_of(session, stray.job_id)
    assert (row["state"], row["crashes"]) == (JobState.WAITING, 0)
    assert row_of(session, held.job_id)["state"] == JobState.RUNNING


def test_a_heartbeat_outlives_any_trouble(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeats, "EVERY_SECONDS", 0.01)
    calls: list[int] = []

    def trouble() -> None:
        calls.append(1)
        raise KeyError("a wrong schedule")

    heartbeat = Heartbeat(engine, WORKER, "worker", every_beat=trouble)
    heartbeat.start()

    wait_until(lambda: len(calls) > 2, 5, "it beats on")
    heartbeat.stop()


def test_a_relay_outlives_any_trouble(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []

    def trouble(*_: Any, **__: Any) -> int:
        calls.append(1)
        raise KeyError("a header that cannot be written")

    monkeypatch.setattr(outbox, "send_due", trouble)
    monkeypatch.setattr(outbox, "_LONGEST_PAUSE", 0.01)
    relay = Relay(engine.url, "memory://", 0.01)
    relay.start()

    wait_until(lambda: len(calls) > 2, 5, "it tries on")
    relay.stop()


def test_a_nudge_does_not_end_the_rest_of_a_relay(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []

    def away(*_: Any, **__: Any) -> int:
        calls.append(1)
        raise outbox.NotConfirmed("away")

    monkeypatch.setattr(outbox, "send_due", away)
    relay = Relay(engine.url, "memory://")
    relay.nudge()
    wait_until(lambda: calls, 5, "it tried")

    for _ in range(20):
        relay.nudge()
    relay.stop()

    assert len(calls) <= 2
