"""Tasks that leave a trace of every kind, so that a lost and a doubled effect both show."""

import ctypes
import os
import time
from pathlib import Path
from typing import Any

from celery import shared_task
from sqlalchemy import insert

from flaskapp.diagnostics.models import Effect
from flaskapp.extensions import db


def by_orm(task: Any, key: str) -> None:
    db.session.add(Effect(key=f"{key} orm", job_id=task.request.id, attempt=task.attempt_number))


def by_core(task: Any, key: str) -> None:
    row = {"key": f"{key} core", "job_id": task.request.id, "attempt": task.attempt_number}
    db.session.execute(insert(Effect).values(row))


@shared_task(name="faults.everything", bind=True)
def everything(self: Any, key: str) -> int:
    """Write by ORM and by Core, submit a child that writes, and answer 1."""
    by_orm(self, key)
    by_core(self, key)
    child.delay(key)
    return 1


@shared_task(name="faults.child", bind=True)
def child(self: Any, key: str) -> None:
    by_core(self, f"{key} child")


@shared_task(name="faults.body", bind=True)
def body(self: Any, results: list[int], key: str) -> int:
    """A chord's body: writes, and answers the sum of what the header gave."""
    by_core(self, f"{key} body")
    return sum(results)


@shared_task(name="faults.nothing")
def nothing(value: Any) -> Any:
    """Writes nothing, so its success is left to the worker's parent."""
    return value


@shared_task(name="faults.hold_interpreter", bind=True)
def hold_interpreter(self: Any, key: str, seconds: int) -> None:
    """One C call that never lets go of the interpreter: no other thread of this process runs meanwhile."""
    left = seconds
    while left > 0:
        # PyDLL, unlike CDLL, keeps the GIL. A signal ends a sleep early, and the answer is what is left.
        left = ctypes.PyDLL(None).sleep(left)
    by_core(self, key)


@shared_task(name="faults.tell_pid", bind=True)
def tell_pid(self: Any, key: str, file: str) -> None:
    """The first attempt says which process it is in, and waits to be killed."""
    if self.attempt_number == 1:
        Path(file).write_text(str(os.getpid()))
        time.sleep(60)
    by_core(self, key)


@shared_task(name="faults.slow", bind=True)
def slow(self: Any, key: str, seconds: float) -> None:
    """Sleeps before it writes, so that no write lock is held meanwhile."""
    time.sleep(seconds)
    by_core(self, key)


@shared_task(name="faults.stubborn", bind=True, max_retries=10)
def stubborn(self: Any, key: str, times: int) -> None:
    """Writes in every attempt, and asks for a retry `times` times: one row is left."""
    by_core(self, key)
    if self.request.retries < times:
        raise self.retry(countdown=0.3)


def effects_of_everything(key: str) -> list[str]:
    return [f"{key} orm", f"{key} core", f"{key} child core"]


def effects_of_chord(key: str, members: int) -> list[str]:
    """What `chord_of` leaves behind."""
    header = [effect for n in range(members) for effect in effects_of_everything(f"{key} {n}")]
    return [*header, f"{key} body core"]
