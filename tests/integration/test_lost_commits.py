"""A commit whose answer is lost is looked up: nothing is done twice, no failure is counted, no job is left running."""

import pytest

from flaskapp.jobs.models import JobState
from tests.helpers import Bench

S, F = JobState.SUCCEEDED, JobState.FAILED


@pytest.mark.parametrize("moments", [["before"], ["before", "before"], ["before", "after"]])
def test_a_success_that_was_not_committed_is_put_back_uncounted(bench: Bench, moments: list[str]) -> None:
    job_id = bench.fate("lose_commits", "k", moments)

    assert bench.run() == [job_id] * 2

    job = bench.job(job_id)
    assert (job.state, job.crashes, job.retries, len(bench.effects("k"))) == (S, 0, 0, 1)
    assert [attempt.outcome for attempt in bench.attempts(job_id)] == ["stopped"]


@pytest.mark.parametrize("moments", [["after"]])
def test_a_success_whose_answer_was_lost_is_one_success(bench: Bench, moments: list[str]) -> None:
    job_id = bench.fate("lose_commits", "k", moments)

    assert bench.run() == [job_id]

    assert (bench.state(job_id), bench.job(job_id).attempt, len(bench.effects("k"))) == (S, 1, 1)


@pytest.mark.parametrize("moments", [["before"], ["before", "before"]])
def test_a_failure_that_was_not_committed_is_put_back(bench: Bench, moments: list[str]) -> None:
    job_id = bench.fate("fail_and_lose_commits", "k", moments)

    bench.run()

    assert bench.attempts(job_id)[0].outcome == "stopped"


def test_a_failure_whose_answer_was_lost_is_one_failure(bench: Bench) -> None:
    job_id = bench.fate("fail_and_lose_commits", "k", ["after"])

    assert bench.run() == [job_id]

    assert (bench.state(job_id), bench.job(job_id).attempt, bench.effects("k")) == (F, 1, [])


def test_a_replaced_task_that_leaves_a_wrong_row_fails(bench: Bench) -> None:
    job_id = bench.fate("replace_with_a_wrong_row")

    assert bench.run() == [job_id]

    assert (bench.state(job_id), bench.job(job_id).error_type) == (F, "IntegrityError")
