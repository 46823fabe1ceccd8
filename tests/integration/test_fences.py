"""An attempt that is no longer its worker's, or that cannot be settled now, leaves nothing behind and fails nobody."""

from typing import Any

import pytest
from celery import chain
from sqlalchemy.exc import OperationalError

from flaskapp.jobs import lifecycle
from flaskapp.jobs.models import JobState
from flaskapp.jobs.outcomes import Failed, Hint
from flaskapp.worker.attempt import CLAIM_KEY, Report, run
from flaskapp.worker.testing import WORKER
from tests.helpers import Bench
from tests.tasks_for_tests import fate, note_error, note_failed_id


@pytest.fixture
def away_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The database is away when the first outcome is written."""
    settle, calls = lifecycle.settle, []

    def settle_later(*args: Any) -> Any:
        calls.append(args)
        if len(calls) == 1:
            raise OperationalError("UPDATE", {}, Exception("the server closed the connection"))
        return settle(*args)

    monkeypatch.setattr(lifecycle, "settle", settle_later)


def run_raw(bench: Bench, job_id: str, body: bytes) -> Report:
    with bench.session() as session, session.begin():
        claimed = lifecycle.claim(session, [Hint(job_id)], WORKER)[job_id]
    request = {CLAIM_KEY: claimed, "id": job_id, "task": "tests.fate"}
    return run("tests.fate", request, body, "application/json", "utf-8")


@pytest.mark.parametrize("errback", [note_error, note_failed_id])
def test_a_cancelled_attempt_that_fails_calls_no_errback(bench: Bench, errback: Any) -> None:
    job_id = fate.apply_async(("fail_after_being_cancelled",), link_error=errback.s()).id

    assert bench.run() == [job_id]

    assert [(job.id, job.state) for job in bench.jobs()] == [(job_id, JobState.CANCELLED)]
    assert bench.effects("errback too late") == []


def test_a_cancelled_attempt_that_fails_decides_nothing_about_its_chain(bench: Bench) -> None:
    chain(fate.si("fail_after_being_cancelled"), fate.si("ok"))()

    bench.run()

    first, second = bench.jobs()
    assert (first.state, second.state) == (JobState.CANCELLED, JobState.FAILED)
    # The cancel had decided it; what the attempt raised afterwards is not told.
    assert second.error_type == "TaskRevokedError"
    assert "too late" not in second.error_message


def test_what_a_fenced_attempt_wrote_and_submitted_never_was(bench: Bench) -> None:
    job_id = bench.fate("write_everything_after_being_cancelled", "late")

    assert bench.run() == [job_id]

    assert [(job.id, job.state) for job in bench.jobs()] == [(job_id, JobState.CANCELLED)]
    assert bench.effects("late orm") + bench.effects("late core") == []


def test_a_commit_inside_a_fenced_attempt_is_refused(bench: Bench) -> None:
    job_id = bench.fate("commit_after_being_cancelled", "late")

    bench.run()

    assert (bench.state(job_id), bench.effects("late")) == (JobState.CANCELLED, [])


def test_a_checkpoint_stays_and_what_follows_a_lost_lease_does_not(bench: Bench) -> None:
    job_id = bench.fate("commit_midway_then_lose_the_lease", "k")

    bench.run()

    assert (bench.state(job_id), len(bench.effects("k before")), bench.effects("k after")) == ("cancelled", 1, [])


@pytest.mark.usefixtures("away_once")
def test_a_retry_that_cannot_be_written_now_is_written_later(bench: Bench) -> None:
    job_id = bench.fate("retry", 1, 3, 60)

    bench.run()

    job = bench.job(job_id)
    assert (job.state, job.retries, job.crashes) == (JobState.WAITING, 1, 0)


@pytest.mark.usefixtures("away_once")
def test_a_failure_that_cannot_be_written_now_is_written_later_as_it_was(bench: Bench) -> None:
    job_id = bench.fate("fail", "boom")

    bench.run()

    job = bench.job(job_id)
    assert (job.state, job.error_type, job.error_message) == (JobState.FAILED, "ValueError", "boom")


def test_a_body_that_cannot_be_read_is_reported_not_raised(bench: Bench) -> None:
    report = run_raw(bench, bench.fate("ok"), b"not JSON")

    assert isinstance(report.outcome, Failed)
    assert report.outcome.error.type == "DecodeError"
