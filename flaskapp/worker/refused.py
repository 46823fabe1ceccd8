"""Outcomes and claims that the database refused although it took others: each is tried again, alone, and in the end
given up.

A database that takes nothing at all is away, however often it is asked: that makes no job fail.
"""

import time
from collections import deque
from dataclasses import dataclass

from flaskapp.jobs.outages import MOST_OUTAGES
from flaskapp.jobs.outcomes import Outcome
from flaskapp.worker.request import JobRequest

_FIRST_PAUSE = 0.5
_LONGEST_PAUSE = 5.0


@dataclass
class Refusal:
    request: JobRequest
    #: None: it was to be claimed.
    outcome: Outcome | None
    #: How many transactions of this worker had gone through when it was last refused.
    passed: int
    #: How often it was refused while others were not.
    strikes: int = 0
    #: Not before this moment of our own clock.
    due: float = 0.0

    def is_refused_again(self, passed: int) -> bool:
        """False if that was once too often."""
        self.strikes += passed > self.passed
        self.passed = passed
        self.wait()
        return self.strikes < MOST_OUTAGES

    def wait(self) -> None:
        self.due = time.monotonic() + min(_FIRST_PAUSE * 2**self.strikes, _LONGEST_PAUSE)


class Refused:
    """Used by the recorder's thread alone."""

    def __init__(self) -> None:
        self._waiting: deque[Refusal] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, refusal: Refusal) -> None:
        self._waiting.append(refusal)

    def next_due(self) -> Refusal | None:
        """Takes the one that has waited longest, if its pause is over."""
        if not self._waiting or self._waiting[0].due > time.monotonic():
            return None
        return self._waiting.popleft()
