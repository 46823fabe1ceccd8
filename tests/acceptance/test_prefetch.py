"""A busy worker keeps nothing from an idle one."""

from flaskapp.worker.prefetch import MANY
from tests.acceptance.conftest import Stack
from tests.helpers import wait_until


def test_what_a_busy_worker_fetched_too_much_runs_on_another(stack: Stack) -> None:
    busy = stack.start_worker(concurrency=1)
    stack.bench.finished([stack.bench.submit("diagnostics.echo", n) for n in range(60)], 60)
    wait_until(lambda: f"Fetching {MANY} messages ahead" in busy.says(), 20, "it fetches many")
    long = stack.bench.fate("sleep", 100)
    wait_until(lambda: stack.bench.state(long) == "running", 20, "the long job runs")

    waiting = [stack.bench.submit("diagnostics.echo", n) for n in range(60)]
    stack.start_worker(concurrency=1)

    wait_until(lambda: ended(stack, waiting) == len(waiting), 60, "they have run on the other")
    assert stack.bench.state(long) == "running"


def test_no_long_job_waits_behind_another_while_a_slot_is_free(stack: Stack) -> None:
    for _ in range(2):
        stack.start_worker(concurrency=2)
    stack.bench.finished([stack.bench.submit("diagnostics.echo", n) for n in range(60)], 60)

    long = [stack.bench.fate("sleep", 100) for _ in range(4)]

    wait_until(lambda: running(stack) == set(long), 30, "every slot is taken")
    stack.start_worker(concurrency=2)
    more = [stack.bench.fate("sleep", 100) for _ in range(2)]
    wait_until(lambda: running(stack) == {*long, *more}, 30, "the third worker has them")


def test_a_worker_that_had_no_free_slot_goes_on_with_the_next(stack: Stack) -> None:
    stack.start_worker(concurrency=1)
    jobs = [stack.bench.fate("sleep", 1.2) for _ in range(6)]

    stack.bench.finished(jobs, 60)

    assert {(job.attempt, job.sends) for job in stack.bench.jobs() if job.id in jobs} == {(1, 1)}


def test_long_jobs_of_one_queue_leave_every_second_turn_to_another(stack: Stack) -> None:
    """Longer than our patience: what was fetched with the one that runs has gone back."""
    long = [stack.bench.fate("sleep", 5.5) for _ in range(4)]
    others = [stack.bench.fate("ok", queue="mail") for _ in range(2)]
    wait_until(lambda: {stack.bench.state(job) for job in (*long, *others)} == {"queued"}, 20, "all are queued")

    stack.start_worker(concurrency=1, queues=["default", "mail"])

    stack.bench.finished(others, 60)
    assert [job.is_final for job in map(stack.bench.job, long)].count(True) <= 2


def test_a_pool_that_may_grow_runs_as_many_jobs_as_it_may(stack: Stack) -> None:
    stack.start_worker(1, options=["--autoscale", "3,1"])

    jobs = {stack.bench.fate("sleep", 60) for _ in range(3)}

    wait_until(lambda: running(stack) == jobs, 20, "all three run")


def running(stack: Stack) -> set[str]:
    return {job.id for job in stack.bench.jobs() if job.state == "running"}


def ended(stack: Stack, job_ids: list[str]) -> int:
    return sum(stack.bench.job(job_id).is_final for job_id in job_ids)
