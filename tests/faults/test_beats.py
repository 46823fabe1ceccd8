"""Beats that are missing, doubled or killed in a tick: each due time is one job."""

import pytest
from sqlalchemy import select

from flaskapp.jobs.models import Job, JobState
from tests.acceptance.conftest import Stack
from tests.faults.deadly import TICKS
from tests.faults.ledger import Ledger
from tests.faults.servers import launch_beat
from tests.helpers import kill, wait_until


def scheduled(stack: Stack) -> list[Job]:
    with stack.bench.session() as session:
        query = select(Job).where(Job.schedule == "every-moment").order_by(Job.run_at)
        return list(session.scalars(query))


def some_are_scheduled(stack: Stack, count: int) -> list[Job]:
    return wait_until(
        lambda: found if len(found := scheduled(stack)) >= count else [], 30, f"{count} jobs of the schedule"
    )


def assert_each_due_time_is_one_job(jobs: list[Job], every: float) -> None:
    due = [job.run_at for job in jobs]
    assert len(due) == len(set(due))
    assert {round((when - due[0]).total_seconds() % every, 3) for when in due} <= {0.0, every}


@pytest.mark.parametrize("stack", ["SQLite and folder"], indirect=True)
def test_a_beat_that_is_missing_is_stood_in_for(stack: Stack) -> None:
    stack.start_worker(TEST_SCHEDULE_SECONDS="1")
    later = stack.bench.fate("ok", countdown=1)

    (job,) = stack.bench.finished([later], 30)

    assert job.state == JobState.SUCCEEDED
    some_are_scheduled(stack, 1)


def test_two_beats_make_one_job_for_each_due_time(stack: Stack) -> None:
    for _ in range(2):
        stack.start_beat(TEST_SCHEDULE_SECONDS="0.5")

    assert_each_due_time_is_one_job(some_are_scheduled(stack, 6), 0.5)


@pytest.mark.parametrize("place", TICKS)
def test_a_beat_killed_in_a_tick_leaves_its_work_to_the_other(stack: Stack, ledger: Ledger, place: str) -> None:
    proof = stack.bench.folder / "proof"
    lost = stack.start_worker()
    job_id = stack.bench.fate("sleep_in_first", "rescued", 60)
    wait_until(lambda: stack.bench.state(job_id) == JobState.RUNNING, 30, "it runs")
    armed = {"TEST_SCHEDULE_SECONDS": "0.5", "DIE_AT": place, "DIE_PROOF": str(proof)}
    two = [launch_beat(stack, f"doomed {n}", **armed) for n in range(2)]

    kill(lost)

    wait_until(lambda: [beat for beat in two if beat.popen.poll() is not None], 30, "one of the beats has died")
    assert proof.exists()
    stack.start_worker()
    some_are_scheduled(stack, 4)
    ledger.reckon(stack, f"one of two beats killed: {place}", [job_id], ["rescued"])
    assert stack.bench.job(job_id).crashes == 1
    assert_each_due_time_is_one_job(scheduled(stack), 0.5)
