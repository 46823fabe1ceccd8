"""Stopping attempts: single ones that are no longer ours, and all of them when their worker stops.

First the row, then the process: what an attempt does in between is already fenced off. The recorder's one lock is taken
to choose an attempt and to kill its process, and never while SQL is run or time passes.
"""

import logging
import os
import signal
import threading
import time
from collections.abc import Sequence

from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from flaskapp.extensions import core_session
from flaskapp.jobs import lifecycle
from flaskapp.jobs.outcomes import Stopped
from flaskapp.worker.held import Held
from flaskapp.worker.request import JobRequest
from flaskapp.worker.returned import Returned
from flaskapp.worker.slots import Slots

logger = logging.getLogger(__name__)


class Stopping:
    def __init__(
        self, changed: threading.Condition, engine: Engine, held: Held, slots: Slots, returned: Returned
    ) -> None:
        self._changed = changed
        self._engine = engine
        self._held = held
        self._slots = slots
        self._returned = returned
        #: Processes that we killed, and when.
        self._killed: dict[int, float] = {}
        self._thread: threading.Thread | None = None

    # --- single attempts ---

    def take_away(self, job_ids: Sequence[str]) -> None:
        """These attempts are no longer ours (cancelled, rescued): stop them; the rows already say so."""
        with self._changed:
            for job_id in job_ids:
                request = self._held.of(job_id)
                if request is None or request.finished:
                    continue
                if self._slots.withdraw(request):
                    self._held.release(request)
                else:
                    request.taken_away = True
                    self._kill(request)

    def was_killed_by_us(self, pid: int | None) -> bool:
        return pid in self._killed

    def _kill(self, request: JobRequest) -> None:
        pid = request.worker_pid
        if pid is None or pid == os.getpid():
            # Threads cannot be killed: it runs on, fenced, and whatever it writes is rolled back.
            return
        self._killed = {known: at for known, at in self._killed.items() if time.monotonic() - at < 60}
        self._killed[pid] = time.monotonic()
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            logger.info("job=%s process %s had already ended", request.id, pid)

    # --- all of them ---

    def begin(self, seconds: float) -> None:
        """After so long put back what still runs, uncounted."""
        self._thread = threading.Thread(target=self._put_back_running, args=(seconds,), name="stop", daemon=True)
        self._thread.start()

    def join(self, seconds: float) -> None:
        if self._thread is not None:
            self._thread.join(seconds)

    def _put_back_running(self, seconds: float) -> None:
        self._returned.note_last()
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and self._slots.busy:
            time.sleep(0.05)
        if running := self.put_back_held():
            logger.warning("Put back %d running job(s) after %s s", len(running), seconds)
            self.take_away([str(request.id) for request in running])

    def put_back_held(self) -> list[JobRequest]:
        running = self._held.unfinished()
        if not running:
            return []
        try:
            with core_session(self._engine) as session, session.begin():
                lifecycle.settle(session, [Stopped(request.claimed) for request in running if request.claimed])
        except DBAPIError as trouble:
            logger.warning("%d running job(s) are left to be rescued, as a crash: %s", len(running), trouble)
            return []
        return running
