"""A worker that stops or loses its broker forgets no job that it claimed."""

from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy.orm import Session

from flaskapp.jobs import lifecycle
from flaskapp.jobs.models import JobState
from flaskapp.jobs.outcomes import Claimed, Succeeded
from flaskapp.worker.recorder import Recorder
from tests.helpers import wait_until
from tests.integration.recorder_fixtures import Message, Pool, pool, recorder, started  # noqa: F401 -- fixtures
from tests.makers import queued, row_of, state_of


class EndedLoop:
    """An event loop that runs nothing any more."""

    def call_soon(self, function: Any, *args: Any) -> None:
        """Never."""


def test_a_claim_in_flight_while_the_worker_stops_is_put_back_uncounted(
    recorder: Recorder, session: Session, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = queued(session)
    session.commit()
    claim = lifecycle.claim

    def stop_meanwhile(*args: Any) -> dict[str, Claimed]:
        if pool.hub is None:
            pool.hub = EndedLoop()
            recorder.begin_stop(0)
            recorder._stopping.join(10)
        return claim(*args)

    monkeypatch.setattr(lifecycle, "claim", stop_meanwhile)
    started(recorder).offer(Message(job_id, 1))
    wait_until(lambda: recorder.holds(), 5, "it is claimed after all")

    recorder.finish()

    row = row_of(session, job_id)
    assert (row["state"], row["attempt"], row["crashes"]) == (JobState.WAITING, 1, 0)


def test_a_job_that_the_pool_threw_away_with_its_broker_connection_is_put_back(
    recorder: Recorder, session: Session, pool: Pool
) -> None:
    first, accepted, next_one = (queued(session) for _ in range(3))
    session.commit()
    messages = [Message(job_id, 1, recorder=recorder) for job_id in (first, accepted, next_one)]
    started(recorder).offer(messages[0])
    recorder.offer(messages[1])
    wait_until(lambda: len(pool.taken) == 2, 5, "both slots are taken")
    messages[1].worker_pid = 1

    recorder.detach(in_pool=[])

    wait_until(lambda: state_of(session, first) == JobState.WAITING or session.rollback(), 5, "it is put back")
    assert (row_of(session, first)["crashes"], state_of(session, accepted)) == (0, JobState.RUNNING)
    recorder.offer(messages[2])
    wait_until(lambda: messages[2] in pool.taken, 5, "its slot is free")


def test_a_job_that_the_pool_keeps_over_a_lost_connection_stays_with_it(
    recorder: Recorder, session: Session, pool: Pool
) -> None:
    message = Message(queued(session), 1, recorder=recorder)
    session.commit()
    started(recorder).offer(message)
    wait_until(lambda: pool.taken == [message], 5, "the pool has it")

    recorder.detach(in_pool=[message.id])

    assert not message.finished
    recorder.ended(message, Succeeded(message.claimed, "1"), 0.1)  # type: ignore[arg-type]
    wait_until(lambda: not recorder.holds(), 5, "its success is recorded")
    assert state_of(session, message.id) == JobState.SUCCEEDED


def test_a_claim_that_the_event_loop_did_not_come_to_is_not_forgotten(
    recorder: Recorder, session: Session, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kombu's hub drops the rest of its calls when one of them meets a dead connection."""
    claimed = Message(queued(session), 1)
    session.commit()
    monkeypatch.setattr(pool, "hub", EndedLoop())
    started(recorder).offer(claimed)
    wait_until(lambda: claimed.claimed, 5, "it is claimed")
    another_round_without_a_loop(recorder)

    recorder.detach(in_pool=[])
    monkeypatch.setattr(pool, "hub", None)
    recorder.attach(pool)

    assert pool.taken == [claimed]


def another_round_without_a_loop(recorder: Recorder) -> None:
    """The recorder has said everything that it says about its last group."""
    wait_until(lambda: recorder._loop._calls, 5, "the group is over")


def test_a_message_that_cannot_be_answered_keeps_no_job_from_the_pool(
    recorder: Recorder, session: Session, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    message = Message(queued(session), 1)
    session.commit()
    monkeypatch.setattr(pool, "hub", EndedLoop())
    monkeypatch.setattr(message, "acknowledge", dead_connection)
    started(recorder).offer(message)
    wait_until(lambda: message.claimed, 5, "it is claimed")
    another_round_without_a_loop(recorder)

    recorder.detach(in_pool=[])
    monkeypatch.setattr(pool, "hub", None)
    recorder._slots.fill()

    assert pool.taken == [message]


def test_a_broker_that_cannot_be_told_the_limit_does_not_end_the_thread(
    recorder: Recorder, session: Session, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A transport without an event loop is told by the recorder's own thread."""
    first, second = Message(queued(session), 1), Message(queued(session), 1)
    session.commit()
    monkeypatch.setattr(pool, "qos", SimpleNamespace(value=0, update=dead_connection))
    monkeypatch.setattr(pool, "task_consumer", SimpleNamespace(cancel=dead_connection, queues=[]))
    monkeypatch.setattr(pool, "qos_global", False, raising=False)
    started(recorder).offer(first)
    wait_until(lambda: first.claimed, 5, "the first is claimed")

    recorder.offer(second)

    wait_until(lambda: second.claimed, 5, "the second is claimed as well")


def dead_connection() -> None:
    raise BrokenPipeError("gone")
