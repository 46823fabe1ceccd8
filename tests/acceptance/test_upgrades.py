"""Old and new workers side by side, as in an upgrade: what only the new ones know waits for them, and then runs."""

from flaskapp.jobs.models import JobState
from flaskapp.jobs.unknown import UNKNOWN
from tests.acceptance.conftest import Stack
from tests.helpers import wait_until

NEWER = "tests.of_a_newer_version"


def test_a_job_waits_for_the_first_worker_that_knows_its_task(stack: Stack) -> None:
    stack.start_beat()
    stack.start_worker()
    job_id = stack.bench.submit(NEWER, "hello")
    wait_until(lambda: stack.bench.job(job_id).sender == UNKNOWN, 20, "it is held")
    sends = stack.bench.job(job_id).sends
    stack.bench.finished([stack.bench.fate("ok")])

    assert (stack.bench.state(job_id), stack.bench.job(job_id).sends) == (JobState.WAITING, sends)
    stack.start_worker(TEST_NEWER="1")

    (job,) = stack.bench.finished([job_id], 20)
    assert (job.state, job.result) == (JobState.SUCCEEDED, '"hello"')


def test_a_mixed_fleet_starves_nobody(stack: Stack) -> None:
    stack.start_beat()
    stack.start_worker()
    stack.start_worker(TEST_NEWER="1")

    jobs = stack.bench.finished([stack.bench.submit(NEWER, n) for n in range(20)], 60)

    assert {job.state for job in jobs} == {JobState.SUCCEEDED}
    assert {job.attempt for job in jobs} == {1}
