"""Health for the machinery around: `/healthz` says that this process lives, `/readyz` whether it can do its work.

Both are public and cheap: an answer is kept for two seconds, a check that hangs is reported, never waited for.
"""

import re
import threading
import time
from collections.abc import Callable

from flask import Blueprint, Flask, current_app
from flask.typing import ResponseReturnValue
from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError

from flaskapp.extensions import db

LIMIT_SECONDS = 2.0
KEPT_SECONDS = 2.0

health = Blueprint("health", __name__)


def init_app(app: Flask) -> None:
    """The broker's check is `app.extensions["broker_check"]`, a callable that raises what is wrong."""
    with app.app_context():
        engine = db.engine
    app.extensions["probes"] = {
        "database": Probe(lambda: _ask(engine)),
        "broker": Probe(lambda: app.extensions.get("broker_check", _nothing_to_check)()),
    }
    app.register_blueprint(health)


@health.get("/healthz")
def healthz() -> ResponseReturnValue:
    return {"status": "alive"}


@health.get("/readyz")
def readyz() -> ResponseReturnValue:
    probes: dict[str, Probe] = current_app.extensions["probes"]
    troubles = {name: probe.trouble() for name, probe in probes.items()}
    found = {name: trouble or "ok" for name, trouble in troubles.items()}
    if any(troubles.values()):
        return {"status": "not ready", **found}, 503
    return {"status": "ready", **found}


class Probe:
    """One check, run beside the request; a check that still hangs is not started a second time."""

    def __init__(self, check: Callable[[], object]) -> None:
        self._check = check
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._answer: str | None = None
        self._answered_at = float("-inf")

    def trouble(self) -> str | None:
        """None when all is well, else one sentence."""
        with self._lock:
            if time.monotonic() - self._answered_at < KEPT_SECONDS:
                return self._answer
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, daemon=True)
                self._thread.start()
            thread = self._thread
        thread.join(LIMIT_SECONDS)
        return f"does not answer within {LIMIT_SECONDS:.0f} s" if thread.is_alive() else self._answer

    def _run(self) -> None:
        try:
            self._check()
            answer = None
        except Exception as problem:  # noqa: BLE001 -- whatever it is, it is the answer
            answer = _sentence(problem)
        self._answer, self._answered_at = answer, time.monotonic()


def _ask(engine: Engine) -> None:
    with engine.connect() as connection:
        connection.execute(text("SELECT 1"))


def _nothing_to_check() -> None:
    """The broker room registers its own check."""


def _sentence(problem: Exception) -> str:
    cause = problem.orig if isinstance(problem, DBAPIError) and problem.orig else problem
    said = (str(cause).strip().splitlines() or [""])[0][:200]
    # Anyone may read this: a password in a URL is none of it.
    said = re.sub(r"//[^/@\s]*@", "//…@", said)
    return f"does not answer ({type(cause).__name__}): {said}" if said else f"does not answer ({type(cause).__name__})"
