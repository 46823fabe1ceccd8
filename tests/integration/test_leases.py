"""Who counts as dead: a process whose beats stand still while others beat, for a whole lease of the watcher's looks."""

import logging
from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import Engine, delete, insert, select, update
from sqlalchemy.exc import OperationalError

from flaskapp.jobs import lost
from flaskapp.jobs.clock import seconds_from_now
from flaskapp.jobs.models import JobState, Tally, Worker
from flaskapp.worker import maintenance
from flaskapp.worker.maintenance import Turn
from tests.helpers import Bench

LEASE = 3.0  # as tests.helpers.environment says
DEAD, LIVE = "dead@here/1", "live@here/2"


class Watch:
    """A watcher whose clock the test sets."""

    def __init__(self, app: Flask, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
        self.engine, self.moment = engine, 1000.0
        monkeypatch.setattr(maintenance.time, "monotonic", lambda: self.moment)
        self.turn = Turn(app.extensions["celery"], engine)

    def look(self, seconds: float, alive: tuple[str, ...] = (LIVE,)) -> None:
        """Look again after so long, in which only these gave a sign of life."""
        self.moment += seconds
        with self.engine.begin() as connection:
            connection.execute(update(Worker).where(Worker.id.in_(alive)).values(beats=Worker.beats + 1))
        self.turn.run()


@pytest.fixture
def watch(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Iterator[Watch]:
    with bench.engine.begin() as connection:
        for name in (DEAD, LIVE):
            connection.execute(insert(Worker).values(id=name, kind="worker", host="here", pid=1))
    watch = Watch(bench.app, bench.engine, monkeypatch)
    watch.look(1)
    yield watch
    with bench.engine.begin() as connection:
        connection.execute(delete(Worker))


@pytest.fixture
def job_id(bench: Bench) -> str:
    """Runs on the worker that dies."""
    job_id = bench.submit()
    bench.change(job_id, state=JobState.RUNNING, worker=DEAD, attempt=1, sends=1)
    return job_id


def test_a_silent_workers_job_is_rescued_after_its_lease(bench: Bench, watch: Watch, job_id: str) -> None:
    for _ in range(5):
        watch.look(0.75)

    assert (bench.state(job_id), bench.job(job_id).crashes) == (JobState.WAITING, 1)


def test_looks_between_two_beats_delay_no_rescue(bench: Bench, watch: Watch, job_id: str) -> None:
    for _ in range(int(LEASE)):
        watch.look(0.5, alive=())
        watch.look(0.5)

    assert bench.state(job_id) == JobState.WAITING


def test_it_is_not_rescued_before(bench: Bench, watch: Watch, job_id: str) -> None:
    for _ in range(3):
        watch.look(0.75)

    assert bench.state(job_id) == JobState.RUNNING


def test_a_worker_that_beats_is_never_rescued(bench: Bench, watch: Watch, job_id: str) -> None:
    for _ in range(20):
        watch.look(1, alive=(LIVE, DEAD))

    assert bench.state(job_id) == JobState.RUNNING


@pytest.mark.parametrize("stall", [LEASE + 1, 60, 3600])
def test_a_watcher_that_was_held_up_itself_rescues_nobody(
    bench: Bench, watch: Watch, job_id: str, stall: float
) -> None:
    watch.look(1)
    watch.look(stall)

    assert bench.state(job_id) == JobState.RUNNING


def test_a_database_in_which_nobody_can_write_rescues_nobody(bench: Bench, watch: Watch, job_id: str) -> None:
    for _ in range(60):
        watch.look(1, alive=())

    assert bench.state(job_id) == JobState.RUNNING


def test_a_new_watcher_watches_a_whole_lease(
    bench: Bench, watch: Watch, job_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    Watch(bench.app, bench.engine, monkeypatch).look(1)

    assert bench.state(job_id) == JobState.RUNNING


def test_what_a_dead_worker_held_unclaimed_is_not_lost_behind_a_seen_probe(watch: Watch, bench: Bench) -> None:
    """The broker has put it in line again, maybe behind that probe."""
    waits = bench.submit()
    bench.change(waits, state=JobState.QUEUED, sends=1, queued_at=seconds_from_now(-60))
    with bench.session() as session, session.begin():
        session.execute(update(Worker).where(Worker.id == DEAD).values(unclaimed=f'["{waits}"]'))
        number = lost.begin(session, "default")
        lost.see(session, "default", number or 0)

    for _ in range(4):
        watch.look(1)

    with bench.session() as session:
        assert (lost.in_hands(session), lost.under_way(session)) == (set(), [])


@pytest.mark.parametrize("trouble", [ValueError("a bug of ours"), OperationalError("UPDATE", {}, Exception("locked"))])
@pytest.mark.parametrize("part", ["expire_overdue", "rescue", "compact_tally"])
def test_a_part_of_a_turn_that_fails_stops_no_other(
    watch: Watch,
    bench: Bench,
    job_id: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    part: str,
    trouble: Exception,
) -> None:
    late = bench.submit(expires=3600)
    bench.change(late, expires_at=seconds_from_now(-1))

    def fail(*_: Any) -> None:
        raise trouble

    monkeypatch.setattr(maintenance.lifecycle, part, fail)
    watch.turn._compacted_at = 0.0

    with caplog.at_level(logging.ERROR):
        for _ in range(4):
            watch.look(1)

    with bench.session() as session:
        tallies = len(session.scalars(select(Tally)).all())
    done = {
        "rescue": bench.state(job_id) == JobState.WAITING,
        "expire_overdue": bench.state(late) == JobState.CANCELLED,
        "compact_tally": tallies == 1,
    }
    assert [name for name, is_done in done.items() if not is_done] == [part]
    assert "A part of a turn failed" in caplog.text
