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

from flaskapp.extensions import core_session, is_outage
from flaskapp.jobs import letters, lifecycle, lost, unknown
from flaskapp.jobs.changes import SUBMITTED
from flaskapp.jobs.letters import Letter
from flaskapp.jobs.outcomes import Claimed, Error, Failed, Hint, Outcome, Stopped, Succeeded
from flaskapp.worker.errands import Errands
from flaskapp.worker.loop_calls import LoopCalls
from flaskapp.worker.memory import Peaks
from flaskapp.worker.outages import may_pass
from flaskapp.worker.pace import Pace
from flaskapp.worker.prefetch import Prefetch
from flaskapp.worker.refused import Refusal, Refused
from flaskapp.worker.request import JobRequest

logger = logging.getLogger(__name__)

#: How many outcomes or claims one transaction takes.
GROUP = 200
#: A claimed job that found no free slot for so long goes back for another worker.
_PATIENCE_SECONDS = 1.0
#: While the pool has work, a group gathers for so long: larger groups cost less each.
_GATHER_SECONDS = 0.03
_UNWRITABLE = "NotRecordable"
#: A group that fails so often in a row is taken apart: the database may be there for all but one of it.
_TOGETHER = 2


class Recorder:
    def __init__(self, engine: Engine, worker_id: str, concurrency: int, nudge: Callable[[], None]) -> None:
        self.worker_id = worker_id
        self._engine = engine
        self._concurrency = concurrency
        self._nudge = nudge
        self._consumer: Any = None
        #: True while messages can arrive; set by the event loop.
        self.listening = False
        self._changed = threading.Condition(threading.RLock())
        self._offers: deque[JobRequest] = deque()
        #: Messages of a newer sending than the attempt that we still hold: looked at once that is recorded.
        self._early: list[JobRequest] = []
        #: Handed back to the broker, and not yet noted: until then they count as in our hands.
        self._returned: list[str] = []
        #: What the group that is being recorded has offered.
        self._recording: list[JobRequest] = []
        self._errands = Errands(engine, self._on_loop)
        #: Claimed and acknowledged, waiting for a free slot: (request, since).
        self._ready: deque[tuple[JobRequest, float]] = deque()
        self._outcomes: deque[tuple[JobRequest, Outcome]] = deque()
        self._refused = Refused()
        #: How many transactions went through that wrote something.
        self._passed = 0
        #: Everything this worker answers for: claimed and not yet recorded as ended.
        self._held: dict[str, JobRequest] = {}
        self._busy = 0
        self._pace = Pace(concurrency)
        self._prefetch = Prefetch(concurrency)
        self._loop_calls = LoopCalls()
        self._killed: dict[int, float] = {}
        self._peaks = Peaks()
        self._stopping = False
        self._finishing = False
        self._filling = threading.local()
        self._stop_thread: threading.Thread | None = None
        self._thread = threading.Thread(target=self._run, name="recorder", daemon=True)

    # --- called by the worker's other parts ---

    def start(self) -> None:
        self._thread.start()

    def attach(self, consumer: Any) -> None:
        """A new broker connection: what the old one offered comes again by itself."""
        with self._changed:
            self._consumer = consumer
            dropped = [*self._returned, *(str(request.id) for request in (*self._offers, *self._early))]
            self._offers.clear()
            self._early.clear()
            self._errands.clear()
            self._returned = list(dropped)
            self._prefetch.reset()
        self._note_return(dropped)

    def detach(self) -> None:
        """The broker connection is gone, and Celery's pool has thrown away what no child had accepted yet.

        It trusts the broker to bring that again; but those messages are spent, for their jobs are claimed.
        """
        with self._changed:
            waiting = [request for request, _since in self._ready]
            dropped = [
                request
                for request in self._held.values()
                if request.was_handed_over and request.worker_pid is None and request not in waiting
            ]
        # What was claimed meanwhile comes to the pool now.
        self._loop_calls.finish()
        for request in dropped:
            request.give_back("Its worker lost the broker before a process had taken it.")

    def offer(self, request: JobRequest) -> None:
        """A message arrived."""
        with self._changed:
            self._offers.append(request)
            self._changed.notify()

    def turn_away(self, hint: Hint, acknowledge: Callable[[], None]) -> None:
        """A message of ours arrived whose task this worker does not know: its job waits for one that does."""
        self._run_errand(lambda session: unknown.hold_unknown(session, [hint]), acknowledge)

    def notice(self, queue: str, number: int, acknowledge: Callable[[], None]) -> None:
        """A probe arrived."""
        self._run_errand(lambda session: lost.see(session, queue, number), acknowledge)

    def bury(self, letter: Letter, reject: Callable[[], None]) -> None:
        """A message can be no job, and its broker keeps no dead letters: it is written down, then rejected."""
        self._run_errand(lambda session: letters.record(session, letter), reject)

    def _run_errand(self, write: Callable[[Session], Any], answer: Callable[[], None]) -> None:
        with self._changed:
            if not self._stopping:
                self._errands.add(write, answer)
                self._changed.notify()

    def ended(self, request: JobRequest, outcome: Outcome | None, seconds: float | None) -> None:
        """Its slot is free. `outcome` is still to be recorded; None: the child recorded it, or it was taken away."""
        with self._changed:
            self._busy -= 1
            if seconds is not None:
                self._pace.ended(seconds, has_work=bool(self._ready))
                if self._prefetch.follow(self._pace.usual_seconds or seconds):
                    self._on_loop(self._prefetch.change, self._consumer)
            if outcome is None:
                self._release(request)
            else:
                self._outcomes.append((request, outcome))
            self._changed.notify()
        if outcome is None and request.claimed is not None and request.claimed.limited:
            # Its child has committed the end: there is room for the next one.
            self._nudge()
        self._fill()

    def holds(self) -> dict[str, Claimed]:
        """What this worker really holds, for its heartbeat."""
        with self._changed:
            return {job_id: held.claimed for job_id, held in self._held.items() if held.claimed is not None}

    def unclaimed(self) -> list[str] | None:
        """The jobs whose messages are in our hands, for the heartbeat; None while none is and none can arrive."""
        with self._changed:
            held = {str(request.id) for request in (*self._offers, *self._early, *self._recording)}
            return sorted(held.union(self._returned)) if held or self._returned or self.listening else None

    def pace(self) -> float | None:
        """Jobs per second that the slots manage, judged by the latest; None before the first."""
        return self._pace.per_second()

    def look_at_memory(self) -> None:
        """Called each second: what a child had is part of the evidence, should it be killed."""
        with self._changed:
            running = [request for request in self._held.values() if request.worker_pid and not request.finished]
        for request in running:
            if (memory := self._peaks.look(request.worker_pid)) is not None:
                request.memory = max(memory, request.memory or 0)
        self._peaks.forget_all_but({request.worker_pid for request in running})

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
                    self._release(request)
                else:
                    request.taken_away = True
                    self._kill(request)

    def was_killed_by_us(self, pid: int | None) -> bool:
        return pid in self._killed

    def begin_stop(self, seconds: float) -> None:
        """Take no more: hand unclaimed messages back, and after `seconds` put back what still runs, uncounted."""
        with self._changed:
            self._stopping = True
            offers, self._offers, self._early = [*self._offers, *self._early], deque(), []
            self._returned += [str(request.id) for request in offers]
            # Not yet written: they come again by themselves.
            self._errands.clear()
            self._put_back_ready(0)
            self._changed.notify()
        for request in offers:
            # The event loop has ended: say it to the broker directly.
            request.message.reject_log_error(logger, request._connection_errors, requeue=True)
        self._stop_thread = threading.Thread(target=self._put_back_running, args=(seconds,), name="stop", daemon=True)
        self._stop_thread.start()

    def _note_return(self, job_ids: list[str]) -> None:
        """The broker has them in line again: a probe that is before them there now proves nothing."""
        if job_ids:
            self._run_errand(lambda session: lost.handed_back(session, job_ids), lambda: self._forget_return(job_ids))

    def _forget_return(self, job_ids: list[str]) -> None:
        with self._changed:
            for job_id in job_ids:
                if job_id in self._returned:
                    self._returned.remove(job_id)

    def finish(self, seconds: float = 10) -> None:
        """Put back and record what is still open, then end the thread."""
        if self._stop_thread is not None:
            self._stop_thread.join(seconds)
        with self._changed:
            self._finishing = True
            self._changed.notify()
        self._thread.join(seconds)
        # A claim that was under way when we were told to stop: nobody will run it any more.
        self._put_back_held()

    # --- the thread ---

    def _run(self) -> None:
        pause, troubles = 0.5, 0
        while True:
            offers, outcomes = self._next_group()
            try:
                if not self._stopping:
                    self._errands.run()
                if offers or outcomes:
                    self._record(offers, outcomes)
                elif self._finishing:
                    return
                pause, troubles = 0.5, 0
                self._try_refused()
                if self._is_fed():
                    time.sleep(_GATHER_SECONDS)
            except Exception as trouble:
                # Whatever it is, this thread must live: without it the worker claims and records nothing.
                troubles += 1
                if may_pass(trouble) and troubles < _TOGETHER:
                    self._keep(offers, outcomes)
                else:
                    logger.info("A group cannot be recorded; taking it apart", exc_info=True)
                    if self._record_apart(offers, outcomes):
                        continue
                logger.warning("The database does not answer; trying again in %.1f s: %s", pause, trouble)
                time.sleep(pause)
                pause = min(2 * pause, 5.0)

    def _keep(self, offers: list[JobRequest], outcomes: list[tuple[JobRequest, Outcome]]) -> None:
        with self._changed:
            self._offers.extendleft(reversed(offers))
            self._outcomes.extendleft(reversed(outcomes))

    def _record_apart(self, offers: list[JobRequest], outcomes: list[tuple[JobRequest, Outcome]]) -> bool:
        """Something in this group cannot be written: find it, so that it does not stop the others.

        False if the database is away after all; what was not tried is kept.
        """
        for number, (request, outcome) in enumerate(outcomes):
            if self._is_away(self._record_outcome(Refusal(request, outcome, self._passed))):
                self._keep(offers, outcomes[number + 1 :])
                return False
        for number, offer in enumerate(offers):
            if self._is_away(self._record_offer(offer)):
                self._keep(offers[number + 1 :], [])
                return False
        return True

    def _is_away(self, trouble: Exception | None) -> bool:
        return trouble is not None and is_outage(trouble)

    def _try_refused(self) -> None:
        while (refusal := self._refused.next_due()) is not None:
            if self._record_outcome(refusal) is not None:
                return

    def _record_outcome(self, refusal: Refusal) -> Exception | None:
        """Alone. What the database does not take waits for its next turn, or fails its job."""
        request, outcome = refusal.request, refusal.outcome
        try:
            self._record([], [(request, outcome)])
        except Exception as trouble:
            if may_pass(trouble) and refusal.is_refused_again(self._passed):
                self._refused.add(refusal)
                return trouble
            logger.exception("job=%s how it ended cannot be written", request.id)
            with self._changed:
                if isinstance(outcome, Failed) and outcome.error.type == _UNWRITABLE:
                    # The heartbeat puts back what nobody answers for.
                    self._held.pop(str(request.id), None)
                else:
                    self._outcomes.append((request, Failed(outcome.claimed, Error(_UNWRITABLE, str(trouble)))))
        return None

    def _record_offer(self, offer: JobRequest) -> Exception | None:
        try:
            self._record([offer], [])
        except Exception as trouble:
            if may_pass(trouble):
                self._keep([offer], [])
                return trouble
            logger.exception("job=%s cannot be claimed: its message is a dead letter", offer.id)
            self._on_loop(self._consumer.bury, offer.message, letters.REJECTED, f"No claim: {trouble}")
        return None

    def _next_group(self) -> tuple[list[JobRequest], list[tuple[JobRequest, Outcome]]]:
        with self._changed:
            self._recording = []
            self._offer_early_again()
            idle = not self._outcomes and not self._claimable(0) and not self._errands
            if idle and not self._finishing:
                self._changed.wait(_PATIENCE_SECONDS / 2)
                self._offer_early_again()
            self._put_back_ready(_PATIENCE_SECONDS)
            self._give_back_surplus()
            outcomes = [self._outcomes.popleft() for _ in range(min(GROUP, len(self._outcomes)))]
            self._recording = self._claimable(len(outcomes))
            for request in self._recording:
                self._offers.remove(request)
            return self._recording, outcomes

    def _claimable(self, ending: int) -> list[JobRequest]:
        """The offers that there is room for, once so many more have ended.

        A job that has lost a process before is claimed only into a free slot: should its worker die, what merely stood
        claimed behind it must not be blamed a second time.
        """
        if self._stopping:
            return []
        # What is claimed and still on its way to the event loop takes a place too.
        held = len(self._held) - len(self._outcomes) - len(self._refused) - ending
        room = min(GROUP, self._concurrency + self._pace.ahead() - held)
        chosen: list[JobRequest] = []
        for request in self._offers:
            if len(chosen) >= room:
                break
            if not request.is_suspect or held + len(chosen) < self._concurrency:
                chosen.append(request)
            elif time.monotonic() - request.arrived > _PATIENCE_SECONDS:
                # Nothing more overtakes it: soon a slot is free.
                break
        return chosen

    def _is_fed(self) -> bool:
        """The pool has something to do while we gather."""
        with self._changed:
            return len(self._ready) >= self._concurrency and not self._finishing

    def _give_back_surplus(self) -> None:
        """What was fetched ahead while jobs were short is kept from others now that they are long."""
        surplus = self._prefetch.surplus([request.arrived for request in self._offers])
        if surplus:
            given = [self._offers.pop() for _ in range(surplus)]
            self._returned += [str(request.id) for request in given]
            self._on_loop(self._hand_back, given)

    def _is_early(self, request: JobRequest) -> bool:
        """Its job has moved on in the table, and we have not yet recorded or heard that our attempt ended."""
        held = self._held.get(str(request.id))
        return held is not None and (request.hint.send or 0) > (held.hint.send or 0)

    def _offer_early_again(self) -> None:
        free = [request for request in self._early if not self._is_early(request)]
        if free:
            self._early = [request for request in self._early if self._is_early(request)]
            self._offers.extendleft(reversed(free))

    def _record(self, offers: list[JobRequest], outcomes: list[tuple[JobRequest, Outcome]]) -> None:
        """One transaction for both; what it decided is carried out after it is committed."""
        with self._changed:
            # A duplicate of what we hold is spent. Of two messages for one job each must be looked at: the
            # older one may be refused, and then the newer is the only one that is left.
            early = [request for request in offers if self._is_early(request)]
            fresh = [request for request in offers if str(request.id) not in self._held]
        first = {str(request.id): request for request in reversed(fresh)}
        early += [request for request in fresh if first[str(request.id)] is not request]
        with core_session(self._engine) as session, session.begin():
            settled = lifecycle.settle(session, [outcome for _, outcome in outcomes])
            claims = lifecycle.claim(session, [request.hint for request in first.values()], self.worker_id)
            refused = first.keys() - claims.keys()
            rowless = refused - lifecycle.known(session, refused) if refused else set()
            foreign = [first[job_id] for job_id in rowless if first[job_id].hint.send is None]
            if foreign:
                lifecycle.submit(session, [request.wish for request in foreign])
                claims |= lifecycle.claim(session, [request.hint for request in foreign], self.worker_id)
            made_due = session.info.get(SUBMITTED)
        if settled or claims:
            self._passed += 1
        if made_due:
            # A chord's body.
            self._nudge()
        self._forget(outcomes, settled)
        taken = list(first.values())
        for request in taken:
            request.claimed = claims.get(str(request.id))
        with self._changed:
            self._held |= {str(request.id): request for request in taken if request.claimed is not None}
            self._early += early
        # Ours, but its job is gone (pruned): a dead letter, never run.
        buried = [first[job_id] for job_id in rowless if first[job_id].hint.send is not None]
        answered = [request for request in offers if request not in early]
        if answered:
            self._on_loop(self._take_over, answered, buried)

    def _release(self, request: JobRequest) -> None:
        if self._held.get(str(request.id)) is request:
            del self._held[str(request.id)]

    def _forget(self, outcomes: list[tuple[JobRequest, Outcome]], settled: set[str]) -> None:
        with self._changed:
            for request, outcome in outcomes:
                self._release(request)
                if outcome.claimed.job_id not in settled:
                    logger.warning(
                        "job=%s attempt=%s lease lost: its outcome changes nothing",
                        outcome.claimed.job_id,
                        outcome.claimed.number,
                    )
        if any(outcome.claimed.limited or not isinstance(outcome, Succeeded) for _, outcome in outcomes):
            self._nudge()

    # --- on the event loop (or, where a transport has none, in whichever thread calls) ---

    def _on_loop(self, function: Callable[..., None], *args: Any) -> None:
        self._loop_calls.add(getattr(self._consumer, "hub", None), function, *args)

    def _take_over(self, offers: list[JobRequest], buried: list[JobRequest]) -> None:
        """Answer the broker for every offer; what was claimed goes on to the pool."""
        try:
            for request in offers:
                if request in buried:
                    self._consumer.bury(request.message, letters.NO_JOB)
                else:
                    request.acknowledge()
        finally:
            # Whatever the broker makes of our answers: these are claimed.
            with self._changed:
                self._ready.extend((request, time.monotonic()) for request in offers if request.claimed is not None)
        self._fill()

    def _fill(self) -> None:
        """Hand to the pool what it has slots for; without the lock, for a solo pool runs the job right here."""
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
            if self._busy >= self._concurrency or not self._ready or self._stopping:
                return None
            request, _since = self._ready.popleft()
            self._busy += 1
            return request

    def _hand_over(self, request: JobRequest) -> None:
        request.was_handed_over = True
        try:
            task_reserved(request)
            self._consumer.on_task_request(request)
        except Exception:
            logger.exception("job=%s the pool did not take it; it is put back", request.id)
            request.give_back("The pool of its worker did not take it.")

    def _put_back_ready(self, patience: float) -> None:
        moment = time.monotonic()
        while self._ready and moment - self._ready[0][1] >= patience:
            # Jobs are longer than they usually were: claim none ahead until some have ended.
            self._pace.forget()
            request, _since = self._ready.popleft()
            if request.claimed is not None:
                self._outcomes.append((request, Stopped(request.claimed, "No slot of its worker came free.")))

    def _hand_back(self, requests: list[JobRequest]) -> None:
        # First the limit: the broker would send them to us again.
        self._prefetch.change(self._consumer)
        for request in requests:
            request.reject(requeue=True)
        self._prefetch.gave_back()
        self._note_return([str(request.id) for request in requests])

    # --- stopping attempts ---

    def _put_back_running(self, seconds: float) -> None:
        self._note_last_return()
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and self._busy:
            time.sleep(0.05)
        if running := self._put_back_held():
            logger.warning("Put back %d running job(s) after %s s", len(running), seconds)
            self.take_away([str(request.id) for request in running])

    def _note_last_return(self) -> None:
        """As `_note_return`, when no errand is run any more."""
        with self._changed:
            job_ids = list(self._returned)
        if not job_ids:
            return
        try:
            with core_session(self._engine) as session, session.begin():
                lost.handed_back(session, job_ids)
        except DBAPIError as trouble:
            logger.warning("%d message(s) handed back may be sent twice: %s", len(job_ids), trouble)
        self._forget_return(job_ids)

    def _put_back_held(self) -> list[JobRequest]:
        """First the row, then the process: what it does in between is already fenced off."""
        with self._changed:
            running = [request for request in self._held.values() if request.claimed and not request.finished]
        if not running:
            return []
        try:
            with core_session(self._engine) as session, session.begin():
                lifecycle.settle(session, [Stopped(request.claimed) for request in running if request.claimed])
        except DBAPIError as trouble:
            logger.warning("%d running job(s) are left to be rescued, as a crash: %s", len(running), trouble)
            return []
        return running

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
