"""A steady load while a fault goes on: jobs submitted one after another until the test has seen enough."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import count
from typing import Any

from tests.faults.tasks import effects_of_everything

Submit = Callable[[str, list[Any]], str]


class Load:
    """`submit` gets a task's name and arguments and answers the job's id; what it raises is asked again."""

    def __init__(self, submit: Submit, name: str, every: float = 0.05) -> None:
        self.jobs: list[str] = []
        self.keys: list[str] = []
        self.refused = 0
        self._submit, self._name, self._every = submit, name, every
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="load", daemon=True)

    @property
    def effects(self) -> list[str]:
        return [effect for key in self.keys for effect in effects_of_everything(key)]

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
        with suppress(Exception):
            self.jobs.append(self._submit("faults.everything", [key]))
            self.keys.append(key)
            return True
        self.refused += 1
        return False


@contextmanager
def load(submit: Submit, name: str, every: float = 0.05) -> Iterator[Load]:
    running = Load(submit, name, every)
    running.start()
    try:
        yield running
    finally:
        running.stop()
