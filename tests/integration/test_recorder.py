"""What the recorder answers the broker: no message is spent before its job is safe, and nothing ends its thread."""

from typing import Any

import pytest
from sqlalchemy.exc import DataError, OperationalError
from sqlalchemy.orm import Session

from flaskapp.jobs import control, lifecycle
from flaskapp.jobs.models import JobState
from flaskapp.jobs.outcomes import Hint, RetryLater
from flaskapp.worker import refused
from flaskapp.worker.recorder import Recorder
from tests.helpers import wait_until
from tests.integration.recorder_fixtures import Message, Pool, answered, pool, recorder, started  # noqa: F401 -- fixtures
from tests.makers import queued, row_of, send, state_of, waiting


def test_of_two_messages_the_older_does_not_spend_the_newer(recorder: Recorder, session: Session, pool: Pool) -> None:
    job_id = queued(session)
    lifecycle.requeue_lost(session, [job_id])
    send(session, job_id)
    session.commit()
    older, newer = Message(job_id, 1), Message(job_id, 2)
    recorder.offer(older)
    recorder.offer(newer)

    started(recorder)

    answered(older, newer)
    wait_until(lambda: pool.taken == [newer], 5, "the newer message runs")


def test_a_message_that_overtakes_the_end_of_the_attempt_before_it_is_kept(
    recorder: Recorder, session: Session, pool: Pool
) -> None:
    job_id = queued(session)
    session.commit()
    first = Message(job_id, 1)
    started(recorder).offer(first)
    wait_until(lambda: pool.taken == [first], 5, "the first attempt runs")
    # The child retries at once; the new message is here before we hear of it.
    assert first.claimed is not None
    lifecycle.settle(session, [RetryLater(first.claimed, None)])
    send(session, job_id)
    session.commit()
    second = Message(job_id, row_of(session, job_id)["sends"])
    session.rollback()
    recorder.offer(second)
    duplicate = Message(job_id, 1)
    recorder.offer(duplicate)
    assert answered(duplicate) == ["acknowledged"]
    assert second.answer == ""

    recorder.ended(first, None, 0.1)

    wait_until(lambda: pool.taken == [first, second], 5, "the second attempt runs")


def test_a_strangers_job_for_later_is_no_dead_letter(recorder: Recorder, session: Session) -> None:
    job_id = waiting(session, delay_seconds=3600)
    later = row_of(session, job_id)["run_at"]
    session.commit()
    message = Message("a-strangers", None, run_at=later)

    started(recorder).offer(message)

    assert answered(message) == ["acknowledged"]
    assert state_of(session, "a-strangers") == JobState.WAITING


def test_a_message_whose_job_was_pruned_is_a_dead_letter(recorder: Recorder) -> None:
    message = Message("gone", 1)

    started(recorder).offer(message)

    assert answered(message) == ["rejected"]


@pytest.mark.parametrize(
    "trouble",
    [
        ValueError("nonsense"),
        DataError("UPDATE", {}, Exception("too long")),
        OperationalError("UPDATE", {}, Exception("this one never")),
    ],
)
def test_one_message_that_cannot_be_claimed_stops_no_other(
    recorder: Recorder, session: Session, pool: Pool, monkeypatch: pytest.MonkeyPatch, trouble: Exception
) -> None:
    monkeypatch.setattr(refused, "MOST_OUTAGES", 1)
    bad, good = Message(queued(session), 1), Message(queued(session), 1)
    session.commit()
    claim = lifecycle.claim

    def refuse_the_bad(session: Session, hints: Any, worker: str) -> Any:
        hints = list(hints)
        if bad.hint in hints:
            raise trouble
        return claim(session, hints, worker)

    monkeypatch.setattr(lifecycle, "claim", refuse_the_bad)
    recorder.offer(bad)
    recorder.offer(good)

    started(recorder)

    assert answered(bad, good) == ["rejected", "acknowledged"]
    wait_until(lambda: pool.taken == [good], 5, "the good one runs")


def test_a_claim_that_was_refused_is_tried_again_and_meanwhile_in_our_hands(
    recorder: Recorder, session: Session, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    message = Message(queued(session), 1)
    session.commit()
    claim = lifecycle.claim
    in_hands: list[Any] = []

    def refuse_for_a_while(session: Session, hints: Any, worker: str) -> Any:
        hints = list(hints)
        if hints and len(in_hands) < 4:
            in_hands.append(recorder.unclaimed())
            raise OperationalError("UPDATE", {}, Exception("not now"))
        return claim(session, hints, worker)

    monkeypatch.setattr(lifecycle, "claim", refuse_for_a_while)
    started(recorder).offer(message)

    wait_until(lambda: pool.taken == [message], 10, "it runs")
    assert in_hands == [[message.id]] * 4
    assert message.answer == "acknowledged"


def test_what_the_pool_does_not_take_is_put_back_and_frees_its_slot(
    recorder: Recorder, session: Session, pool: Pool
) -> None:
    pool.broken = True
    job_id = queued(session)
    session.commit()
    message = Message(job_id, 1)
    message.give_back = lambda reason: recorder.ended(message, lifecycle.Stopped(message.claimed, reason), None)

    started(recorder).offer(message)

    wait_until(lambda: answered(message) and recorder.holds() == {} and not recorder._slots.busy, 5, "the slot is free")
    assert state_of(session, job_id) == JobState.WAITING


def test_a_job_whose_task_nobody_knows_waits(recorder: Recorder, session: Session) -> None:
    job_id = queued(session)
    session.commit()
    answers: list[str] = []

    started(recorder).turn_away(Hint(job_id, 1), lambda: answers.append("acknowledged"))

    wait_until(lambda: answers == ["acknowledged"], 5, "the message is acknowledged")
    assert state_of(session, job_id) == JobState.WAITING


def test_a_message_of_a_paused_queue_is_acknowledged_and_its_job_waits(
    recorder: Recorder, session: Session, pool: Pool
) -> None:
    job_id = queued(session, queue="mail")
    control.pause_queue(session, "mail")
    session.commit()
    message = Message(job_id, 1)

    started(recorder).offer(message)

    assert answered(message) == ["acknowledged"]
    assert state_of(session, job_id) == JobState.WAITING
    assert pool.taken == []
