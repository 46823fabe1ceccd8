"""The pool's side: attempts that are claimed and acknowledged, the slots that they wait for, and how fast those work.

Counted under the recorder's one lock. Handed over without it, for a solo pool runs the job right there.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Collection, Sequence

from celery.worker.state import task_reserved

from flaskapp.jobs.outcomes import Stopped
from flaskapp.worker.held import Held
from flaskapp.worker.loop_calls import LoopCalls
from flaskapp.worker.pace import Pace
from flaskapp.worker.request import JobRequest

logger = logging.getLogger(__name__)


class Slots:
    def __init__(self, changed: threading.Condition, concurrency: int, held: Held, loop: LoopCalls) -> None:
        self._changed = changed
        self._concurrency = concurrency
        self._held = held
        self._loop = loop
        self.pace = Pace(concurrency)
        #: Attempts that the pool has, or is just given.
        self.busy = 0
        #: Those that wait for a slot: (request, since).
        self._ready: deque[tuple[JobRequest, float]] = deque()
        self._closed = False
        self._filling = threading.local()

    def free(self) -> int:
        """What is claimed and still on its way to the event loop takes a place too; below 0 if some wait."""
        return self._concurrency - self._held.unended()

    def room(self) -> int:
        """For how many more claims: for the free slots, and some ahead while jobs are short."""
        return self.free() + self.pace.ahead()

    def are_fed(self) -> bool:
        """The pool has something to do while we gather."""
        with self._changed:
            return len(self._ready) >= self._concurrency

    def add(self, requests: Sequence[JobRequest]) -> None:
        with self._changed:
            self._ready.extend((request, time.monotonic()) for request in requests)

    def fill(self) -> None:
        """Hand to the pool what it has slots for."""
        if getattr(self._filling, "now", False):
            return
        self._filling.now = True
        try:
            while (request := self._next_ready()) is not None:
                self._hand_over(request)
        finally:
            self._filling.now = False

    def _next_ready(self) -> JobRequest | None:
        with self._changed:
            if self._is_full() or not self._ready or self._closed:
                return None
            request, _since = self._ready.popleft()
            self.busy += 1
            if self._is_full():
                self.pace.filled()
            return request

    def _hand_over(self, request: JobRequest) -> None:
        request.was_handed_over = True
        try:
            task_reserved(request)
            self._loop.consumer.on_task_request(request)
        except Exception:
            logger.exception("job=%s the pool did not take it; it is put back", request.id)
            request.give_back("The pool of its worker did not take it.")
        else:
            if self._loop.consumer.on_task_message:
                # Not in here: the pool may be just looking through its children, and would lose count of them.
                self._loop.add(self._tell_autoscaler, request)

    def _tell_autoscaler(self, request: JobRequest) -> None:
        try:
            for hears_of_it in self._loop.consumer.on_task_message:
                hears_of_it(request)
        except Exception:
            # The pool has the job all the same.
            logger.exception("The pool could not be grown")

    def leave(self, seconds: float | None) -> None:
        """An attempt has ended, after `seconds` in its task if that is known."""
        with self._changed:
            is_full = self._is_full()
            self.busy -= 1
            if seconds is not None:
                self.pace.ended(seconds, has_work=bool(self._ready), is_full=is_full)

    def proven_pace(self) -> float | None:
        """Jobs per second, as `Pace.proven` tells."""
        with self._changed:
            return self.pace.proven(self._is_full())

    def _is_full(self) -> bool:
        return self.busy >= self._concurrency

    def withdraw(self, request: JobRequest) -> bool:
        """True if it was still waiting: now it never comes to the pool."""
        with self._changed:
            for entry in self._ready:
                if entry[0] is request:
                    self._ready.remove(entry)
                    return True
            return False

    def put_back_waiting(self, patience: float) -> None:
        """What has waited for so long goes to another worker."""
        with self._changed:
            moment = time.monotonic()
            while self._ready and moment - self._ready[0][1] >= patience:
                self.pace.claimed_in_vain()
                request, _since = self._ready.popleft()
                if request.claimed is not None:
                    self._held.ended(request, Stopped(request.claimed, "No slot of its worker came free."))

    def thrown_away(self, in_pool: Collection[str]) -> list[JobRequest]:
        """What the pool got, no process has accepted, and the pool does not have any more."""
        with self._changed:
            waiting = [request for request, _since in self._ready]
            return [
                request
                for request in self._held.unfinished()
                if request.was_handed_over and request.worker_pid is None
                if request not in waiting and str(request.id) not in in_pool
            ]

    def close(self) -> None:
        """The worker stops: nothing more comes to the pool, and what waits for it is put back."""
        with self._changed:
            self._closed = True
            self.put_back_waiting(0)
