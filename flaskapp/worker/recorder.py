"""The worker's clerk: a thread beside the event loop that claims offered messages and records outcomes, in groups.

The event loop never runs SQL. A message is acknowledged once its claim is committed or refused; from then on the
lease protects the job. If the database is away the clerk keeps everything and tries again.

A job goes through its parts: `offers` (arrived), `recording` (claimed), `slots` (handed to the pool), `held` (until its
end is recorded), `stopping` (if it has to end before). They share one lock, `_changed`, which can be taken twice and
wakes the thread. It is held for moments only: never while SQL is run, and never while the pool takes a job.
"""

import logging
import threading
import time
from collections.abc import Callable, Collection, Sequence
from typing import Any

from sqlalchemy import Engine

from flaskapp.jobs import letters, lost, unknown
from flaskapp.jobs.letters import Letter
from flaskapp.jobs.outcomes import Claimed, Hint, Outcome
from flaskapp.worker.errands import Errands
from flaskapp.worker.held import Ended, Held
from flaskapp.worker.loop_calls import LoopCalls
from flaskapp.worker.memory import Peaks
from flaskapp.worker.offers import Offers
from flaskapp.worker.outages import may_pass
from flaskapp.worker.recording import Recording
from flaskapp.worker.request import JobRequest
from flaskapp.worker.returned import Returned
from flaskapp.worker.slots import Slots
from flaskapp.worker.stopping import Stopping

logger = logging.getLogger(__name__)

#: How many outcomes or claims one transaction takes.
GROUP = 200
#: A claimed job that found no free slot for so long goes back for another worker.
_PATIENCE_SECONDS = 1.0
#: While the pool has work, a group gathers for so long: larger groups cost less each.
_GATHER_SECONDS = 0.03
#: A group that fails so often in a row is taken apart: the database may be there for all but one of it.
_TOGETHER = 2


