"""Who may run what, and what a relay takes first: claims, sendings, reservations, unique keys and ids."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import func, insert, select
from sqlalchemy.orm import Session

from flaskapp.jobs import lifecycle
from flaskapp.jobs.clock import now, seconds_from_now
from flaskapp.jobs.models import Job, JobState, Queue
from flaskapp.jobs.outcomes import Crashed, Error, Failed, Hint, RetryLater, Stopped, Succeeded, Wish
from tests.makers import (
    BOOM,
    WORKER,
    cancelled,
    claim,
    failed,
    pass_seconds,
    queued,
    row_of,
    running,
    send,
    state_of,
    succeeded,
    waiting,
)

# --- claims -----------------------------------------------------------------------------------------------


def test_a_claim_says_who_which_attempt_and_since_when(session: Session) -> None:
    job_id = queued(session, retries=2, max_retries=5, owner="ada", ignore_result=True)

    claimed = claim(session, job_id)

    assert (claimed.number, claimed.worker, claimed.retries, claimed.max_retries) == (1, WORKER, 2, 5)
    assert (claimed.owner, claimed.ignore_result) == ("ada", True)
    row = row_of(session, job_id)
    assert (row["state"], row["worker"], row["attempt"]) == (JobState.RUNNING, WORKER, 1)
    assert row["started_at"] >= row["queued_at"] >= row["created_at"]


def test_a_message_may_overtake_its_confirm(session: Session) -> None:
    job_id = waiting(session)
    (sent,) = lifecycle.take_to_send(session, "relay", 10, 30)

    (claimed,) = lifecycle.claim(session, [Hint(job_id, sent.sends)], WORKER).values()

    assert lifecycle.mark_queued(session, "relay", [job_id]) == 0
    assert lifecycle.settle(session, [Succeeded(claimed)]) == {job_id}
    assert row_of(session, job_id)["queued_at"] is not None


def test_a_message_of_an_older_sending_is_refused(session: Session) -> None:
    job_id = queued(session)
    lifecycle.requeue_lost(session, [job_id])
    send(session, job_id)

    assert lifecycle.claim(session, [Hint(job_id, 1)], WORKER) == {}
    assert set(lifecycle.claim(session, [Hint(job_id, 2)], WORKER)) == {job_id}


def test_of_several_messages_for_a_job_the_newest_counts(session: Session) -> None:
    job_id = queued(session)
    lifecycle.requeue_lost(session, [job_id])
    send(session, job_id)

    assert set(lifecycle.claim(session, [Hint(job_id, 2), Hint(job_id, 1), Hint(job_id)], WORKER)) == {job_id}


def test_somebody_elses_message_may_not_take_a_job_that_we_have_sent(session: Session) -> None:
    theirs, ours = waiting(session), queued(session)

    assert set(lifecycle.claim(session, [Hint(theirs), Hint(ours)], WORKER)) == {theirs}


@pytest.mark.parametrize("outcome", [lambda held: RetryLater(held, BOOM), Stopped, lambda held: Crashed(held, BOOM)])
def test_a_duplicate_of_the_message_that_ran_does_not_take_the_next_attempt(session: Session, outcome: Any) -> None:
    claimed = running(session)
    ran = Hint(claimed.job_id, row_of(session, claimed.job_id)["sends"])
    lifecycle.settle(session, [outcome(claimed)])

    assert lifecycle.claim(session, [ran, Hint(claimed.job_id)], WORKER) == {}

    assert state_of(session, claimed.job_id) == JobState.WAITING


def test_a_job_that_is_not_due_is_refused(session: Session) -> None:
    job_id = waiting(session, delay_seconds=30)

    assert lifecycle.claim(session, [Hint(job_id)], WORKER) == {}
    pass_seconds(session, job_id, 0.01, "run_at")
    assert set(lifecycle.claim(session, [Hint(job_id)], WORKER)) == {job_id}


def test_a_job_past_its_expiry_is_cancelled_instead(session: Session) -> None:
    job_id = queued(session, expires_at=datetime(2020, 1, 1, tzinfo=UTC))

    assert lifecycle.claim(session, [Hint(job_id, 1)], WORKER) == {}

    row = row_of(session, job_id)
    assert (row["state"], row["error_type"]) == (JobState.CANCELLED, "Expired")


def test_a_running_job_does_not_expire(session: Session) -> None:
    claimed = running(session, expires_at=datetime(2090, 1, 1, tzinfo=UTC))
    pass_seconds(session, claimed.job_id, 5, "expires_at")

    assert lifecycle.claim(session, [Hint(claimed.job_id, 1)], "another@here/2") == {}

    assert state_of(session, claimed.job_id) == JobState.RUNNING


def test_a_claim_whose_answer_was_lost_is_answered_again_as_it_stands(session: Session) -> None:
    claimed = running(session)

    assert claim(session, claimed.job_id) == claimed

    assert row_of(session, claimed.job_id)["attempt"] == 1
    assert lifecycle.claim(session, [Hint(claimed.job_id, 1)], "another@here/2") == {}


def test_a_group_of_hints_is_claimed_as_far_as_it_may_be(session: Session) -> None:
    due, later, gone = queued(session), waiting(session, delay_seconds=60), cancelled(session)

    hints = [Hint(due, 1), Hint(due, 1), Hint(later), Hint(gone), Hint("nobody's")]
    claims = lifecycle.claim(session, hints, WORKER)

    assert set(claims) == {due}
    assert lifecycle.known(session, [due, gone, "nobody's"]) == {due, gone}


def test_a_held_job_comes_back_to_the_relay_after_a_while(session: Session) -> None:
    job_id = queued(session)

    assert lifecycle.hold(session, Hint(job_id, 1), 60)

    assert lifecycle.take_to_send(session, "relay", 10, 30) == []
    pass_seconds(session, job_id, 1, "sending_until")
    assert [job.id for job in lifecycle.take_to_send(session, "relay", 10, 30)] == [job_id]


def test_a_held_job_is_not_marked_queued_by_the_relay_that_sent_it(session: Session) -> None:
    job_id = waiting(session)
    lifecycle.take_to_send(session, "relay", 10, 30)

    assert lifecycle.hold(session, Hint(job_id, 1), 60)

    assert lifecycle.mark_queued(session, "relay", [job_id]) == 0
    assert state_of(session, job_id) == JobState.WAITING


def test_a_queued_job_is_claimed_also_when_the_clock_went_back(session: Session) -> None:
    job_id = queued(session)
    pass_seconds(session, job_id, -60, "run_at")

    assert set(lifecycle.claim(session, [Hint(job_id, 1)], WORKER)) == {job_id}


# --- sendings ---------------------------------------------------------------------------------------------


def test_the_relay_takes_by_priority_then_by_age(session: Session) -> None:
    old, low, high = waiting(session), waiting(session, priority=-1), waiting(session, priority=9)
    young = waiting(session)
    pass_seconds(session, old, 60, "run_at")

    assert [job.id for job in lifecycle.take_to_send(session, "relay", 10, 30)] == [high, old, young, low]


def test_the_relay_takes_no_more_than_it_asks_for(session: Session) -> None:
    best = waiting(session, priority=5)
    waiting(session)

    assert [job.id for job in lifecycle.take_to_send(session, "relay", 1, 30)] == [best]


def test_each_sending_has_the_next_number(session: Session) -> None:
    job_id = waiting(session)
    numbers = []
    for _ in range(3):
        numbers += [job.sends for job in lifecycle.take_to_send(session, "relay", 10, 30)]
        lifecycle.mark_queued(session, "relay", [job_id])
        lifecycle.requeue_lost(session, [job_id])

    assert numbers == [1, 2, 3]


def test_a_reserved_job_is_nobody_elses_until_the_reservation_ends(session: Session) -> None:
    job_id = waiting(session)
    lifecycle.take_to_send(session, "one relay", 10, 30)

    assert lifecycle.take_to_send(session, "another", 10, 30) == []
    assert lifecycle.mark_queued(session, "another", [job_id]) == 0
    pass_seconds(session, job_id, 1, "sending_until")
    assert [job.sender for job in lifecycle.take_to_send(session, "another", 10, 30)] == ["another"]
    assert lifecycle.mark_queued(session, "one relay", [job_id]) == 0


def test_what_was_not_confirmed_rests_and_is_sent_again(session: Session) -> None:
    job_id = waiting(session)
    lifecycle.take_to_send(session, "relay", 10, 30)

    lifecycle.release_unsent(session, "relay", [job_id], 60)

    assert lifecycle.take_to_send(session, "relay", 10, 30) == []
    pass_seconds(session, job_id, 1, "sending_until")
    assert len(lifecycle.take_to_send(session, "relay", 10, 30)) == 1


def test_a_paused_queue_is_skipped(session: Session) -> None:
    waiting(session, queue="mail")
    other = waiting(session)
    session.execute(insert(Queue).values(name="mail", paused_at=now()))
    session.execute(insert(Queue).values(name="default", paused_at=None))

    assert [job.id for job in lifecycle.take_to_send(session, "relay", 10, 30)] == [other]


def test_a_job_for_later_is_no_relays_business(session: Session) -> None:
    waiting(session, delay_seconds=0.5)
    waiting(session, run_at=datetime(2100, 1, 1, tzinfo=UTC))
    past = waiting(session, run_at=datetime(2001, 1, 1, tzinfo=UTC))

    assert [job.id for job in lifecycle.take_to_send(session, "relay", 10, 30)] == [past]


# --- ids and unique keys ----------------------------------------------------------------------------------


def test_our_ids_are_uuids_of_version_7_that_sort_by_time() -> None:
    ids = [lifecycle.new_job_id() for _ in range(50)]

    assert {UUID(each).version for each in ids} == {7}
    assert [each[:13] for each in ids] == sorted(each[:13] for each in ids)


def test_a_callers_id_is_kept_as_it_is(session: Session) -> None:
    name = "ein Name: é " + "x" * 143

    assert waiting(session, job_id=name) == name
    assert claim(session, name).job_id == name


def test_a_taken_id_is_answered_with_itself(session: Session) -> None:
    others = [waiting(session, job_id=name) for name in ("aaa", "mine", "zzz")]

    assert [waiting(session, job_id=name) for name in ("aaa", "mine", "zzz")] == others


def test_a_unique_key_holds_while_its_job_is_live(session: Session) -> None:
    first = waiting(session, unique_key="report")
    assert waiting(session, unique_key="report") == first
    send(session, first)
    assert waiting(session, unique_key="report") == first
    claimed = claim(session, first)
    assert waiting(session, unique_key="report") == first
    lifecycle.settle(session, [RetryLater(claimed, BOOM)])
    assert waiting(session, unique_key="report") == first

    lifecycle.settle(session, [Succeeded(claim(session, first))])

    assert waiting(session, unique_key="report") != first


@pytest.mark.parametrize("ended", [succeeded, failed, cancelled])
def test_a_final_job_gives_its_key_free(session: Session, ended: object) -> None:
    first = ended(session, unique_key="report")  # type: ignore[operator]

    second = waiting(session, unique_key="report")

    assert second != first
    assert row_of(session, first)["unique_key"] == "report"


def test_a_job_does_not_run_again_while_another_holds_its_key(session: Session) -> None:
    first = failed(session, unique_key="report")
    second = waiting(session, unique_key="report")

    assert not lifecycle.run_again(session, first)

    lifecycle.cancel(session, second)
    assert lifecycle.run_again(session, first)


def test_keys_in_one_submit_are_compared_too(session: Session) -> None:
    one, two, three = lifecycle.submit(session, [Wish("a", unique_key="k"), Wish("a", unique_key="k"), Wish("a")])

    assert one == two != three
    assert session.execute(select(func.count()).select_from(Job)).scalar_one() == 2


def test_what_a_taken_key_refuses_leaves_the_callers_transaction_alive(session: Session) -> None:
    before = waiting(session)
    waiting(session, unique_key="k")
    waiting(session, unique_key="k")
    session.commit()

    assert state_of(session, before) == JobState.WAITING


# --- parked jobs ------------------------------------------------------------------------------------------


def parked(session: Session) -> str:
    claimed = running(session)
    lifecycle.settle(session, [RetryLater(claimed, None, parked=True)])
    return claimed.job_id


def test_no_relay_takes_a_parked_job(session: Session) -> None:
    job_id = parked(session)
    pass_seconds(session, job_id, 10, "run_at")

    assert state_of(session, job_id) == JobState.WAITING
    assert lifecycle.take_to_send(session, "relay", 10, 30) == []


def test_a_parked_job_becomes_what_arrives_under_its_id(session: Session) -> None:
    job_id = parked(session)

    assert lifecycle.submit(session, [Wish("other.task", job_id=job_id, args="[5]", queue="mail")]) == [job_id]

    row = row_of(session, job_id)
    assert (row["task"], row["args"], row["queue"], row["sender"]) == ("other.task", "[5]", "mail", None)
    assert [job.id for job in lifecycle.take_to_send(session, "relay", 10, 30)] == [job_id]


def test_a_parked_job_whose_predecessor_failed_fails_with_its_reason(session: Session) -> None:
    job_id = parked(session)

    lifecycle.submit_failed(session, [Wish("other.task", job_id=job_id)], Error("ValueError", "the step before"))

    assert row_of(session, job_id)["error_message"] == "the step before"
    assert state_of(session, job_id) == JobState.FAILED


def test_a_step_that_never_existed_gets_a_failed_row(session: Session) -> None:
    lifecycle.submit_failed(session, [Wish("other.task", job_id="step-2")], BOOM)

    assert state_of(session, "step-2") == JobState.FAILED


def test_a_parked_job_can_be_cancelled(session: Session) -> None:
    job_id = parked(session)

    assert lifecycle.cancel(session, job_id)
    assert lifecycle.submit(session, [Wish("late", job_id=job_id)]) == [job_id]
    assert state_of(session, job_id) == JobState.CANCELLED


def test_a_parked_job_is_not_claimed_by_an_old_message(session: Session) -> None:
    job_id = parked(session)

    assert lifecycle.claim(session, [Hint(job_id, 1)], WORKER) == {}
    assert lifecycle.claim(session, [Hint(job_id)], WORKER) == {}


def test_expiring_counts_those_it_moved(session: Session) -> None:
    assert lifecycle.expire(session, []) == 0
    assert lifecycle.expire(session, [waiting(session), queued(session), succeeded(session)]) == 2


def test_a_far_future_costs_one_row(session: Session) -> None:
    (job_id,) = lifecycle.submit(session, [Wish("a", delay_seconds=86400 * 365)])
    due_in_a_year = select(Job.id).where(Job.run_at > seconds_from_now(86400 * 364))

    assert session.scalars(due_in_a_year).all() == [job_id]


def test_a_failed_attempt_keeps_its_error_whole(session: Session) -> None:
    claimed = running(session)
    error = Error("E" * 300, "m" * 200_000, "t" * 200_000, '{"exc_type": "E"}')

    lifecycle.settle(session, [Failed(claimed, error)])

    row = row_of(session, claimed.job_id)
    assert (len(row["error_type"]), len(row["error_message"]), len(row["error_traceback"])) == (255, 200_000, 200_000)
