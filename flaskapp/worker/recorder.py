"""The worker's clerk: a thread beside the event loop that claims offered messages and records outcomes, in groups.

The event loop never runs SQL. A message is acknowledged once its claim is committed or refused; from then on the
lease protects the job. If the database is away the clerk keeps everything and tries again.
"""

import logging
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from celery.worker.state import task_reserved
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from flaskapp.jobs import lifecycle
from flaskapp.jobs.outcomes import Claimed, Outcome, Stopped, Succeeded
from flaskapp.worker.request import JobRequest

logger = logging.getLogger(__name__)

#: How many outcomes or claims one transaction takes.
GROUP = 100
#: While jobs are short, claim ahead as many as the pool works off in about this time.
_AHEAD_SECONDS = 0.1
#: A claimed job that found no free slot for so long goes back for another worker.
_PATIENCE_SECONDS = 1.0


class Recorder:
    def __init__(self, engine: Engine, worker_id: str, concurrency: int, nudge: Callable[[], None]) -> None:
        self.worker_id = worker_id
        self._engine = engine
        self._concurrency = concurrency
        self._nudge = nudge
        self._consumer: Any = None
        self._changed = threading.Condition(threading.RLock())
        self._offers: deque[JobRequest] = deque()
        #: Claimed and acknowledged, waiting for a free slot: (request, since).
        self._ready: deque[tuple[JobRequest, float]] = deque()
        self._outcomes: deque[tuple[JobRequest, Outcome]] = deque()
        #: Everything this worker answers for: claimed and not yet recorded as ended.
        self._held: dict[str, JobRequest] = {}
        #: Newer messages for jobs that are still held: cancelled and run again at once, while the old attempt ends.
        self._behind: dict[str, JobRequest] = {}
        self._busy = 0
        self._usual_seconds: float | None = None
        self._killed: dict[int, float] = {}
        self._stopping = False
        self._finishing = False
        self._thread = threading.Thread(target=self._run, name="recorder", daemon=True)

    # --- called by the worker's other parts ---

    def start(self) -> None:
        self._thread.start()

    def attach(self, consumer: Any) -> None:
        """A new broker connection: what the old one offered comes again by itself."""
        with self._changed:
            self._consumer = consumer
            self._offers.clear()
            self._behind.clear()

    def offer(self, request: JobRequest) -> None:
        """A message arrived."""
        with self._changed:
            self._offers.append(request)
            self._changed.notify()

    def ended(self, request: JobRequest, outcome: Outcome | None, seconds: float | None) -> None:
        """Its slot is free. `outcome` is still to be recorded; None: the child recorded it, or it was taken away."""
        with self._changed:
            self._busy -= 1
            if seconds is not None:
                usual = seconds if self._usual_seconds is None else self._usual_seconds
                self._usual_seconds = 0.9 * usual + 0.1 * seconds
            if outcome is None:
                self._let_go(str(request.id))
            else:
                self._outcomes.append((request, outcome))
            self._fill()
            self._changed.notify()

    def holds(self) -> dict[str, Claimed]:
        """What this worker really holds, for its heartbeat."""
        with self._changed:
            return {job_id: held.claimed for job_id, held in self._held.items() if held.claimed is not None}

    def take_away(self, job_ids: Sequence[str]) -> None:
        """These attempts are no longer ours (cancelled, rescued): stop them; the rows already say so."""
        with self._changed:
            for job_id in job_ids:
                request = self._held.get(job_id)
                if request is None or request.finished:
                    continue
                waiting = [entry for entry in self._ready if entry[0] is request]
                if waiting:
                    self._ready.remove(waiting[0])
                    self._let_go(job_id)
                else:
                    request.taken_away = True
                    self._kill(request)

    def was_killed_by_us(self, pid: int | None) -> bool:
        return pid in self._killed

    def begin_stop(self, seconds: float) -> None:
        """Take no more: hand unclaimed messages back, and after `seconds` put back what still runs, uncounted."""
        with self._changed:
            self._stopping = True
            offers, self._offers = [*self._offers, *self._behind.values()], deque()
            self._behind.clear()
            self._put_back_ready(0)
            self._changed.notify()
        for request in offers:
            # The event loop has ended: say it to the broker directly.
            request.message.reject_log_error(logger, request._connection_errors, requeue=True)
        threading.Thread(target=self._put_back_running, args=(seconds,), name="stop", daemon=True).start()

    def finish(self, seconds: float = 10) -> None:
        """Record what is still open, then end the thread."""
        with self._changed:
            self._finishing = True
            self._changed.notify()
        self._thread.join(seconds)

    # --- the thread ---

    def _run(self) -> None:
        pause = 0.5
        while True:
            offers, outcomes = self._next_group()
            if not offers and not outcomes:
                if self._finishing:
                    return
                continue
            try:
                self._record(offers, outcomes)
                pause = 0.5
            except DBAPIError as trouble:
                logger.warning("The database does not answer; trying again in %.1f s: %s", pause, trouble.orig)
                with self._changed:
                    self._offers.extendleft(reversed(offers))
                    self._outcomes.extendleft(reversed(outcomes))
                time.sleep(pause)
                pause = min(2 * pause, 5.0)

    def _next_group(self) -> tuple[list[JobRequest], list[tuple[JobRequest, Outcome]]]:
        with self._changed:
            if not self._outcomes and not (self._offers and self._room() > 0) and not self._finishing:
                self._changed.wait(_PATIENCE_SECONDS / 2)
            self._put_back_ready(_PATIENCE_SECONDS)
            outcomes = [self._outcomes.popleft() for _ in range(min(GROUP, len(self._outcomes)))]
            room = 0 if self._stopping else min(GROUP, self._room(), len(self._offers))
            offers = [self._offers.popleft() for _ in range(room)]
            return [request for request in offers if not self._stands_behind(request)], outcomes

    def _stands_behind(self, request: JobRequest) -> bool:
        """Whether it has to wait here for the end of an earlier attempt of its job.

        Acknowledged like a duplicate it would be lost: its row is queued again, by a later sending.
        """
        held = self._held.get(str(request.id))
        if held is None or held.hint.send == request.hint.send:
            return False
        if (older := self._behind.pop(str(request.id), None)) is not None:
            self._on_loop(older.acknowledge)
        self._behind[str(request.id)] = request
        return True

    def _let_go(self, job_id: str) -> None:
        self._held.pop(job_id, None)
        if (request := self._behind.pop(job_id, None)) is not None:
            self._offers.append(request)
            self._changed.notify()

    def _room(self) -> int:
        return self._concurrency + self._ahead() - self._busy - len(self._ready)

    def _ahead(self) -> int:
        if self._usual_seconds is None:
            return 0
        return min(GROUP, int(self._concurrency * _AHEAD_SECONDS / max(self._usual_seconds, 0.001)))

    def _record(self, offers: list[JobRequest], outcomes: list[tuple[JobRequest, Outcome]]) -> None:
        """One transaction for both; what it decided is carried out after it is committed."""
        first = {str(request.id): request for request in reversed(offers) if str(request.id) not in self._held}
        with Session(self._engine) as session, session.begin():
            settled = lifecycle.settle(session, [outcome for _, outcome in outcomes])
            claims = lifecycle.claim(session, [request.hint for request in first.values()], self.worker_id)
            refused = first.keys() - claims.keys()
            unknown = refused - lifecycle.known(session, refused) if refused else set()
            foreign = [first[job_id] for job_id in unknown if first[job_id].hint.send is None]
            if foreign:
                lifecycle.submit(session, [request.wish for request in foreign])
                claims |= lifecycle.claim(session, [request.hint for request in foreign], self.worker_id)
        self._forget(outcomes, settled)
        taken = [request for request in offers if first.get(str(request.id)) is request]
        for request in taken:
            request.claimed = claims.get(str(request.id))
        with self._changed:
            self._held |= {str(request.id): request for request in taken if request.claimed is not None}
        buried = [request for request in taken if str(request.id) in unknown and request.claimed is None]
        if offers:
            self._on_loop(self._take_over, offers, buried)

    def _forget(self, outcomes: list[tuple[JobRequest, Outcome]], settled: set[str]) -> None:
        with self._changed:
            for request, outcome in outcomes:
                self._let_go(str(request.id))
                if outcome.claimed.job_id not in settled:
                    logger.warning(
                        "job=%s attempt=%s lease lost: its outcome changes nothing",
                        outcome.claimed.job_id,
                        outcome.claimed.number,
                    )
        if any(not isinstance(outcome, Succeeded) for _, outcome in outcomes):
            self._nudge()

    # --- on the event loop (or, where a transport has none, in whichever thread calls) ---

    def _on_loop(self, function: Callable[..., None], *args: Any) -> None:
        hub = getattr(self._consumer, "hub", None)
        if hub is not None:
            hub.call_soon(function, *args)
        else:
            function(*args)

    def _take_over(self, offers: list[JobRequest], buried: list[JobRequest]) -> None:
        """Answer the broker for every offer; what was claimed goes on to the pool."""
        with self._changed:
            for request in offers:
                if request in buried:
                    # Ours, but its job is gone (pruned): a dead letter, never run.
                    request.reject(requeue=False)
                else:
                    request.acknowledge()
                if request.claimed is not None:
                    self._ready.append((request, time.monotonic()))
            self._fill()

    def _fill(self) -> None:
        while self._busy < self._concurrency and self._ready and not self._stopping:
            request, _since = self._ready.popleft()
            self._busy += 1
            task_reserved(request)
            self._consumer.on_task_request(request)

    def _put_back_ready(self, patience: float) -> None:
        moment = time.monotonic()
        while self._ready and moment - self._ready[0][1] >= patience:
            request, _since = self._ready.popleft()
            if request.claimed is not None:
                self._outcomes.append((request, Stopped(request.claimed, "No slot of its worker came free.")))

    # --- stopping attempts ---

    def _put_back_running(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and self._busy:
            time.sleep(0.05)
        with self._changed:
            running = [request for request in self._held.values() if request.claimed and not request.finished]
        if not running:
            return
        # First the row, then the process: what it does in between is already fenced off.
        with Session(self._engine) as session, session.begin():
            lifecycle.settle(session, [Stopped(request.claimed) for request in running if request.claimed])
        logger.warning("Put back %d running job(s) after %s s", len(running), seconds)
        self.take_away([str(request.id) for request in running])

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
