"""Beat's scheduler: keeps no file; its memory is the `schedule` table, its clock is the database's.

Its tick fires schedules and rescues; the outbox and the dead letters have threads of their own, so a broker that
is away delays neither.
"""

import logging
from typing import Any

from celery.beat import Scheduler
from sqlalchemy.exc import DBAPIError

from flaskapp.extensions import control_engine
from flaskapp.worker.heartbeat import Heartbeat, new_process_id
from flaskapp.worker.maintenance import Turn

logger = logging.getLogger(__name__)

#: Looks often enough that the shortest leases are told apart from a single late heartbeat without delay.
TICK_SECONDS = 0.5
#: How soon a job that became due is seen by the outbox.
POLL_SECONDS = 0.5


class SqlScheduler(Scheduler):
    """Any number may run at once: every turn is idempotent, every schedule is compared and swapped."""

    def setup_schedule(self) -> None:
        engine = control_engine(self.app.settings.database_url)
        self._turn = Turn(self.app, engine, is_beat=True)
        self._relay = self.app.make_relay(POLL_SECONDS)
        self._relay.start()
        self._dead_letters = self.app.make_dead_letters()
        self._dead_letters.start()
        self._heartbeat = Heartbeat(engine, new_process_id("beat"), "beat")
        self._heartbeat.start()

    def tick(self, *args: Any, **options: Any) -> float:
        """One turn; answers the seconds until the next."""
        try:
            self._turn.run()
        except DBAPIError as trouble:
            logger.warning("The database does not answer; the next turn is in %.0f s: %s", TICK_SECONDS, trouble.orig)
        except Exception:
            # One wrong entry or row must not end beat.
            logger.exception("A turn failed; the next is in %.0f s", TICK_SECONDS)
        return TICK_SECONDS

    @property
    def info(self) -> str:
        return "    . memory -> the schedule table"

    def sync(self) -> None:
        """Nothing to write: every turn is committed."""

    def close(self) -> None:
        self._relay.stop()
        self.app.prober.stop()
        self._dead_letters.stop()
        self._heartbeat.stop()
