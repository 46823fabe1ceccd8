"""Processes that are killed, stopped or missing: every job reaches the state that it would have reached."""

import os
import signal

import pytest
from sqlalchemy import select

from flaskapp.jobs import queries
from flaskapp.jobs.models import Job, JobState, Worker
from tests.acceptance.conftest import Stack
from tests.helpers import kill, stop, wait_until
from tests.services import PostgreSQL
from tests.services.processes import family

S, R = JobState.SUCCEEDED, JobState.RUNNING
LEASE_SECONDS = 3


def until_running(stack: Stack, *job_ids: str) -> None:
    wait_until(lambda: {stack.bench.state(job_id) for job_id in job_ids} == {R}, 20, "the jobs are running")


def test_a_worker_killed_in_mid_job_loses_nothing(stack: Stack) -> None:
    stack.start_beat()
    two = [stack.start_worker(), stack.start_worker()]
    job_id = stack.bench.fate("sleep_in_first", "once", 60)
    until_running(stack, job_id)

    kill(next(worker for worker in two if worker.pid == pid_of_holder(stack, job_id)))
    killed = stack.bench.clock()

    (job,) = stack.bench.finished([job_id], LEASE_SECONDS + 15)
    assert (job.state, job.attempt, job.crashes) == (S, 2, 1)
    assert [effect.attempt for effect in stack.bench.effects("once")] == [2]
    assert job.started_at is not None
    assert (job.started_at - killed).total_seconds() < LEASE_SECONDS + 2
    assert [attempt.outcome for attempt in stack.bench.attempts(job_id)] == ["rescued"]


def pid_of_holder(stack: Stack, job_id: str) -> int:
    with stack.bench.session() as session:
        return session.scalars(select(Worker.pid).where(Worker.id == stack.bench.job(job_id).worker)).one()


def test_a_planned_stop_puts_running_jobs_back_uncounted(stack: Stack) -> None:
    stack.start_beat()
    worker = stack.start_worker()
    ids = [stack.bench.fate("sleep_in_first", f"stopped {n}", 60) for n in range(2)]
    ids += [stack.bench.fate("ok") for _ in range(10)]
    until_running(stack, *ids[:2])

    worker.popen.terminate()
    worker.popen.wait(20)

    assert {stack.bench.state(job_id) for job_id in ids[:2]} <= {JobState.WAITING, JobState.QUEUED}
    stack.start_worker()
    jobs = stack.bench.finished(ids, 30)
    assert {job.state for job in jobs} == {S}
    assert [(job.attempt, job.crashes) for job in jobs[:2]] == [(2, 0), (2, 0)]
    assert [len(stack.bench.effects(f"stopped {n}")) for n in range(2)] == [1, 1]
    assert stack.bench.attempts(ids[0])[0].outcome == "stopped"


def test_a_planned_stop_lets_a_short_job_end_and_takes_the_worker_off_the_list(stack: Stack) -> None:
    worker = stack.start_worker()
    job_id = stack.bench.fate("write_and_sleep", "finished", 0.7)
    until_running(stack, job_id)
    assert len(workers(stack)) == 1

    stop(worker)

    job = stack.bench.job(job_id)
    assert (job.state, job.attempt, len(stack.bench.effects("finished"))) == (S, 1, 1)
    assert workers(stack) == []


def workers(stack: Stack) -> list[str]:
    with stack.bench.session() as session:
        return [worker.id for worker in queries.live_workers(session, 60)]


def test_a_pool_whose_parent_is_killed_writes_no_second_success(stack: Stack) -> None:
    stack.start_beat()
    orphaned = stack.start_worker()
    job_id = stack.bench.fate("sleep_in_first", "orphan", LEASE_SECONDS + 3)
    until_running(stack, job_id)

    os.kill(orphaned.pid, signal.SIGKILL)
    stack.start_worker()

    (job,) = stack.bench.finished([job_id], 30)
    orphaned.popen.wait(10)
    wait_until(lambda: not family(orphaned.pid), 20, "the orphan has woken, tried to write and ended")
    assert (job.state, len(stack.bench.effects("orphan"))) == (S, 1)


@pytest.mark.parametrize("stack", ["SQLite and folder"], indirect=True)
def test_a_beat_that_is_missing_is_stood_in_for(stack: Stack) -> None:
    stack.start_worker(TEST_SCHEDULE_SECONDS="1")
    later = stack.bench.fate("ok", countdown=1)

    (job,) = stack.bench.finished([later], 30)

    assert job.state == S
    wait_until(lambda: scheduled(stack), 20, "the schedule fires")


def scheduled(stack: Stack) -> list[Job]:
    with stack.bench.session() as session:
        query = select(Job).where(Job.schedule == "every-moment").order_by(Job.run_at)
        return list(session.scalars(query))


def test_two_beats_make_one_job_for_each_due_time(stack: Stack) -> None:
    for _ in range(2):
        stack.start_beat(TEST_SCHEDULE_SECONDS="0.5")

    jobs = wait_until(lambda: found if len(found := scheduled(stack)) >= 6 else [], 20, "six jobs of the schedule")

    due = [job.run_at for job in jobs]
    assert len(due) == len(set(due))
    assert {round((when - due[0]).total_seconds() % 0.5, 3) for when in due} <= {0.0, 0.5}


@pytest.mark.parametrize("stack", ["PostgreSQL and RabbitMQ"], indirect=True)
def test_a_database_that_restarts_fails_no_job(stack: Stack, postgresql: PostgreSQL) -> None:
    stack.start_beat()
    stack.start_worker()
    ids = [stack.bench.fate("write_and_sleep", f"restart {n}", 1.5) for n in range(4)]
    until_running(stack, ids[0])

    postgresql.restart()

    jobs = stack.bench.finished(ids, 60)
    assert {job.state for job in jobs} == {S}
    assert [len(stack.bench.effects(f"restart {n}")) for n in range(4)] == [1] * 4
