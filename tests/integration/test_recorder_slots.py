"""No more is claimed than the pool can take; what waits in our hands is known, and what goes back voids its probe."""

import time
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from flaskapp.jobs import lost
from flaskapp.jobs.models import Probe
from flaskapp.jobs.outcomes import Succeeded
from flaskapp.worker import prefetch
from flaskapp.worker.recorder import Recorder
from tests.helpers import wait_until
from tests.integration.recorder_fixtures import Loop, Message, Pool, another_round, pool, recorder, started  # noqa: F401 -- fixtures
from tests.makers import queued


def test_no_more_is_claimed_than_there_are_slots_while_the_event_loop_is_busy(
    recorder: Recorder, session: Session, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = Loop()
    monkeypatch.setattr(pool, "hub", loop)
    messages = [Message(queued(session), 1) for _ in range(4)]
    session.commit()
    started(recorder)
    for message in messages[:2]:
        recorder.offer(message)
        wait_until(lambda message=message: message.claimed, 5, "it is claimed")
    for message in messages[2:]:
        recorder.offer(message)

    for _ in range(2):
        known = len(loop.asked)
        recorder.notice("mail", 1, lambda: None)
        wait_until(lambda known=known: len(loop.asked) > known, 5, "the recorder went another round")

    assert [message.claimed is not None for message in messages] == [True, True, False, False]
    monkeypatch.setattr(pool, "hub", None)


def test_what_is_offered_and_not_claimed_is_in_our_hands(recorder: Recorder, session: Session) -> None:
    message = Message(queued(session), 1)
    session.commit()
    assert recorder.unclaimed() is None
    recorder.listening = True
    assert recorder.unclaimed() == []
    recorder.offer(message)
    assert recorder.unclaimed() == [message.id]
    started(recorder)
    wait_until(lambda: recorder.unclaimed() == [], 5, "it is claimed")


def a_seen_probe(session: Session) -> None:
    number = lost.begin(session, "default")
    lost.see(session, "default", number or 0)
    session.commit()


def is_void(session: Session) -> bool:
    session.rollback()
    return lost.under_way(session) == []


def test_what_found_no_free_slot_for_long_goes_back_and_voids_the_probe_of_its_queue(
    recorder: Recorder, session: Session, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    messages = [Message(queued(session), 1) for _ in range(6)]
    session.commit()
    a_seen_probe(session)
    monkeypatch.setattr(prefetch, "_PATIENCE_SECONDS", 0.5)
    in_hands: list[Any] = []
    handed_back = lost.handed_back

    def note(session: Session, job_ids: Any) -> None:
        in_hands.extend([sorted(job_ids), recorder.unclaimed()])
        handed_back(session, job_ids)

    monkeypatch.setattr(lost, "handed_back", note)
    recorder.listening = True
    for message in messages:
        recorder.offer(message)
    started(recorder)

    wait_until(lambda: is_void(session), 5, "the probe proves nothing any more")
    returned = sorted(message.id for message in messages[2:])
    assert [message.answer for message in messages] == ["acknowledged"] * 2 + ["rejected"] * 4
    # Until that is committed they count as in our hands.
    assert in_hands[0] == returned
    assert set(returned) <= set(in_hands[1])
    wait_until(lambda: not set(returned) & set(recorder.unclaimed() or ()), 5, "they have left our hands")


def test_a_worker_that_stops_voids_the_probe_of_what_it_hands_back(
    recorder: Recorder, session: Session, pool: Pool
) -> None:
    message = Message(queued(session), 1)
    message._connection_errors = ()
    message.reject_log_error = lambda *_, **__: message.reject()
    session.commit()
    a_seen_probe(session)
    recorder.offer(message)

    recorder.begin_stop(0)
    recorder._stopping.join(10)

    assert (message.answer, is_void(session), recorder.unclaimed()) == ("rejected", True, None)


def test_what_a_lost_connection_brought_voids_the_probe_once_there_is_another(
    recorder: Recorder, session: Session, pool: Pool
) -> None:
    messages = [Message(queued(session), 1) for _ in range(4)]
    session.commit()
    a_seen_probe(session)
    for message in messages:
        recorder.offer(message)
    recorder.attach(pool)
    assert recorder.unclaimed() == sorted(message.id for message in messages)

    started(recorder)

    wait_until(lambda: is_void(session) and recorder.unclaimed() is None, 5, "the probe proves nothing any more")


def test_a_probe_is_acknowledged_once_it_is_noted(recorder: Recorder, session: Session) -> None:
    number = lost.begin(session, "mail")
    session.commit()
    answered: list[bool] = []
    recorder.notice("mail", number or 0, lambda: answered.append(True))
    assert answered == []
    started(recorder)
    wait_until(lambda: answered, 5, "the probe is acknowledged")
    assert session.scalars(select(Probe.seen_at)).one() is not None


def test_a_job_that_lost_a_process_before_is_not_claimed_ahead(
    recorder: Recorder, session: Session, pool: Pool
) -> None:
    running = [Message(queued(session), 1) for _ in range(2)]
    suspect, other = Message(queued(session), 1), Message(queued(session), 1)
    session.commit()
    suspect.is_suspect = True
    recorder._slots.pace.ended(0.0001, has_work=False)  # so short that many are claimed ahead
    for message in (*running, suspect, other):
        recorder.offer(message)
    started(recorder)

    wait_until(lambda: other.claimed, 5, "the one behind it is claimed ahead")
    assert suspect.claimed is None
    assert running[0].claimed is not None
    recorder.ended(running[0], Succeeded(running[0].claimed), 0.1)
    assert other.claimed is not None
    recorder.ended(other, Succeeded(other.claimed), 0.1)
    wait_until(lambda: suspect.claimed, 5, "a slot is free: it is claimed")


def test_a_job_that_lost_a_process_before_is_not_overtaken_for_long(
    recorder: Recorder, session: Session, pool: Pool
) -> None:
    running = [Message(queued(session), 1) for _ in range(2)]
    suspect, other = Message(queued(session), 1), Message(queued(session), 1)
    session.commit()
    suspect.is_suspect, suspect.arrived = True, time.monotonic() - 2
    recorder._slots.pace.ended(0.0001, has_work=False)  # so short that many are claimed ahead
    for message in (*running, suspect, other):
        recorder.offer(message)
    started(recorder)
    wait_until(lambda: len(pool.taken) == 2, 5, "both slots are taken")

    for _ in range(2):
        another_round(recorder)
    assert [suspect.claimed, other.claimed] == [None, None]

    for each in running:
        assert each.claimed is not None
        recorder.ended(each, Succeeded(each.claimed), 0.1)
    wait_until(lambda: len(pool.taken) == 4, 5, "slots are free")
    assert pool.taken[2:] == [suspect, other]


def test_who_grows_the_pool_hears_of_each_job_that_comes_to_it(
    recorder: Recorder, session: Session, pool: Pool
) -> None:
    """Celery's `--autoscale` would else look only every half minute."""
    message = Message(queued(session), 1)
    session.commit()
    heard: list[Message] = []
    pool.on_task_message.add(heard.append)

    started(recorder).offer(message)

    wait_until(lambda: heard == [message], 5, "it was heard of")


def test_a_job_that_the_pool_has_is_not_put_back_because_the_pool_cannot_grow(
    recorder: Recorder, session: Session, pool: Pool
) -> None:
    messages = [Message(queued(session), 1, recorder=recorder) for _ in range(2)]
    session.commit()

    def grow(_request: Message) -> None:
        raise OSError("Cannot allocate memory")

    pool.on_task_message.add(grow)

    started(recorder)
    for message in messages:
        recorder.offer(message)

    wait_until(lambda: pool.taken == messages, 5, "the pool has both")
    assert not messages[0].finished
