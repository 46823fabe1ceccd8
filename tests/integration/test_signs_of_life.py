"""The threads that everything leans on: they live through any trouble, and nobody's running job is forgotten."""

import threading
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from flaskapp.broker import outbox
from flaskapp.broker.outbox import Relay
from flaskapp.jobs.models import JobState, Worker
from flaskapp.worker import heartbeat as heartbeats
from flaskapp.worker import steps
from flaskapp.worker.heartbeat import Heartbeat
from flaskapp.worker.maintenance import Turn
from tests.helpers import Bench, wait_until
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


def test_a_turn_in_beats_place_that_hangs_does_not_delay_the_heartbeat(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As JobCore wires them."""
    inside, end = threading.Event(), threading.Event()

    def hang(_: Turn) -> None:
        inside.set()
        end.wait(30)

    monkeypatch.setattr(Turn, "run", hang)
    monkeypatch.setattr(steps, "_EVERY_SECONDS", 0.01)
    monkeypatch.setattr(heartbeats, "EVERY_SECONDS", 0.05)
    worker = SimpleNamespace(app=bench.celery, hostname="w@here", concurrency=1, max_concurrency=None)
    core = steps.JobCore(worker)
    core.create(worker)
    core.stand_in._needed = True

    def beats() -> int:
        with bench.session() as session:
            return session.scalar(select(Worker.beats).where(Worker.id == core.heartbeat.process_id)) or 0

    core.start(worker)
    try:
        assert inside.wait(10)
        before = beats()
        wait_until(lambda: beats() > before + 2, 10, "it beats on")
        assert not end.is_set()
    finally:
        end.set()
        core._finish()


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