class Recorder:
    def __init__(self, engine: Engine, worker_id: str, concurrency: int, nudge: Callable[[], None]) -> None:
        self._nudge = nudge
        self._changed = threading.Condition(threading.RLock())
        self._loop = LoopCalls()
        self._errands = Errands(self._changed, engine, self._loop)
        self._returned = Returned(self._changed, engine, self._errands)
        self._held = Held(self._changed)
        self._slots = Slots(self._changed, concurrency, self._held, self._loop)
        self._offers = Offers(self._changed, concurrency, self._held, self._slots, self._returned, self._loop)
        self._recording = Recording(engine, worker_id, nudge, self._loop, self._held, self._slots, self._offers)
        self._stopping = Stopping(self._changed, engine, self._held, self._slots, self._returned)
        self._peaks = Peaks()
        #: True while messages can arrive; set by the event loop.
        self.listening = False
        self._finishing = False
        self._thread = threading.Thread(target=self._run, name="recorder", daemon=True)

    # --- called on the event loop ---

    def attach(self, consumer: Any) -> None:
        """A new broker connection: what the old one offered comes again by itself."""
        with self._changed:
            self._loop.consumer = consumer
            self._offers.drop()
            self._errands.clear()
            dropped = self._returned.job_ids()
        self._returned.note(dropped)

    def detach(self, in_pool: Collection[str]) -> None:
        """The broker connection is gone, and Celery's pool has thrown away all but these jobs.

        It trusts the broker to bring them again; but their messages are spent, for they are claimed.
        """
        dropped = self._slots.thrown_away(in_pool)
        # What was claimed meanwhile comes to the pool now.
        self._loop.finish()
        for request in dropped:
            request.give_back("Its worker lost the broker before a process had taken it.")

    def offer(self, request: JobRequest) -> None:
        """A message arrived."""
        self._offers.add(request)

    def turn_away(self, hint: Hint, acknowledge: Callable[[], None]) -> None:
        """A message of ours arrived whose task this worker does not know: its job waits for one that does."""
        self._errands.add(lambda session: unknown.hold_unknown(session, [hint]), acknowledge)

    def notice(self, queue: str, number: int, acknowledge: Callable[[], None]) -> None:
        """A probe arrived."""
        self._errands.add(lambda session: lost.see(session, queue, number), acknowledge)

    def bury(self, letter: Letter, reject: Callable[[], None]) -> None:
        """A message can be no job, and its broker keeps no dead letters: it is written down, then rejected."""
        self._errands.add(lambda session: letters.record(session, letter), reject)

    def ended(self, request: JobRequest, outcome: Outcome | None, seconds: float | None) -> None:
        """Its slot is free. `outcome` is still to be recorded; None: the child recorded it, or it was taken away."""
        with self._changed:
            self._slots.leave(seconds)
            if seconds is not None:
                self._offers.follow(self._slots.pace.usual_seconds or seconds)
            if outcome is None:
                self._held.release(request)
            else:
                self._held.ended(request, outcome)
            self._changed.notify()
        if outcome is None and request.claimed is not None and request.claimed.limited:
            # Its child has committed the end: there is room for the next one.
            self._nudge()
        self._slots.fill()

    def was_killed_by_us(self, pid: int | None) -> bool:
        return self._stopping.was_killed_by_us(pid)

    # --- called by the heartbeat ---

    def holds(self) -> dict[str, Claimed]:
        """What this worker really holds."""
        return self._held.claims()

    def unclaimed(self) -> list[str] | None:
        """The jobs whose messages are in our hands; None while none is and none can arrive."""
        job_ids = self._offers.in_hands()
        return sorted(job_ids) if job_ids or self.listening else None

    def pace(self) -> float | None:
        """Jobs per second that the slots have shown to manage; None while some are free or nothing is known."""
        return self._slots.proven_pace()

    def look_at_memory(self) -> None:
        """Called each second: what a child had is part of the evidence, should it be killed."""
        running = [request for request in self._held.unfinished() if request.worker_pid]
        for request in running:
            if (memory := self._peaks.look(request.worker_pid)) is not None:
                request.memory = max(memory, request.memory or 0)
        self._peaks.forget_all_but({request.worker_pid for request in running})

    def take_away(self, job_ids: Sequence[str]) -> None:
        """These attempts are no longer ours (cancelled, rescued)."""
        self._stopping.take_away(job_ids)

    # --- from start to end ---

    def start(self) -> None:
        self._thread.start()

    def begin_stop(self, seconds: float) -> None:
        """Take no more: hand unclaimed messages back, and after `seconds` put back what still runs, uncounted."""
        with self._changed:
            offers = self._offers.close()
            # Not yet written: they come again by themselves.
            self._errands.close()
            self._slots.close()
            self._changed.notify()
        for request in offers:
            # The event loop has ended: say it to the broker directly.
            request.message.reject_log_error(logger, request._connection_errors, requeue=True)
        self._stopping.begin(seconds)

    def finish(self, seconds: float = 10) -> None:
        """Put back and record what is still open, then end the thread."""
        self._stopping.join(seconds)
        with self._changed:
            self._finishing = True
            self._changed.notify()
        self._thread.join(seconds)
        # A claim that was under way when we were told to stop: nobody will run it any more.
        self._stopping.put_back_held()

    # --- the thread ---

    def _run(self) -> None:
        pause, troubles = 0.5, 0
        while True:
            offers, outcomes = self._next_group()
            try:
                self._errands.run()
                if offers or outcomes:
                    self._recording.record(offers, outcomes)
                elif self._finishing:
                    return
                pause, troubles = 0.5, 0
                self._recording.try_refused()
                if self._slots.are_fed() and not self._finishing:
                    time.sleep(_GATHER_SECONDS)
            except Exception as trouble:
                # Whatever it is, this thread must live: without it the worker claims and records nothing.
                troubles += 1
                if may_pass(trouble) and troubles < _TOGETHER:
                    self._recording.keep(offers, outcomes)
                elif offers or outcomes:
                    logger.info("A group cannot be recorded; taking it apart", exc_info=True)
                    if self._recording.record_apart(offers, outcomes):
                        continue
                logger.warning("The database does not answer; trying again in %.1f s: %s", pause, trouble)
                time.sleep(pause)
                pause = min(2 * pause, 5.0)

    def _next_group(self) -> tuple[list[JobRequest], list[Ended]]:
        with self._changed:
            self._offers.end_group()
            idle = not self._held.has_outcomes() and not self._claimable() and not self._errands
            if idle and not self._finishing:
                self._changed.wait(_PATIENCE_SECONDS / 2)
                self._offers.look_at_early()
            self._slots.put_back_waiting(_PATIENCE_SECONDS)
            self._offers.keep_nothing_from_others()
            outcomes = self._held.next_outcomes(GROUP)
            return self._offers.take(self._claimable()), outcomes

    def _claimable(self) -> list[JobRequest]:
        return self._offers.claimable(min(GROUP, self._slots.room()))
