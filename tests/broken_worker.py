"""A worker whose core is broken in the way that TEST_BREAK names: a drill on it must not end well."""

import os
import signal
from typing import Any

from celery_worker import app as app
from flaskapp.extensions import db
from flaskapp.worker.attempt import RunningAttempt

succeed = RunningAttempt.succeed


def lose(attempt: RunningAttempt, result: Any) -> None:
    """The success is recorded, what the task wrote is not."""
    db.session.rollback()
    succeed(attempt, result)


def double(attempt: RunningAttempt, result: Any) -> None:
    """What the task wrote is committed before its success, and the first attempt dies in between."""
    db.session.commit()
    if attempt.claimed.number == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    succeed(attempt, result)


RunningAttempt.succeed = {"lost": lose, "doubled": double}[os.environ["TEST_BREAK"]]  # type: ignore[method-assign]
