"""Workers that are killed, frozen, stopped or overrun: every job reaches the state that it would have reached."""

import fcntl
import os
import signal
import sys
import termios
from pathlib import Path

from sqlalchemy import select

from flaskapp.jobs import queries
from flaskapp.jobs.models import JobState, Worker
from tests.acceptance.conftest import Stack
from tests.faults.ledger import Ledger
from tests.faults.tasks import effects_of_everything, everything, hold_interpreter, slow, tell_pid
from tests.helpers import Process, kill, stop, wait_for_end, wait_until
from tests.services.processes import family

S, R = JobState.SUCCEEDED, JobState.RUNNING
LEASE_SECONDS = 3


def until_running(stack: Stack, *job_ids: str) -> None:
    wait_until(lambda: {stack.bench.state(job_id) for job_id in job_ids} == {R}, 30, "the jobs are running")


def holder_of(stack: Stack, job_id: str) -> Worker:
    with stack.bench.session() as session:
        return session.scalars(select(Worker).where(Worker.id == stack.bench.job(job_id).worker)).one()


def outcomes(stack: Stack, job_id: str) -> list[str]:
    return [attempt.outcome for attempt in stack.bench.attempts(job_id)]


def seconds_of(stack: Stack, job_id: str) -> float:
    """How long its attempt ran, by the database's clock."""
    job = stack.bench.job(job_id)
    assert job.started_at is not None
    assert job.finished_at is not None
    return (job.finished_at - job.started_at).total_seconds()


def test_a_worker_killed_in_mid_job_loses_nothing(stack: Stack, ledger: Ledger) -> None:
    stack.start_beat()
    two = [stack.start_worker(), stack.start_worker()]
    job_id = stack.bench.fate("sleep_in_first", "once", 60)
    until_running(stack, job_id)

    holder = holder_of(stack, job_id)
    kill(next(worker for worker in two if worker.pid == holder.pid))
    last_sign = holder_of(stack, job_id).heartbeat_at

    ledger.reckon(stack, "a worker killed in mid-job", [job_id], ["once"])
    job = stack.bench.job(job_id)
    assert (job.attempt, job.crashes, outcomes(stack, job_id)) == (2, 1, ["rescued"])
    assert [effect.attempt for effect in stack.bench.effects("once")] == [2]
    assert job.started_at is not None
    idle = (job.started_at - last_sign).total_seconds()
    ledger.note(stack, f"a killed worker's job started again {idle:.1f} s after its worker's last sign of life")
    (attempt,) = stack.bench.attempts(job_id)
    assert idle < LEASE_SECONDS + 2, (last_sign, attempt.finished_at, job.queued_at, job.started_at)


def test_a_frozen_worker_that_wakes_overwrites_nothing(stack: Stack, ledger: Ledger) -> None:
    stack.start_beat()
    frozen = stack.start_worker()
    ids = [stack.bench.fate("sleep_in_first", f"frozen {n}", 1) for n in range(2)]
    ids += [everything.delay(f"frozen behind {n}").id for n in range(10)]
    until_running(stack, *ids[:2])
    keys = [*(f"frozen {n}" for n in range(2)), *effects(10)]

    freeze(stack, frozen)
    stack.start_worker()
    wait_until(lambda: {stack.bench.state(job_id) for job_id in ids[:2]} == {S}, 30, "another has run them")
    os.killpg(frozen.pid, signal.SIGCONT)

    wait_until(lambda: "lease" in frozen.says() or "rolled back" in frozen.says(), 20, "the frozen one wrote too late")
    ledger.reckon(stack, "a worker frozen past its lease", ids, keys)
    assert [stack.bench.job(job_id).attempt for job_id in ids[:2]] == [2, 2]


def freeze(stack: Stack, worker: Process) -> None:
    """SIGSTOP, but not in the middle of a write: SQLite's one lock would be frozen with it, for everybody."""

    def is_frozen() -> bool:
        os.killpg(worker.pid, signal.SIGSTOP)
        if stack.bench.can_write():
            return True
        os.killpg(worker.pid, signal.SIGCONT)
        return False

    wait_until(is_frozen, 60, "the worker is frozen without a lock")


def effects(count: int) -> list[str]:
    return [key for n in range(count) for key in effects_of_everything(f"frozen behind {n}")]


def test_a_child_that_holds_the_interpreter_is_not_rescued(stack: Stack, ledger: Ledger) -> None:
    stack.start_beat()
    stack.start_worker()
    seconds = 4 * LEASE_SECONDS

    ids = [hold_interpreter.delay(f"held {n}", seconds).id for n in range(2)]

    ledger.reckon(stack, f"children that hold their interpreter for {seconds} s", ids, ["held 0 core", "held 1 core"])
    # A minute is two of the leases that are usual (30 s); these were four.
    assert min(seconds_of(stack, job_id) for job_id in ids) >= 4 * LEASE_SECONDS
    assert [(stack.bench.job(job_id).attempt, outcomes(stack, job_id)) for job_id in ids] == [(1, []), (1, [])]


