"""What must happen every second somewhere: due schedules become jobs, dead leases are rescued, overdue jobs expire.

A turn is idempotent and any number of processes may take it at once. Beat takes one each second; a worker takes
one when it sees that no beat does.
"""

import logging
import time
from collections.abc import Callable
from typing import Any

from sqlalchemy import Engine, delete, select
from sqlalchemy.orm import Session

from flaskapp.extensions import core_session, is_outage
from flaskapp.jobs import lifecycle, lost, unknown
from flaskapp.jobs.models import Job, JobState, Worker
from flaskapp.worker.schedules import Schedules

logger = logging.getLogger(__name__)

#: One look counts for at most this share of a lease: a watcher that was held up itself (by the same stalled database,
#: say) learns nothing from the time in which nobody could beat.
_MOST_OF_A_LEASE = 0.4
_COMPACT_EVERY = 60.0
_EXPIRE_GROUP = 1000
_EXPIRE_GROUPS = 10
_HELD_EVERY = 30.0


class Turn:
    """One process's view of who is alive, and the work of a turn."""

    def __init__(self, app: Any, engine: Engine, is_beat: bool = False) -> None:
        self._app = app
        self._engine = engine
        self._schedules = Schedules(app, is_beat)
        self._lease_seconds: float = app.settings.lease_seconds
        #: process id → (its beats, for how many seconds of our own clock they have not moved while we looked)
        self._seen: dict[str, tuple[int, float]] = {}
        #: When we last saw any beat move.
        self._moved_at = 0.0
        self._compacted_at = 0.0
        self._looked_at_held_at = 0.0

    def run(self) -> None:
        """One turn; raises DBAPIError when the database does not answer."""
        self._app.prober.nudge()
        parts = (self._schedules.fire_due, self._rescue, _expire, self._look_at_held, self._compact)
        if any([self._carry_out(part) for part in parts]):
            self._app.relay.nudge()

    def _carry_out(self, part: Callable[[Session], Any]) -> Any:
        """What one part did; if it fails for reasons of its own, the others have their turn all the same."""
        try:
            with core_session(self._engine) as session:
                return part(session)
        except Exception as trouble:
            if is_outage(trouble):
                raise
            logger.exception("A part of a turn failed: %s", part.__name__.strip("_"))
            return None

    def _compact(self, session: Session) -> None:
        if time.monotonic() - self._compacted_at > _COMPACT_EVERY:
            folded = lifecycle.compact_tally(session)
            session.commit()
            if folded < lifecycle.TALLY_GROUP:
                self._compacted_at = time.monotonic()

    def _rescue(self, session: Session) -> list[str]:
        silent = self._silent(session)
        if not silent:
            session.rollback()
            return []
        # The broker has put in line again what they held unclaimed, when it lost them.
        lost.handed_back(session, lost.in_hands(session, silent))
        session.commit()
        rescued = lifecycle.rescue(session, silent)
        session.execute(delete(Worker).where(Worker.id.in_(silent)))
        session.commit()
        for process_id in silent:
            self._seen.pop(process_id, None)
        if rescued:
            logger.warning("Rescued %d job(s) of %s", len(rescued), ", ".join(silent))
        return rescued

    def _look_at_held(self, session: Session) -> int:
        """Jobs whose task nobody knew: a worker that does releases them itself; this is for one that was too quick."""
        if time.monotonic() - self._looked_at_held_at < _HELD_EVERY:
            return 0
        self._looked_at_held_at = time.monotonic()
        released = unknown.release_known(session, unknown.live_knowledge(session))
        session.commit()
        if released == unknown.MOST_AT_ONCE:
            # The next turn goes on.
            self._looked_at_held_at = 0.0
        if released:
            logger.info("Released %d job(s) whose task a running worker knows", released)
        return released

    def _silent(self, session: Session) -> list[str]:
        """Processes whose beats have not moved for a whole lease while we were watching: no clocks are compared."""
        beats = dict(session.execute(select(Worker.id, Worker.beats)).all())
        holders = session.scalars(select(Job.worker).where(Job.state == JobState.RUNNING).distinct())
        for holder in holders:
            beats.setdefault(str(holder), -1)
        moment = time.monotonic()
        passed = min(moment - self._moved_at, _MOST_OF_A_LEASE * self._lease_seconds)
        before, self._seen = self._seen, {}
        if all(before.get(process_id, (None, 0.0))[0] == count for process_id, count in beats.items()):
            # Not even we ourselves could write a sign of life: the database holds up everybody.
            passed = 0.0
        else:
            self._moved_at = moment
        for process_id, count in beats.items():
            counted, silence = before.get(process_id, (None, 0.0))
            self._seen[process_id] = (count, silence + passed if counted == count else 0.0)
        return [process_id for process_id, (_, silence) in self._seen.items() if silence >= self._lease_seconds]


def _expire(session: Session) -> int:
    """Cancel what was not started in time, in short commits; the rest of a flood is left to the next turns."""
    total = 0
    for _ in range(_EXPIRE_GROUPS):
        expired = lifecycle.expire_overdue(session, _EXPIRE_GROUP)
        session.commit()
        total += expired
        if expired < _EXPIRE_GROUP:
            break
    if total:
        logger.warning("%d job(s) were not started before their expiry time", total)
    return total
