"""What this worker answers for: each attempt from its claim until its end is recorded.

All under the recorder's one lock. Every method takes it itself; whoever needs two answers of the same moment takes it
around both.
"""

import threading
from collections import deque
from collections.abc import Sequence

from flaskapp.jobs.outcomes import Claimed, Outcome
from flaskapp.worker.request import JobRequest

Ended = tuple[JobRequest, Outcome]


class Held:
    def __init__(self, changed: threading.Condition) -> None:
        self._changed = changed
        self._held: dict[str, JobRequest] = {}
        #: How attempts ended, oldest first: still to be recorded.
        self._outcomes: deque[Ended] = deque()
        #: The jobs among the held whose end is known: they need no slot any more.
        self._ended: set[str] = set()

    def add(self, requests: Sequence[JobRequest]) -> None:
        """Their claims are committed."""
        with self._changed:
            self._held |= {str(request.id): request for request in requests}

    def ended(self, request: JobRequest, outcome: Outcome) -> None:
        """Its end is to be recorded."""
        with self._changed:
            if self._held.get(str(request.id)) is request:
                self._ended.add(str(request.id))
            self._outcomes.append((request, outcome))

    def release(self, request: JobRequest) -> None:
        """Its end is recorded, or it is nobody's any more."""
        with self._changed:
            if self._held.get(str(request.id)) is request:
                del self._held[str(request.id)]
                self._ended.discard(str(request.id))

    def has_outcomes(self) -> bool:
        with self._changed:
            return bool(self._outcomes)

    def next_outcomes(self, most: int) -> list[Ended]:
        """Take them; what cannot be recorded comes back by `keep` or `ended`."""
        with self._changed:
            return [self._outcomes.popleft() for _ in range(min(most, len(self._outcomes)))]

    def keep(self, outcomes: Sequence[Ended]) -> None:
        """They are the next to be taken again."""
        with self._changed:
            self._outcomes.extendleft(reversed(outcomes))

    def unended(self) -> int:
        """How many have a slot, wait for one, or are on their way to the event loop."""
        with self._changed:
            return len(self._held) - len(self._ended)

    def unfinished(self) -> list[JobRequest]:
        """Those of which the pool has not told the end."""
        with self._changed:
            return [request for request in self._held.values() if request.claimed and not request.finished]

    def of(self, job_id: str) -> JobRequest | None:
        with self._changed:
            return self._held.get(job_id)

    def sort(self, offers: Sequence[JobRequest]) -> tuple[list[JobRequest], list[JobRequest]]:
        """The early ones, and those of jobs that are not ours yet. The rest are duplicates."""
        with self._changed:
            early = [request for request in offers if self.is_older(request)]
            return early, [request for request in offers if str(request.id) not in self._held]

    def is_older(self, request: JobRequest) -> bool:
        """Its job has moved on in the table, and we have not yet recorded or heard that our attempt ended."""
        held = self.of(str(request.id))
        return held is not None and (request.hint.send or 0) > (held.hint.send or 0)

    def claims(self) -> dict[str, Claimed]:
        with self._changed:
            return {job_id: held.claimed for job_id, held in self._held.items() if held.claimed is not None}