def test_a_child_killed_by_the_kernel_is_noticed_at_once(stack: Stack, ledger: Ledger, tmp_path: Path) -> None:
    stack.start_worker()
    file = tmp_path / "pid"
    job_id = tell_pid.delay("killed child", str(file)).id
    wait_until(lambda: file.exists() and file.read_text(), 20, "the child says who it is")

    os.kill(int(file.read_text()), signal.SIGKILL)
    killed = stack.bench.clock()

    ledger.reckon(stack, "a pool child killed by the kernel", [job_id], ["killed child core"])
    (attempt,) = stack.bench.attempts(job_id)
    assert (attempt.outcome, stack.bench.job(job_id).crashes) == ("crashed", 1)
    assert "SIGKILL" in (attempt.error_message or "")
    unseen = (attempt.finished_at - killed).total_seconds()
    ledger.note(stack, f"the end of a killed pool child was recorded after {unseen:.1f} s")
    assert unseen < LEASE_SECONDS


def test_a_planned_stop_puts_running_jobs_back_uncounted(stack: Stack, ledger: Ledger) -> None:
    stack.start_beat()
    worker = stack.start_worker()
    ids = [stack.bench.fate("sleep_in_first", f"stopped {n}", 60) for n in range(2)]
    ids += [stack.bench.fate("ok") for _ in range(10)]
    until_running(stack, *ids[:2])

    stop(worker)

    assert {stack.bench.state(job_id) for job_id in ids[:2]} <= {JobState.WAITING, JobState.QUEUED}
    stack.start_worker()
    ledger.reckon(stack, "a worker stopped in mid-job", ids, [f"stopped {n}" for n in range(2)])
    jobs = [stack.bench.job(job_id) for job_id in ids[:2]]
    assert [(job.attempt, job.crashes) for job in jobs] == [(2, 0), (2, 0)]
    assert outcomes(stack, ids[0]) == ["stopped"]


def test_a_planned_stop_lets_a_short_job_end_and_takes_the_worker_off_the_list(stack: Stack) -> None:
    worker = stack.start_worker()
    job_id = slow.delay("finished", 0.7).id
    until_running(stack, job_id)
    assert len(workers(stack)) == 1

    stop(worker)

    job = stack.bench.job(job_id)
    assert (job.state, job.attempt, len(stack.bench.effects("finished core"))) == (S, 1, 1)
    assert workers(stack) == []


def test_a_worker_ends_although_it_stops_before_a_child_has_said_that_it_took_its_job(
    stack: Stack, ledger: Ledger
) -> None:
    worker = stack.start_worker(concurrency=1)
    (child,) = set(family(worker.pid)) - {worker.pid}
    os.kill(child, signal.SIGSTOP)
    job_id = stack.bench.fate("sleep_in_first", "unsaid", 60)
    until_running(stack, job_id)
    wait_until(lambda: has_unread(child), 10, "the job is in the child's pipe")

    worker.popen.terminate()
    wait_until(lambda: stack.bench.state(job_id) != R, 20, "it is put back")
    os.kill(child, signal.SIGCONT)

    wait_for_end(worker, 10)
    stack.start_beat()
    stack.start_worker()
    ledger.reckon(stack, "a worker stopped as a child took its job", [job_id], ["unsaid"])
    assert (stack.bench.job(job_id).crashes, outcomes(stack, job_id)) == (0, ["stopped"])


def has_unread(pid: int) -> bool:
    """Something waits in one of its pipes."""
    for link in Path(f"/proc/{pid}/fd").iterdir():
        if os.readlink(link).startswith("pipe:"):
            with open(os.open(link, os.O_RDONLY | os.O_NONBLOCK), "rb") as pipe:
                if int.from_bytes(fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)), sys.byteorder):
                    return True
    return False


def workers(stack: Stack) -> list[str]:
    with stack.bench.session() as session:
        return [worker.id for worker in queries.live_workers(session, 60)]


def test_a_pool_whose_parent_is_killed_writes_no_second_success(stack: Stack, ledger: Ledger) -> None:
    stack.start_beat()
    orphaned = stack.start_worker()
    job_id = stack.bench.fate("sleep_in_first", "orphan", LEASE_SECONDS + 3)
    until_running(stack, job_id)

    os.kill(orphaned.pid, signal.SIGKILL)
    stack.start_worker()

    ledger.reckon(stack, "a worker killed without its pool", [job_id], ["orphan"])
    orphaned.popen.wait(10)
    wait_until(lambda: not family(orphaned.pid), 20, "the orphan has woken, tried to write and ended")
    ledger.reckon(stack, "a worker killed without its pool", [job_id], ["orphan"])
