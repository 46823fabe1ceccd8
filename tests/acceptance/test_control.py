"""Pauses, limits, expiry, cancels and time limits on two real workers with Celery's remote control switched off."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select

from flaskapp.jobs import control, lifecycle
from flaskapp.jobs.limits import Rule
from flaskapp.jobs.models import Job, JobState, Worker
from flaskapp.jobs.outcomes import Wish
from flaskapp.jobs.window import LEAST
from tests.acceptance.conftest import STACKS, Stack, make_stack
from tests.helpers import make_current, wait_until
from tests.tasks_for_tests import fate

S, F, C = JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED
WITHOUT = {"TEST_WITHOUT_REMOTE_CONTROL": "1"}


@pytest.fixture(scope="module", params=STACKS)
def controlled_stack(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    for stack in make_stack(request, tmp_path_factory.mktemp("controlled")):
        for _ in range(2):
            stack.start_worker(**WITHOUT)
        stack.start_beat()
        yield stack


@pytest.fixture
def calm(controlled_stack: Stack) -> Stack:
    make_current(controlled_stack.bench.app)
    return controlled_stack


def set_limit(stack: Stack, key: str, rule: Rule) -> None:
    with stack.bench.session() as session, session.begin():
        control.set_limit(session, key, rule)


def set_queue_limits(stack: Stack, name: str, rule: Rule) -> None:
    with stack.bench.session() as session, session.begin():
        control.set_queue_limits(session, name, rule)


def pause(stack: Stack, queue: str) -> None:
    with stack.bench.session() as session, session.begin():
        assert control.pause_queue(session, queue)


def resume(stack: Stack, queue: str) -> None:
    with stack.bench.session() as session, session.begin():
        assert control.resume_queue(session, queue)
    stack.celery.relay.nudge()


def cancel(stack: Stack, job_id: str) -> None:
    with stack.bench.session() as session, session.begin():
        assert lifecycle.cancel(session, job_id, by="ada")


def occupy(stack: Stack, number: int, key: str, seconds: float, **options: Any) -> list[str]:
    return [stack.bench.fate("occupy", key, seconds, **options) for _ in range(number)]


def most_at_a_time(stack: Stack, key: str) -> int:
    """By what the tasks wrote down themselves."""
    begins = [(row.at, 1) for row in stack.bench.effects(f"{key} begins")]
    ends = [(row.at, -1) for row in stack.bench.effects(f"{key} ends")]
    running = most = 0
    # At one moment an end goes before a begin: SQLite's clock has milliseconds.
    for _, step in sorted(begins + ends):
        running += step
        most = max(most, running)
    return most


def most_in_a_span(jobs: list[Job], seconds: float) -> int:
    starts = sorted(job.started_at for job in jobs if job.started_at is not None)
    return max(sum(first <= other < first + timedelta(seconds=seconds) for other in starts) for first in starts)


def ran_well(jobs: list[Job]) -> bool:
    """All succeeded at the first go; one that was claimed ahead and found no slot in time may have been put back."""
    return {(job.state, job.retries, job.crashes) for job in jobs} == {(S, 0, 0)}


def test_no_worker_listens_to_broadcasts(calm: Stack) -> None:
    assert calm.celery.control.ping(timeout=1) == []


# --- limits -----------------------------------------------------------------------------------------------


def test_no_more_jobs_of_a_key_run_together_than_its_limit(calm: Stack) -> None:
    set_limit(calm, "pair", Rule(max_running=2))

    jobs = calm.bench.finished(occupy(calm, 40, "pair", 0.1, limit_key="pair"), 60)

    assert ran_well(jobs)
    assert most_at_a_time(calm, "pair") == 2
    assert max(job.sends for job in jobs) <= 2


def test_two_hundred_jobs_one_at_a_time_do_not_cycle_through_the_broker(calm: Stack) -> None:
    set_limit(calm, "single", Rule(max_running=1))

    jobs = calm.bench.finished(occupy(calm, 200, "single", 0.01, limit_key="single"), 100)

    assert ran_well(jobs)
    assert most_at_a_time(calm, "single") == 1
    assert max(job.sends for job in jobs) <= 2
    assert sum(job.sends for job in jobs) <= 220


def test_no_more_jobs_of_a_queue_run_together_than_its_limit(calm: Stack) -> None:
    set_queue_limits(calm, "mail", Rule(max_running=1))
    try:
        jobs = calm.bench.finished(occupy(calm, 20, "queue", 0.1, queue="mail"), 60)
    finally:
        set_queue_limits(calm, "mail", Rule())

    assert ran_well(jobs)
    assert most_at_a_time(calm, "queue") == 1


def test_a_limit_that_comes_when_all_are_at_the_broker_holds(stack: Stack) -> None:
    ids = occupy(stack, 30, "late", 0.1, limit_key="late")
    wait_until(lambda: {stack.bench.state(each) for each in ids} == {JobState.QUEUED}, 20, "all are at the broker")
    set_limit(stack, "late", Rule(max_running=1))
    stack.start_worker(**WITHOUT)
    stack.start_worker(**WITHOUT)

    jobs = stack.bench.finished(ids, 60)

    assert ran_well(jobs)
    assert most_at_a_time(stack, "late") == 1


def test_a_rate_holds_over_every_span(calm: Stack) -> None:
    set_limit(calm, "rated", Rule(rate_count=5, rate_seconds=2))

    jobs = calm.bench.finished([calm.bench.fate("ok", limit_key="rated") for _ in range(18)], 60)

    assert ran_well(jobs)
    assert most_in_a_span(jobs, 2) == 5


def test_those_without_a_limit_pass_those_that_wait(calm: Stack) -> None:
    set_limit(calm, "slow", Rule(max_running=1))
    slow = occupy(calm, 3, "slow", 1.5, limit_key="slow")

    free = calm.bench.finished(occupy(calm, 5, "free", 0.01))

    assert not all(calm.bench.job(each).is_final for each in slow)
    assert ran_well(free)
    assert ran_well(calm.bench.finished(slow))


def test_cancelling_a_limited_job_lets_the_next_one_start(calm: Stack) -> None:
    set_limit(calm, "cancelled", Rule(max_running=1))
    first = calm.bench.fate("sleep", 60, limit_key="cancelled")
    wait_until(lambda: calm.bench.state(first) == JobState.RUNNING, 20, "the first one runs")
    second = calm.bench.fate("ok", limit_key="cancelled")

    cancel(calm, first)

    (job,) = calm.bench.finished([second])
    assert (job.state, calm.bench.state(first)) == (S, C)


def test_a_limited_job_whose_process_dies_gives_its_place_free(calm: Stack) -> None:
    set_limit(calm, "crashing", Rule(max_running=1))

    jobs = calm.bench.finished([calm.bench.submit("diagnostics.crash", 1, limit_key="crashing") for _ in range(3)], 60)

    assert {(job.state, job.attempt) for job in jobs} == {(S, 2)}


# --- pause ------------------------------------------------------------------------------------------------


def test_a_pause_holds_what_is_at_the_broker_already(stack: Stack) -> None:
    ids = [stack.bench.fate("ok", queue="mail") for _ in range(30)]
    wait_until(lambda: {stack.bench.state(each) for each in ids} == {JobState.QUEUED}, 20, "all are at the broker")
    pause(stack, "mail")
    stack.start_worker(**WITHOUT)

    wait_until(lambda: {stack.bench.state(each) for each in ids} == {JobState.WAITING}, 20, "all are held")
    assert ran_well(stack.bench.finished([stack.bench.fate("ok")]))
    assert {stack.bench.job(each).attempt for each in ids} == {0}

    resume(stack, "mail")
    jobs = stack.bench.finished(ids)
    assert ran_well(jobs)
    assert {job.sends for job in jobs} == {2}


def test_after_a_pause_in_full_flow_nothing_starts_until_it_goes_on(calm: Stack) -> None:
    ids = occupy(calm, 60, "flow", 0.05, queue="query")
    wait_until(lambda: len(calm.bench.effects("flow ends")) >= 5, 20, "some have run")
    pause(calm, "query")

    def nothing_is_under_way() -> bool:
        return {calm.bench.state(each) for each in ids} <= {S, JobState.WAITING}

    wait_until(nothing_is_under_way, 20, "the rest is held")
    ran = {each for each in ids if calm.bench.state(each) == S}
    calm.bench.finished([calm.bench.fate("ok") for _ in range(5)])
    assert {each for each in ids if calm.bench.state(each) == S} == ran
    assert len(ran) < len(ids)

    resume(calm, "query")
    assert ran_well(calm.bench.finished(ids, 40))


# --- priorities -------------------------------------------------------------------------------------------


def test_a_job_of_high_priority_overtakes_those_that_wait(stack: Stack) -> None:
    pause(stack, "default")
    usual = [stack.bench.fate("ok") for _ in range(5)]
    urgent = stack.bench.fate("ok", priority=9)
    stack.start_worker(1, **WITHOUT)

    resume(stack, "default")

    jobs = stack.bench.finished([*usual, urgent])
    assert min(jobs, key=lambda job: (job.started_at, job.id != urgent)).id == urgent


def test_a_worker_that_was_quick_gets_no_long_line_of_slow_jobs(stack: Stack) -> None:
    stack.start_worker(2, **WITHOUT)
    stack.start_beat()
    for _ in range(5):
        stack.bench.finished([stack.bench.fate("ok")])
    wait_until(lambda: shown_pace(stack) is None, 30, "what it once did proves nothing any more")

    with stack.bench.session() as session, session.begin():
        lifecycle.submit(session, [Wish("tests.fate", '["sleep", 1.0]') for _ in range(1000)])
    stack.celery.relay.nudge()
    wait_until(lambda: stack.bench.account().states["succeeded"] >= 5 + 4, 60, "some of them have run")

    # Of two relays each may fill the window once before it sees what the other one sent.
    assert stack.bench.account().states["queued"] <= 2 * LEAST


def shown_pace(stack: Stack) -> float | None:
    with stack.bench.session() as session:
        return session.scalars(select(Worker.pace).where(Worker.kind == "worker")).one()


def test_a_retry_keeps_the_priority_and_the_key_of_its_caller(calm: Stack) -> None:
    job_id = calm.bench.fate("retry", 1, priority=9, limit_key="a callers")

    (job,) = calm.bench.finished([job_id])

    assert (job.state, job.retries, job.priority, job.limit_key) == (S, 1, 9, "a callers")


# --- expiry and cancels -----------------------------------------------------------------------------------


def test_a_job_that_nobody_may_start_expires(calm: Stack) -> None:
    pause(calm, "uploads")
    set_limit(calm, "blocked", Rule(max_running=1))
    blocker = calm.bench.fate("sleep", 60, limit_key="blocked")
    wait_until(lambda: calm.bench.state(blocker) == JobState.RUNNING, 20, "the only place is taken")

    jobs = calm.bench.finished(
        [
            calm.bench.fate("ok", queue="uploads", expires=1),
            calm.bench.fate("ok", limit_key="blocked", expires=1),
        ]
    )

    cancel(calm, blocker)
    resume(calm, "uploads")
    assert [(job.state, job.error_type, job.attempt) for job in jobs] == [(C, "Expired", 0)] * 2


def test_a_cancelled_job_does_not_run_whether_it_waits_or_is_queued(stack: Stack) -> None:
    pause(stack, "mail")
    waits, is_queued = stack.bench.fate("ok", queue="mail"), stack.bench.fate("ok")
    wait_until(lambda: stack.bench.state(is_queued) == JobState.QUEUED, 20, "it is queued")

    cancel(stack, waits)
    cancel(stack, is_queued)
    resume(stack, "mail")
    stack.start_worker(**WITHOUT)

    assert ran_well(stack.bench.finished([stack.bench.fate("ok"), stack.bench.fate("ok", queue="mail")]))
    assert [(stack.bench.state(each), stack.bench.job(each).attempt) for each in (waits, is_queued)] == [(C, 0)] * 2


def test_a_cancelled_running_job_is_stopped(calm: Stack) -> None:
    doomed = [calm.bench.fate("write_and_sleep", "doomed", 60) for _ in range(4)]
    wait_until(lambda: {calm.bench.state(each) for each in doomed} == {JobState.RUNNING}, 20, "every slot is taken")

    for each in doomed:
        cancel(calm, each)

    jobs = calm.bench.finished([calm.bench.fate("ok") for _ in range(4)])
    assert {job.state for job in jobs} == {S}
    assert calm.bench.effects("doomed") == []


# --- time limits ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("task", "args", "options"),
    [
        ("tests.limited", [30], {}),
        ("tests.limited", [30], {"time_limit": 2}),
        ("tests.fate", ["sleep", 30], {"time_limit": 1}),
    ],
    ids=["the task's", "both", "the caller's"],
)
def test_a_hard_time_limit_ends_the_job(calm: Stack, task: str, args: list[Any], options: dict[str, Any]) -> None:
    (job,) = calm.bench.finished([calm.bench.submit(task, *args, **options)])

    assert (job.state, job.error_type) == (F, "TimeLimitExceeded")
    limit = options.get("time_limit", 1)
    assert job.error_message == f"It ran longer than its time limit of {limit} s and was stopped."


@pytest.mark.parametrize(
    ("task", "args", "options"),
    [("tests.limited_softly", [30], {}), ("tests.fate", ["sleep", 30], {"soft_time_limit": 1})],
    ids=["the task's", "the caller's"],
)
def test_a_soft_time_limit_fails_a_task_that_does_not_catch_it(
    calm: Stack, task: str, args: list[Any], options: dict[str, Any]
) -> None:
    (job,) = calm.bench.finished([calm.bench.submit(task, *args, **options)])

    assert (job.state, job.error_type) == (F, "SoftTimeLimitExceeded")


def test_a_task_may_tidy_up_at_its_soft_time_limit(calm: Stack) -> None:
    result = fate.apply_async(("catch_soft_limit", 30), soft_time_limit=1, time_limit=20)

    assert result.get(timeout=20) == "half of it"


# --- in the end -------------------------------------------------------------------------------------------


def test_nothing_is_lost_or_held_for_ever(calm: Stack) -> None:
    def live() -> list[tuple[str, str]]:
        return [(job.id, job.state) for job in calm.bench.jobs() if not job.is_final]

    wait_until(lambda: not live() and not calm.bench.account().drift, 20, "every job is final and the books balance")
