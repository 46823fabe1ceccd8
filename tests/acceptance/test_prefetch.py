"""A busy worker keeps nothing from an idle one."""

from flaskapp.worker.prefetch import FEW, MANY
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

    wait_until(lambda: ended(stack, waiting) >= len(waiting) - FEW, 60, "all but a few have run on the other")
    assert stack.bench.state(long) == "running"


def ended(stack: Stack, job_ids: list[str]) -> int:
    return sum(stack.bench.job(job_id).is_final for job_id in job_ids)
