"""A recorder with messages and a pool that stand for Celery's."""

import time
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Engine

from flaskapp.jobs.outcomes import Claimed, Hint, Stopped, Wish
from flaskapp.worker import slots
from flaskapp.worker.recorder import Recorder
from tests.helpers import wait_until

WORKER = "recorder@here/1"


class Message:
    """As much of a request as the recorder knows."""

    def __init__(self, job_id: str, send: int | None, recorder: Recorder | None = None, **wish: Any) -> None:
        self.recorder = recorder
        self.id, self.hint, self.answer = job_id, Hint(job_id, send), ""
        self.wish = Wish("tests.fate", job_id=job_id, **wish)
        self.arrived, self.is_suspect = time.monotonic(), False
        self.queue, self.group = "default", ""
        self.claimed: Claimed | None = None
        self.finished, self.taken_away, self.worker_pid = False, False, None
        self.was_handed_over = False
        self.message = self

    def acknowledge(self) -> None:
        self.answer = "acknowledged"

    def reject(self, requeue: bool = False) -> None:
        self.answer = "rejected"

    def give_back(self, reason: str) -> None:
        assert self.claimed is not None
        self.finished = True
        self.recorder.ended(self, Stopped(self.claimed, reason), None)


class Pool:
    """Stands for the consumer and its pool."""

    hub = qos = task_consumer = None

    def __init__(self) -> None:
        self.taken: list[Message] = []
        self.on_task_message: set[Any] = set()
        self.broken = False
        self.nudges = 0

    def nudged(self) -> None:
        self.nudges += 1

    def bury(self, message: Message, reason: str, detail: str = "") -> None:
        message.reject()

    def on_task_request(self, request: Message) -> None:
        if self.broken:
            raise RuntimeError("no pool")
        self.taken.append(request)


@pytest.fixture
def pool() -> Pool:
    return Pool()


@pytest.fixture
def recorder(engine: Engine, pool: Pool, monkeypatch: pytest.MonkeyPatch) -> Iterator[Recorder]:
    monkeypatch.setattr(slots, "task_reserved", lambda request: None)
    recorder = Recorder(engine, WORKER, 2, pool.nudged)
    recorder.attach(pool)
    yield recorder
    if recorder._thread.ident is None:
        recorder.start()
    recorder.finish()
    assert not recorder._thread.is_alive()


def started(recorder: Recorder) -> Recorder:
    recorder.start()
    return recorder


def answered(*messages: Message) -> list[str]:
    wait_until(lambda: all(message.answer for message in messages), 5, "every message has an answer")
    return [message.answer for message in messages]


class Loop:
    """An event loop that is busy: what it is asked to do waits."""

    def __init__(self) -> None:
        self.asked: list[Any] = []

    def call_soon(self, function: Any, *args: Any) -> None:
        self.asked.append((function, args))


def another_round(recorder: Recorder) -> None:
    answers: list[int] = []
    recorder.notice("mail", 1, lambda: answers.append(1))
    wait_until(lambda: answers, 5, "the recorder went another round")
