"""Every arrow of the job's life from every state: it moves from those it names and changes nothing elsewhere."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from flaskapp.jobs import lifecycle
from flaskapp.jobs.models import Attempt, Job, JobState, Progress
from flaskapp.jobs.outcomes import Claimed, Crashed, Error, Failed, Hint, Ignored, RetryLater, Stopped, Succeeded, Wish
from tests.makers import (
    BOOM,
    WORKER,
    attempts_of,
    claim,
    failed,
    history_of,
    in_state,
    pass_seconds,
    row_of,
    running,
    send,
    state_of,
    waiting,
)

W, Q, R = JobState.WAITING, JobState.QUEUED, JobState.RUNNING
S, F, C = JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED
GONE = "gone"
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


def newest(session: Session, job_id: str) -> Hint:
    return Hint(job_id, row_of(session, job_id)["sends"])


def held(job_id: str, number: int = 1) -> Claimed:
    return Claimed(job_id, number, WORKER)


def sent_by_relay(session: Session, job_id: str) -> Any:
    taken = lifecycle.take_to_send(session, "relay", 10, 30)
    return lifecycle.mark_queued(session, "relay", [job.id for job in taken] or [job_id])


def released(session: Session, job_id: str) -> Any:
    taken = lifecycle.take_to_send(session, "relay", 10, 30)
    return lifecycle.release_unsent(session, "relay", [job.id for job in taken] or [job_id], 1)


def pruned(session: Session, job_id: str) -> Any:
    if row_of(session, job_id)["finished_at"] is not None:
        pass_seconds(session, job_id, 90000, "finished_at")
    return lifecycle.prune(session, succeeded_days=1, failed_days=1)


def overdue(session: Session, job_id: str) -> Any:
    session.execute(update(Job).where(Job.id == job_id, Job.state.in_([W, Q])).values(expires_at=LONG_AGO))
    return lifecycle.expire_overdue(session, 10)


def settled_as(outcome: Callable[[Claimed], Any]) -> Callable[[Session, str], Any]:
    return lambda session, job_id: lifecycle.settle(session, [outcome(held(job_id))])


Arrow = Callable[[Session, str], Any]
#: name → how it is asked for, and where it leads from the states that it names.
ARROWS: dict[str, tuple[Arrow, dict[JobState, str]]] = {
    "take_to_send": (lambda s, j: lifecycle.take_to_send(s, "relay", 10, 30), {W: W}),
    "mark_queued": (sent_by_relay, {W: Q}),
    "release_unsent": (released, {W: W}),
    "requeue_lost": (lambda s, j: lifecycle.requeue_lost(s, [j]), {Q: W}),
    "hold": (lambda s, j: lifecycle.hold(s, Hint(j, 1), 5), {Q: W}),
    "claim": (lambda s, j: lifecycle.claim(s, [newest(s, j)], "another@here/2"), {W: R, Q: R}),
    "expire": (lambda s, j: lifecycle.expire(s, [j]), {W: C, Q: C}),
    "expire_overdue": (overdue, {W: C, Q: C}),
    "succeed": (settled_as(lambda held: Succeeded(held, "1")), {R: S}),
    "fail": (settled_as(lambda held: Failed(held, BOOM)), {R: F}),
    "retry_later": (settled_as(lambda held: RetryLater(held, BOOM, 5)), {R: W}),
    "put_back": (settled_as(Stopped), {R: W}),
    "crash": (settled_as(lambda held: Crashed(held, BOOM)), {R: W}),
    "give_up": (settled_as(lambda held: Ignored(held, "no")), {R: C}),
    "rescue": (lambda s, j: lifecycle.rescue(s, [WORKER]), {R: W}),
    "cancel": (lambda s, j: lifecycle.cancel(s, j, by="ada"), {W: C, Q: C, R: C}),
    "run_again": (lifecycle.run_again, {F: W, C: W}),
    "prune": (pruned, {S: GONE, F: GONE, C: GONE}),
    "submit_failed": (lambda s, j: lifecycle.submit_failed(s, [Wish("tests.fate", job_id=j)], BOOM), {W: F}),
}
MOVES = [(name, state, to) for name, (_, moves) in ARROWS.items() for state, to in moves.items()]
REFUSALS = [(name, state) for name, (_, moves) in ARROWS.items() for state in JobState if state not in moves]


@pytest.mark.parametrize(("name", "state", "to"), MOVES)
def test_an_arrow_moves_a_job_from_the_state_it_names(session: Session, name: str, state: str, to: str) -> None:
    job_id = in_state(session, state)

    assert ARROWS[name][0](session, job_id) not in (False, 0, [], set(), {})

    if to == GONE:
        assert session.get(Job, job_id) is None
    else:
        assert state_of(session, job_id) == to


@pytest.mark.parametrize(("name", "state"), REFUSALS)
def test_an_arrow_changes_nothing_in_a_state_it_does_not_name(session: Session, name: str, state: str) -> None:
    job_id = in_state(session, state)
    if name == "prune" and JobState(state).is_final:
        pass_seconds(session, job_id, 90000, "finished_at")
    before = row_of(session, job_id), attempts_of(session, job_id)

    assert ARROWS[name][0](session, job_id) in (False, 0, [], set(), {}, None)

    assert (row_of(session, job_id), attempts_of(session, job_id)) == before


@pytest.mark.parametrize("state", list(JobState))
def test_submitting_a_taken_id_changes_nothing(session: Session, state: str) -> None:
    job_id = in_state(session, state)
    before = row_of(session, job_id)

    assert lifecycle.submit(session, [Wish("other.task", job_id=job_id, args="[1]")]) == [job_id]

    assert row_of(session, job_id) == before


@pytest.mark.parametrize("state", list(JobState))
def test_an_attempt_is_held_only_while_it_runs(session: Session, state: str) -> None:
    job_id = in_state(session, state)

    assert lifecycle.still_held(session, held(job_id)) == (state == R)


# --- fences -----------------------------------------------------------------------------------------------

OUTCOMES: dict[str, Callable[[Claimed], Any]] = {
    "succeeded": lambda held: Succeeded(held, "1"),
    "failed": lambda held: Failed(held, BOOM),
    "retried": lambda held: RetryLater(held, BOOM, 5),
    "stopped": Stopped,
    "crashed": lambda held: Crashed(held, BOOM),
    "ignored": lambda held: Ignored(held, "no"),
}


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_an_attempt_that_was_replaced_changes_nothing(session: Session, outcome: str) -> None:
    stale = running(session)
    lifecycle.rescue(session, [WORKER])
    claim(session, stale.job_id, "another@here/2")
    before = row_of(session, stale.job_id), attempts_of(session, stale.job_id)

    assert lifecycle.settle(session, [OUTCOMES[outcome](stale)]) == set()

    assert (row_of(session, stale.job_id), attempts_of(session, stale.job_id)) == before
    assert not lifecycle.still_held(session, stale)


def test_a_job_is_recorded_as_succeeded_once(session: Session) -> None:
    claimed = running(session)

    assert lifecycle.settle(session, [Succeeded(claimed, "1")]) == {claimed.job_id}
    assert lifecycle.settle(session, [Succeeded(claimed, "2")]) == set()

    assert row_of(session, claimed.job_id)["result"] == "1"


def test_a_group_of_outcomes_settles_those_that_are_still_held(session: Session) -> None:
    good, lost, bad = running(session), running(session), running(session)
    lifecycle.cancel(session, lost.job_id)

    mine = lifecycle.settle(session, [Succeeded(good, "1"), Succeeded(lost, "2"), Failed(bad, BOOM)])

    assert mine == {good.job_id, bad.job_id}
    assert [state_of(session, claimed.job_id) for claimed in (good, lost, bad)] == [S, C, F]


def test_settling_nothing_is_nothing(session: Session) -> None:
    assert lifecycle.settle(session, []) == set()


# --- running ─▶ somewhere ---------------------------------------------------------------------------------


def test_success_forgets_the_error_of_an_earlier_attempt(session: Session) -> None:
    first = running(session)
    lifecycle.settle(session, [RetryLater(first, BOOM)])

    lifecycle.settle(session, [Succeeded(claim(session, first.job_id), '"fine"')])

    row = row_of(session, first.job_id)
    assert (row["result"], row["error_type"], row["error_traceback"]) == ('"fine"', None, None)
    assert history_of(session, first.job_id) == [(1, "retried")]


def test_a_retry_waits_for_its_backoff_and_keeps_its_new_values(session: Session) -> None:
    claimed = running(session)

    lifecycle.settle(session, [RetryLater(claimed, BOOM, 60, changes={"retries": 1, "args": "[2]"})])

    row = row_of(session, claimed.job_id)
    assert 55 < (row["run_at"] - row["created_at"]).total_seconds() < 75
    assert (row["retries"], row["args"], row["error_type"]) == (1, "[2]", "ValueError")
    assert (row["worker"], row["started_at"], row["queued_at"]) == (None, None, None)


def test_a_retry_may_name_its_moment(session: Session) -> None:
    claimed = running(session)
    moment = datetime(2030, 1, 1, 12, 30, 15, 123456, tzinfo=UTC)

    lifecycle.settle(session, [RetryLater(claimed, None, run_at=moment)])

    assert row_of(session, claimed.job_id)["run_at"] == moment


def test_a_planned_stop_is_not_counted(session: Session) -> None:
    job_id = waiting(session)
    for _ in range(5):
        lifecycle.settle(session, [Stopped(claim(session, job_id))])

    row = row_of(session, job_id)
    assert (row["state"], row["crashes"], row["retries"], row["attempt"]) == (W, 0, 0, 5)
    assert history_of(session, job_id) == [(number, "stopped") for number in range(1, 6)]
    assert lifecycle.claim(session, [newest(session, job_id)], WORKER)


@pytest.mark.parametrize("end", [lambda held: Stopped(held), lambda held: Crashed(held, BOOM)])
def test_a_job_that_was_stopped_or_lost_its_process_once_keeps_its_place_in_line(session: Session, end: Any) -> None:
    job_id = waiting(session)
    pass_seconds(session, job_id, 600, "run_at")
    due = row_of(session, job_id)["run_at"]

    lifecycle.settle(session, [end(claim(session, job_id))])

    assert row_of(session, job_id)["run_at"] == due


def test_the_third_crash_fails_the_job_with_the_evidence(session: Session) -> None:
    job_id = waiting(session)
    lost = Error("WorkerLost", "The process 7 that ran it was ended by SIGKILL.")
    states = []
    for _ in range(3):
        pass_seconds(session, job_id, 1, "run_at")
        lifecycle.settle(session, [Crashed(claim(session, job_id), lost)])
        states.append(state_of(session, job_id))

    row = row_of(session, job_id)
    assert states == [W, W, F]
    assert (row["crashes"], row["error_type"]) == (3, "WorkerLost")
    assert "3 crashes" in row["error_message"]
    assert "SIGKILL" in row["error_message"]
    assert history_of(session, job_id) == [(1, "crashed"), (2, "crashed")]


def test_the_first_crash_runs_again_at_once_and_the_second_after_a_moment(session: Session) -> None:
    job_id = waiting(session)
    lifecycle.settle(session, [Crashed(claim(session, job_id), BOOM)])
    again = claim(session, job_id)
    lifecycle.settle(session, [Crashed(again, BOOM)])

    assert lifecycle.claim(session, [newest(session, job_id)], WORKER) == {}


def test_dead_leases_count_as_crashes(session: Session) -> None:
    job_id = waiting(session)
    for _ in range(3):
        pass_seconds(session, job_id, 1, "run_at")
        claim(session, job_id)
        assert lifecycle.rescue(session, [WORKER]) == [job_id]

    assert state_of(session, job_id) == F
    assert row_of(session, job_id)["error_type"] == "LeaseExpired"


def test_a_rescue_touches_only_the_jobs_of_the_dead(session: Session) -> None:
    mine = running(session)
    theirs = claim(session, waiting(session), "alive@here/9")

    assert lifecycle.rescue(session, [WORKER, "nobody@here/0"]) == [mine.job_id]

    assert state_of(session, theirs.job_id) == R
    assert history_of(session, mine.job_id) == [(1, "rescued")]


def test_a_cancelled_attempt_is_fenced_from_there_on(session: Session) -> None:
    claimed = running(session)

    lifecycle.cancel(session, claimed.job_id, by="ada")

    assert not lifecycle.still_held(session, claimed)
    row = row_of(session, claimed.job_id)
    assert (row["error_type"], row["error_message"]) == ("Cancelled", "Cancelled by ada.")


# --- run again, prune -------------------------------------------------------------------------------------


def test_running_again_archives_the_failure_and_restores_every_retry(session: Session) -> None:
    job_id = failed(session, retries=2, max_retries=3, unique_key="k")

    assert lifecycle.run_again(session, job_id)

    row = row_of(session, job_id)
    assert (row["retries"], row["crashes"], row["finished_at"], row["error_type"]) == (0, 0, None, None)
    assert (row["live_key"], row["max_retries"], row["attempt"]) == ("k", 3, 1)
    past = session.scalars(select(Attempt).where(Attempt.job_id == job_id)).one()
    assert (past.number, past.outcome, past.error_message) == (1, "failed", "boom")
    assert claim(session, job_id).number == 2


def test_running_again_forgets_an_expiry_that_has_passed(session: Session) -> None:
    job_id = waiting(session, expires_at=datetime(2020, 1, 1, tzinfo=UTC))
    assert lifecycle.claim(session, [Hint(job_id)], WORKER) == {}
    assert state_of(session, job_id) == C

    lifecycle.run_again(session, job_id)

    assert claim(session, job_id).number == 1


def test_a_job_that_never_ran_leaves_no_attempt_when_it_runs_again(session: Session) -> None:
    job_id = in_state(session, C)

    assert lifecycle.run_again(session, job_id)

    assert attempts_of(session, job_id) == 0


def test_a_job_may_run_again_and_again(session: Session) -> None:
    job_id = failed(session)
    for _ in range(3):
        assert lifecycle.run_again(session, job_id)
        send(session, job_id)
        lifecycle.settle(session, [Failed(claim(session, job_id), BOOM)])

    assert history_of(session, job_id) == [(1, "failed"), (2, "failed"), (3, "failed")]
    assert row_of(session, job_id)["attempt"] == 4


def test_a_cancelled_job_that_ran_keeps_its_attempt(session: Session) -> None:
    claimed = running(session)
    lifecycle.cancel(session, claimed.job_id)

    lifecycle.run_again(session, claimed.job_id)

    assert history_of(session, claimed.job_id) == [(1, "cancelled")]


def test_prune_takes_the_attempts_and_the_progress_along(session: Session) -> None:
    claimed = running(session)
    lifecycle.settle(session, [RetryLater(claimed, BOOM)])
    session.add(Progress(job_id=claimed.job_id, attempt=1, current=1))
    lifecycle.settle(session, [Succeeded(claim(session, claimed.job_id))])
    pass_seconds(session, claimed.job_id, 90000, "finished_at")

    assert lifecycle.prune(session, 1, 1) == 1

    assert attempts_of(session, claimed.job_id) == 0
    assert session.get(Progress, claimed.job_id, populate_existing=True) is None


def test_prune_keeps_failures_longer_than_successes(session: Session) -> None:
    good, bad = in_state(session, S), in_state(session, F)
    for job_id in (good, bad):
        pass_seconds(session, job_id, 86400 * 8, "finished_at")

    assert lifecycle.prune(session, succeeded_days=7, failed_days=90) == 1

    assert state_of(session, bad) == F


def test_prune_stops_at_its_limit(session: Session) -> None:
    for _ in range(5):
        pass_seconds(session, in_state(session, S), 100, "finished_at")

    assert [lifecycle.prune(session, 0, 0, limit=3) for _ in range(3)] == [3, 2, 0]
