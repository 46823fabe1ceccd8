"""The tasks of the drills, the canary, the docs and the tests: their arguments choose their fate."""

import os
import signal
import time
from typing import Any

from celery import shared_task
from sqlalchemy import insert

from flaskapp.diagnostics.models import Effect
from flaskapp.extensions import db


@shared_task(name="diagnostics.echo")
def echo(value: Any) -> Any:
    """Answer `value`."""
    return value


@shared_task(name="diagnostics.sleep")
def sleep(seconds: float) -> float:
    """Take `seconds`, and answer them."""
    time.sleep(seconds)
    return seconds


@shared_task(name="diagnostics.fail", bind=True, max_retries=None)
def fail(self: Any, times: int) -> int:
    """Fail the first `times` attempts, each followed by a retry; then answer the number of retries."""
    if self.request.retries < times:
        try:
            raise RuntimeError(f"Failing on purpose, {self.request.retries + 1} of {times}.")
        except RuntimeError as problem:
            raise self.retry(exc=problem, countdown=min(0.1 * 2**self.request.retries, 30)) from problem
    return int(self.request.retries)


@shared_task(name="diagnostics.crash", bind=True)
def crash(self: Any, times: int) -> int:
    """Kill the process that runs it in its first `times` attempts; then answer the number of the attempt."""
    number: int = self.attempt_number
    if number <= times:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


@shared_task(name="diagnostics.effect", bind=True)
def effect(self: Any, key: str) -> str:
    """Write one row through the session: after any fault there must be exactly one."""
    row = {"key": key, "job_id": self.job_id, "attempt": self.attempt_number}
    db.session.execute(insert(Effect).values(row))
    return key
