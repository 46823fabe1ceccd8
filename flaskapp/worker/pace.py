"""How fast a worker's jobs end: the measure of how much it claims and fetches ahead.

The time a job takes in its task is not the whole: on a loaded machine the way to the pool and back is longer. So
endings are also counted as they come, while the pool never waits for work.
"""

import time
from collections import deque

#: While jobs are short, claim ahead as many as the pool works off in about this time …
_AHEAD_SECONDS = 0.1
#: … and never more than this.
MOST_AHEAD = 200
#: What was claimed ahead and found no slot is sent again: at most one for so many that ended.
_ENDED_FOR_ONE_IN_VAIN = 100
#: Nothing is faster than this, whatever a clock says.
_SHORTEST_SECONDS = 0.0005
_NEWEST_COUNTS_FOR = 0.1
#: What was longer ago proves nothing for the jobs of now.
_PROOF_SECONDS = 5


class Pace:
    def __init__(self, concurrency: int) -> None:
        self._concurrency = concurrency
        #: How long a job usually takes in its task; None before the first has ended.
        self.usual_seconds: float | None = None
        #: How long it usually is from one ending to the next, with work in hand.
        self._usual_gap: float | None = None
        self._had_work_since: float | None = None
        #: [second, how many ended in it], of a little more than the proof's: `_filled_at` is old by then.
        self._endings: deque[list[int]] = deque(maxlen=_PROOF_SECONDS + 2)
        #: When a job ended last while every slot was taken.
        self._full_at: float | None = None
        #: When a job took the last free slot.
        self._filled_at: float | None = None
        #: How many ended since jobs were last claimed ahead in vain; None: they never were.
        self._ended_since: int | None = None

    def ended(self, seconds: float, has_work: bool, is_full: bool = False) -> None:
        """A job ended after `seconds`; `has_work`: another could follow at once; `is_full`: every slot was taken."""
        moment = time.monotonic()
        if is_full:
            self._full_at = moment
        if self._ended_since is not None:
            self._ended_since += 1
        if self._had_work_since is not None:
            self._usual_gap = _blend(self._usual_gap, moment - self._had_work_since)
        self._had_work_since = moment if has_work else None
        self.usual_seconds = _blend(self.usual_seconds, seconds)
        if not self._endings or self._endings[-1][0] != int(moment):
            self._endings.append([int(moment), 0])
        self._endings[-1][1] += 1

    def filled(self) -> None:
        """A job took the last free slot."""
        self._filled_at = time.monotonic()

    def claimed_in_vain(self) -> None:
        """Jobs are longer than they usually were: nothing is known until some have ended."""
        self._ended_since = 0
        self.usual_seconds = self._usual_gap = self._had_work_since = None

    def per_second(self) -> float | None:
        """How many jobs end in a second while there is work; None when nothing is known."""
        if self.usual_seconds is None:
            return None
        return 1 / max(self.usual_seconds / self._concurrency, self._usual_gap or 0, _SHORTEST_SECONDS)

    def proven(self, is_full: bool) -> float | None:
        """How many jobs end in a second, as far as it shows: only while every slot `is_full`, or was a moment ago.

        None else: a few short jobs a minute show how quick they could be, and nothing of the long line that comes next.
        """
        since = time.monotonic() - _PROOF_SECONDS
        if not is_full and (self._full_at is None or self._full_at < since):
            return None
        best = max((count for second, count in self._endings if second + 2 > since), default=0)
        per_second = self.per_second()
        if not best and is_full and self._filled_at is not None and self._filled_at < since:
            # Whatever the last ones took: of these none ended in that time.
            return min(1 / _PROOF_SECONDS, per_second or 1)
        if not best:
            # Either each takes longer, as the last ones did, or these are the first of another kind.
            return per_second if (self.usual_seconds or 0) > _PROOF_SECONDS else None
        return min(float(best), per_second or best)

    def ahead(self) -> int:
        """How many jobs to claim beyond the free slots."""
        per_second = self.per_second()
        if per_second is None:
            return 0
        most = MOST_AHEAD if self._ended_since is None else self._ended_since // _ENDED_FOR_ONE_IN_VAIN
        return min(most, MOST_AHEAD, int(per_second * _AHEAD_SECONDS))


def _blend(usual: float | None, newest: float) -> float:
    return newest if usual is None else (1 - _NEWEST_COUNTS_FOR) * usual + _NEWEST_COUNTS_FOR * newest
