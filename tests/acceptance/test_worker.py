"""A real worker and a real beat, unharmed: what is submitted runs, on time, once, and its result comes back."""

import re
import socket

import pytest
from celery import chain, chord, group

from flaskapp.jobs import lifecycle
from flaskapp.jobs.models import JobState
from tests.acceptance.conftest import Stack
from tests.helpers import wait_until
from tests.tasks_for_tests import add, fate

S, F, C = JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED


def test_a_job_runs_and_its_result_comes_back(calm: Stack) -> None:
    assert add.delay(1, 2).get(timeout=15) == 3


def test_a_job_for_later_runs_when_it_is_due(calm: Stack) -> None:
    result = add.apply_async((1,), countdown=1.5)

    (job,) = calm.bench.finished([result.id])

    assert job.state == S
    assert job.started_at is not None
    assert 0 <= (job.started_at - job.run_at).total_seconds() < 2


def test_a_retry_comes_back_by_itself(calm: Stack) -> None:
    result = calm.celery.send_task("diagnostics.fail", args=[2])

    assert result.get(timeout=15) == 2
    assert [attempt.outcome for attempt in calm.bench.attempts(result.id)] == ["retried", "retried"]


def test_a_chain_gives_the_result_of_its_last_step(calm: Stack) -> None:
    assert chain(add.s(1, 2), add.s(10), add.s(100))().get(timeout=15) == 113


def test_a_group_gives_the_results_of_all(calm: Stack) -> None:
    assert group(add.s(n, 1) for n in range(10))().get(timeout=15) == list(range(1, 11))


def test_a_chord_adds_up_what_its_header_gave(calm: Stack) -> None:
    assert chord([add.s(n) for n in range(4)])(add.s()).get(timeout=20) == 6


def test_a_hundred_jobs_run_once_each(calm: Stack) -> None:
    ids = [calm.celery.send_task("diagnostics.effect", args=[f"many {n}"]).id for n in range(100)]

    calm.bench.finished(ids, 30)

    assert [len(calm.bench.effects(f"many {n}")) for n in range(100)] == [1] * 100


def test_a_failure_comes_back_with_its_traceback(calm: Stack) -> None:
    result = fate.delay("fail", "boom")

    with pytest.raises(ValueError, match="boom"):
        result.get(timeout=15)
    assert "raise ValueError(message)" in result.traceback


def test_a_queue_of_ones_own_is_served_by_a_worker_that_names_it(calm: Stack) -> None:
    calm.start_worker(1, ["mine"])

    assert add.apply_async((1, 2), queue="mine").get(timeout=15) == 3


def test_a_queue_that_a_running_worker_is_told_to_serve_is_reached(calm: Stack) -> None:
    assert calm.celery.control.add_consumer("hers", reply=True, timeout=5)

    assert add.apply_async((1, 2), queue="hers").get(timeout=15) == 3


def test_cancelling_a_running_job_stops_it_and_no_other(calm: Stack) -> None:
    doomed, bystander = calm.bench.fate("write_and_sleep", "doomed", 60), calm.bench.fate("sleep", 4)
    wait_until(
        lambda: {calm.bench.state(doomed), calm.bench.state(bystander)} == {JobState.RUNNING}, 15, "both are running"
    )

    with calm.bench.session() as session, session.begin():
        assert lifecycle.cancel(session, doomed, by="ada")

    done = calm.bench.finished([bystander, calm.bench.fate("sleep", 0.1), calm.bench.fate("sleep", 0.1)], 15)
    assert [job.state for job in done] == [S, S, S]
    assert (done[0].attempt, calm.bench.state(doomed), calm.bench.effects("doomed")) == (1, C, [])


def test_revoke_stops_a_running_job(calm: Stack) -> None:
    result = fate.delay("sleep", 60)
    wait_until(lambda: result.state == "STARTED", 15, "it runs")

    result.revoke()

    two = [fate.delay("sleep", 0.1) for _ in range(2)]
    assert [each.get(timeout=15) for each in two] == [0.1, 0.1]


def test_a_process_that_leaves_by_itself_counts_as_a_crash(calm: Stack) -> None:
    job_id = calm.bench.fate("leave_once")

    (job,) = calm.bench.finished([job_id])

    assert (job.state, job.attempt, job.crashes) == (S, 2, 1)
    assert "3" in (calm.bench.attempts(job_id)[0].error_message or "")


def test_a_pool_process_that_dies_once_runs_the_job_again(calm: Stack) -> None:
    job_id = calm.bench.submit("diagnostics.crash", 1)

    (job,) = calm.bench.finished([job_id])

    assert (job.state, job.result, job.attempt, job.crashes) == (S, "2", 2, 1)
    (lost,) = calm.bench.attempts(job_id)
    assert lost.outcome == "crashed"
    assert "SIGKILL" in (lost.error_message or "")


def test_a_parked_job_tells_signal_host_memory_and_how_far_it_came(calm: Stack) -> None:
    (job,) = calm.bench.finished([calm.bench.fate("swell_and_die", 300)], 90)

    message = job.error_message or ""
    assert (job.state, job.error_type, job.crashes) == (F, "WorkerLost", 3)
    assert (found := re.search(r"Stopped after 3 crashes \(signal 9, (\d+)\.\d MB\)\. ", message)), message
    assert 300 <= int(found[1]) < 900
    assert f"on {socket.gethostname()} that ran it was ended by SIGKILL (signal 9)." in message
    assert "It had come to 48,112 of 100,000: reading." in message


def test_the_callers_retries_are_left_after_a_time_limit_too(calm: Stack) -> None:
    job_id = calm.bench.fate("sleep_in_first", "limited", 60, time_limit=1, max_attempts=2)

    (job,) = calm.bench.finished([job_id], 30)

    assert (job.state, job.attempt, job.retries, job.crashes) == (S, 2, 1, 0)
    assert [(each.outcome, each.error_type) for each in calm.bench.attempts(job_id)] == [
        ("retried", "TimeLimitExceeded")
    ]


def test_without_a_retry_left_a_time_limit_is_the_end(calm: Stack) -> None:
    job_id = calm.bench.fate("sleep", 60, time_limit=1, max_attempts=1)

    (job,) = calm.bench.finished([job_id], 30)

    assert (job.state, job.attempt, job.error_type) == (F, 1, "TimeLimitExceeded")


def test_a_job_that_always_kills_its_process_fails_with_the_evidence(calm: Stack) -> None:
    (job,) = calm.bench.finished([calm.bench.submit("diagnostics.crash", 99)], 40)

    assert (job.state, job.crashes, job.attempt) == (F, 3, 3)
    assert "SIGKILL" in (job.error_message or "")
    assert "3 crashes" in (job.error_message or "")


@pytest.mark.parametrize("running_stack", ["PostgreSQL and RabbitMQ"], indirect=True)
def test_the_callers_time_limit_counts_too(calm: Stack) -> None:
    (job,) = calm.bench.finished([fate.apply_async(("sleep", 30), time_limit=1).id])

    assert (job.state, job.error_type) == (F, "TimeLimitExceeded")


def test_a_job_past_its_time_limit_fails_and_says_so(calm: Stack) -> None:
    (job,) = calm.bench.finished([calm.bench.submit("tests.limited", 30)])

    assert (job.state, job.error_type) == (F, "TimeLimitExceeded")
    assert "1" in (job.error_message or "")


def test_the_books_balance_at_the_end(calm: Stack) -> None:
    wait_until(lambda: not calm.bench.account().drift, 10, "the books balance")
