"""A steady load while a fault goes on: jobs submitted one after another until the test has seen enough."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any

from tests.acceptance.conftest import Stack
from tests.faults.tasks import effects_of_everything, slow
from tests.helpers import wait_until

Submit = Callable[[str, list[Any]], str]


class Load:
    """`submit` gets a task's name and arguments and answers the job's id; what it raises is asked again."""

    def __init__(self, submit: Submit, name: str, every: float = 0.05) -> None:
        self.jobs: list[str] = []
        self.effects: list[str] = []
        #: How long the slowest submit took that was accepted.
        self.slowest = 0.0
        self.refusals: list[Exception] = []
        self._submit, self._name, self._every = submit, name, every
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="load", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._end.set()
        self._thread.join(60)
        assert not self._thread.is_alive(), "the load hangs in a submit"

    def _run(self) -> None:
        for number in count():
            key = f"{self._name} {number}"
            while not self._submitted(key):
                if self._end.wait(self._every):
                    return
            if self._end.wait(self._every):
                return

    def _submitted(self, key: str) -> bool:
        started = time.monotonic()
        try:
            job_id = self._submit("faults.everything", [key])
        except Exception as refusal:  # noqa: BLE001 -- whatever the fault does to whoever submits
            self.refusals.append(refusal)
            return False
        self.slowest = max(self.slowest, time.monotonic() - started)
        self.effects += effects_of_everything(key)
        self.jobs.append(job_id)
        return True


@contextmanager
def load(submit: Submit, name: str, every: float = 0.05) -> Iterator[Load]:
    running = Load(submit, name, every)
    running.start()
    try:
        yield running
    finally:
        running.stop()


def submit_to(stack: Stack) -> Submit:
    def submit(task: str, args: list[Any]) -> str:
        # The id is ours: a commit whose answer was lost is asked again, and adds nothing.
        return str(stack.celery.send_task(task, args=args, task_id=f"{stack.name} {args[0]}").id)

    return submit


@contextmanager
def under_load(stack: Stack, name: str, slow_seconds: float = 3) -> Iterator[Load]:
    """Short jobs all the time, and two slow ones that run when the fault begins; the worker has slots for both."""
    with load(submit_to(stack), name) as running:
        two = [slow.delay(f"{name} slow {n}", slow_seconds).id for n in range(2)]
        wait_until(lambda: all(stack.bench.job(job_id).started_at for job_id in two), 30, "the slow ones run")
        wait_until(lambda: len(running.jobs) > 10, 30, "the load runs")
        yield running
        before = len(running.jobs)
        wait_until(lambda: len(running.jobs) > before + 10, 60, "the load runs on")
    running.jobs += two
    running.effects += [f"{name} slow {n} core" for n in range(2)]


def pass_time(seconds: float) -> None:
    """The fault itself lasts so long."""
    end = time.monotonic() + seconds
    wait_until(lambda: time.monotonic() > end, seconds + 1, "time passes")
