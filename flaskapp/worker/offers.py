"""Messages that arrived and are not claimed yet: which of them may be, and which go back for other workers.

All under the recorder's one lock, which every method takes itself. Only the broker is answered on the event loop.
"""

import threading
import time
from collections import deque
from collections.abc import Sequence

from flaskapp.worker.held import Held
from flaskapp.worker.loop_calls import LoopCalls
from flaskapp.worker.prefetch import Prefetch
from flaskapp.worker.request import JobRequest
from flaskapp.worker.returned import Returned
from flaskapp.worker.slots import Slots

#: A job that lost a process before is overtaken for no longer than this.
_PATIENCE_SECONDS = 1.0


class Offers:
    def __init__(
        self,
        changed: threading.Condition,
        concurrency: int,
        held: Held,
        slots: Slots,
        returned: Returned,
        loop: LoopCalls,
    ) -> None:
        self._changed = changed
        self._held = held
        self._slots = slots
        self._returned = returned
        self._loop = loop
        self._prefetch = Prefetch(concurrency)
        #: The event loop is asked to tell the broker a new limit.
        self._telling = False
        self._offers: deque[JobRequest] = deque()
        #: Messages of a newer sending than the attempt that we still hold: looked at once that is recorded.
        self._early: list[JobRequest] = []
        #: The database refused their claims: they are tried again later, each alone.
        self._aside: list[JobRequest] = []
        #: What the group that is being recorded has offered.
        self._recording: list[JobRequest] = []
        self._closed = False

    def add(self, request: JobRequest) -> None:
        with self._changed:
            self._offers.append(request)
            self._changed.notify()

    def add_early(self, requests: Sequence[JobRequest]) -> None:
        with self._changed:
            self._early += requests

    def keep(self, requests: Sequence[JobRequest]) -> None:
        """They could not be claimed now: they are the first again."""
        with self._changed:
            self._offers.extendleft(reversed(requests))

    def in_hands(self) -> set[str]:
        """The jobs whose messages nobody else can have."""
        with self._changed:
            requests = (*self._offers, *self._early, *self._aside, *self._recording)
            return {str(request.id) for request in requests}.union(self._returned.job_ids())

    # --- what may be claimed, for the recorder's thread ---

    def end_group(self) -> None:
        """Nothing of the last group is in our hands any more, but for what was kept; some may no longer be early."""
        with self._changed:
            self._recording = []
            self.look_at_early()

    def look_at_early(self) -> None:
        with self._changed:
            free = [request for request in self._early if not self._held.is_older(request)]
            if free:
                self._early = [request for request in self._early if self._held.is_older(request)]
                self.keep(free)

    def claimable(self, room: int) -> list[JobRequest]:
        """The offers that there is room for.

        A job that has lost a process before is claimed only into a free slot: should its worker die, what merely stood
        claimed behind it must not be blamed a second time.
        """
        chosen: list[JobRequest] = []
        with self._changed:
            free_slots = self._slots.free()
            for request in self._offers if not self._closed else ():
                if len(chosen) >= room:
                    break
                if not request.is_suspect or len(chosen) < free_slots:
                    chosen.append(request)
                elif time.monotonic() - request.arrived > _PATIENCE_SECONDS:
                    # Nothing more overtakes it: soon a slot is free.
                    break
        return chosen

    def take(self, requests: list[JobRequest]) -> list[JobRequest]:
        """They are recorded next, and until then in our hands."""
        with self._changed:
            self._recording = requests
            self._prefetch.serve({request.queue for request in requests})
            for request in requests:
                self._offers.remove(request)
            return requests

    def recorded(self, requests: Sequence[JobRequest]) -> None:
        """Their claims are committed or refused: none of them needs one of the slots any more that are still free."""
        with self._changed:
            done = {id(request) for request in requests}
            self._recording = [request for request in self._recording if id(request) not in done]

    def set_aside(self, request: JobRequest) -> None:
        with self._changed:
            self._aside.append(request)

    def take_aside(self, request: JobRequest) -> bool:
        """It is recorded now, alone; False if it has gone back meanwhile."""
        with self._changed:
            if self._closed or request not in self._aside:
                return False
            self._aside.remove(request)
            self._recording = [*self._recording, request]
            return True

    # --- what goes back ---

    def follow(self, usual_seconds: float) -> None:
        """A job ended; jobs usually take so long."""
        with self._changed:
            self._prefetch.follow(usual_seconds)

    def keep_nothing_from_others(self) -> None:
        """What found no free slot for long goes back; the broker learns how much to send from now on."""
        with self._changed:
            free = self._slots.free()
            if self._offers and self._prefetch.is_kept_from_others(self._offers[0].arrived, free):
                given = list(self._offers)
                self._offers.clear()
                self._returned.add([str(request.id) for request in given])
                self._loop.add(self._hand_back, given)
            elif self._prefetch.is_news(self._room()) and not self._telling:
                self._telling = True
                self._loop.add(self.tell_limit)

    def tell_limit(self) -> None:
        """On the event loop, and before messages are answered: for each answer the broker sends another one."""
        self._telling = False
        self._prefetch.tell(self._loop.consumer, self._room)

    def _room(self) -> int:
        """How many slots are free, and stay so with what has arrived already."""
        with self._changed:
            return self._slots.free() - len(self._offers) - len(self._recording)

    def _hand_back(self, requests: list[JobRequest]) -> None:
        """On the event loop."""
        # First the limit: the broker would send them to us again.
        self.tell_limit()
        for request in requests:
            request.reject(requeue=True)
        self._returned.note([str(request.id) for request in requests])

    def drop(self) -> None:
        """A new broker connection: what the old one offered comes again by itself."""
        with self._changed:
            self._returned.add([str(request.id) for request in self._empty()])
            self._prefetch.reset()

    def close(self) -> list[JobRequest]:
        """The worker stops: nothing more is claimed, and these are to be handed back now."""
        with self._changed:
            self._closed = True
            requests = self._empty()
            self._returned.add([str(request.id) for request in requests])
            return requests

    def _empty(self) -> list[JobRequest]:
        requests = [*self._offers, *self._early, *self._aside]
        self._offers.clear()
        self._early.clear()
        self._aside.clear()
        return requests
