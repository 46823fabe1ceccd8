"""What is kept of a process that was lost while it ran a job: signal, host, memory, and how far the job came."""

import os
from types import SimpleNamespace
from typing import Any

import pytest
from billiard.einfo import ExceptionInfo
from billiard.exceptions import TimeLimitExceeded, WorkerLostError
from sqlalchemy import insert
from sqlalchemy.orm import Session

from flaskapp.jobs import lifecycle
from flaskapp.jobs.crashes import size
from flaskapp.jobs.models import Progress, Worker
from flaskapp.jobs.outcomes import Claimed, Crashed, Error, Failed, Outcome
from flaskapp.worker import memory
from flaskapp.worker import request as requests
from flaskapp.worker.evidence import crashed
from flaskapp.worker.memory import Peaks
from flaskapp.worker.request import JobRequest
from tests.makers import WORKER, claim, pass_seconds, row_of, waiting

CLAIMED = Claimed("job", 1, WORKER)


@pytest.mark.parametrize(
    ("exc", "brief", "words"),
    [
        (WorkerLostError("Worker exited prematurely: signal 9 (SIGKILL) Job: 3."), "signal 9", "SIGKILL (signal 9)"),
        (WorkerLostError("Worker exited prematurely: signal 11 (SIGSEGV)"), "signal 11", "SIGSEGV (signal 11)"),
        (WorkerLostError("Worker exited prematurely: exitcode 3 Job: 3."), "exit code 3", "exit code 3"),
        (WorkerLostError("Worker exited prematurely: exitcode -15"), "signal 15", "SIGTERM"),
        (WorkerLostError("signal 250"), "signal 250", "signal 250"),
        (SystemExit(3), "exit code 3", "exit code 3"),
        (KeyboardInterrupt(), "lost", "KeyboardInterrupt"),
    ],
)
def test_the_end_of_a_process_is_told(exc: BaseException, brief: str, words: str) -> None:
    outcome = crashed(CLAIMED, exc, 7, None)

    assert outcome.brief == brief
    assert words in outcome.error.message
    assert f"process 7 on {os.uname().nodename}" in outcome.error.message


def test_its_memory_is_told_where_it_is_known() -> None:
    outcome = crashed(CLAIMED, WorkerLostError("signal 9 (SIGKILL)"), 7, 2_100_000_000)

    assert outcome.brief == "signal 9, 2.1 GB"
    assert "memory had reached 2.1 GB" in outcome.error.message


@pytest.mark.parametrize(("count", "text"), [(12, "12 bytes"), (48_000, "48.0 kB"), (2_149_000_000, "2.1 GB")])
def test_a_size_is_written_for_people(count: int, text: str) -> None:
    assert size(count) == text


def test_a_peak_of_an_earlier_job_is_not_this_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    told = iter([(100, 900), (200, 900), (300, 1000), (250, 1000)])
    monkeypatch.setattr(memory, "_status", lambda pid: next(told))
    peaks = Peaks()

    assert [peaks.look(7) for _ in range(4)] == [100, 200, 1000, 250]


def test_the_memory_of_a_process_can_be_read() -> None:
    assert (Peaks().look(os.getpid()) or 0) > 10**6
    assert Peaks().look(2**22 + 1) is None


def lose_three_times(session: Session, lose: Any) -> dict[str, Any]:
    job_id = waiting(session)
    for _ in range(3):
        pass_seconds(session, job_id, 1, "run_at")
        claimed = claim(session, job_id)
        told = {"current": 48_112, "total": 100_000, "message": "reading"}
        session.merge(Progress(job_id=job_id, attempt=claimed.number, **told))
        session.flush()
        lose(claimed)
    return row_of(session, job_id)


def test_a_parked_job_says_how_far_it_came(session: Session) -> None:
    lost = Error("WorkerLost", "The process 7 on ada that ran it was ended by SIGKILL (signal 9).")

    row = lose_three_times(
        session, lambda claimed: lifecycle.settle(session, [Crashed(claimed, lost, "signal 9, 2.1 GB")])
    )

    assert row["error_message"].startswith("Stopped after 3 crashes (signal 9, 2.1 GB). The process 7 on ada ")
    assert "It had come to 48,112 of 100,000: reading." in row["error_message"]
    assert "give it more" in row["error_message"]


def test_the_progress_of_an_older_attempt_is_not_told(session: Session) -> None:
    job_id = waiting(session)
    claimed = claim(session, job_id)
    session.add(Progress(job_id=job_id, attempt=0, current=5, message="before"))
    session.flush()
    lifecycle.settle(session, [Crashed(claimed, Error("WorkerLost", "Gone."))])

    assert row_of(session, job_id)["error_message"] == "Gone."


def test_a_rescued_job_names_the_worker_its_host_and_its_last_sign_of_life(session: Session) -> None:
    session.execute(insert(Worker).values(id=WORKER, kind="worker", host="ada", pid=77, memory=2_100_000_000))

    row = lose_three_times(session, lambda _: lifecycle.rescue(session, [WORKER]))

    assert row["error_type"] == "LeaseExpired"
    for words in (WORKER, "process 77 on ada", "Its last was at 20", "2.1 GB", "48,112 of 100,000", "no sign of life"):
        assert words in row["error_message"]


def test_a_worker_that_left_no_row_is_named(session: Session) -> None:
    job_id = waiting(session)
    claim(session, job_id)
    lifecycle.rescue(session, [WORKER])

    assert WORKER in row_of(session, job_id)["error_message"]


@pytest.mark.parametrize("first", ["failure", "timeout"])
def test_a_time_limit_is_told_in_the_same_words_however_the_pool_tells_it(
    monkeypatch: pytest.MonkeyPatch, first: str
) -> None:
    """Prefork tells it as a failure before it calls on_timeout."""
    monkeypatch.setattr(requests, "task_ready", lambda *_, **__: None)
    monkeypatch.setattr(JobRequest, "send_event", lambda *_, **__: None)
    ended: list[Outcome] = []
    request = object.__new__(JobRequest)
    request.claimed, request.taken_away, request.finished = Claimed("a job", 1, "a worker"), False, False
    request.recorder = SimpleNamespace(ended=lambda _request, outcome, _seconds: ended.append(outcome))
    try:
        raise TimeLimitExceeded(1.0)
    except TimeLimitExceeded:
        info = ExceptionInfo()

    calls = [lambda: request.on_failure(info), lambda: request.on_timeout(soft=False, timeout=1.0)]
    for call in calls if first == "failure" else reversed(calls):
        call()

    (outcome,) = ended
    assert isinstance(outcome, Failed)
    assert outcome.error == Error("TimeLimitExceeded", "It ran longer than its time limit of 1 s and was stopped.")
