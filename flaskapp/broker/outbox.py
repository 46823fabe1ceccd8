"""From committed rows to messages: take a batch, publish with no transaction open, mark what was confirmed.

If we die anywhere here the rows are still waiting and their reservation runs out: they are sent again, and a
duplicate is harmless. A relay runs in every process that commits jobs (woken by the nudge) and in beat.
"""

import logging
import time
from typing import Any
from uuid import uuid4

from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from flaskapp.broker.nudged import Nudged
from flaskapp.broker.publisher import Publisher
from flaskapp.errors import NotConfirmed
from flaskapp.extensions import control_engine, core_session
from flaskapp.jobs import lifecycle, limits
from flaskapp.jobs.window import Window

logger = logging.getLogger(__name__)

BATCH = 500
#: Longer than any publish may take: after this another relay may send the batch again.
SENDING_SECONDS = 30
#: How long the jobs of a refused batch rest before they are tried again.
REST_SECONDS = 1
#: How long a job rests whose message the broker will not take, so that it does not cost each batch a connection.
REFUSED_REST_SECONDS = 60
#: A little longer than a refused batch rests, so that it is due again.
_SHORTEST_PAUSE = 1.2 * REST_SECONDS
_LONGEST_PAUSE = 5.0
#: So that what is waited for is true when we look.
_A_MOMENT = 0.01


def send_due(engine: Engine, publisher: Publisher, limit: int = BATCH, window: Window | None = None) -> int:
    """Send up to `limit` due jobs; answers how many were taken. Raises NotConfirmed when the broker is away."""
    sender = str(uuid4())
    with core_session(engine, expire_on_commit=False) as session, session.begin():
        batch = lifecycle.take_to_send(session, sender, limit, SENDING_SECONDS, window)
    if not batch:
        return 0
    confirmed: set[str] = set()
    try:
        confirmed = publisher.publish(batch)
    finally:
        unsent = [job.id for job in batch if job.id not in confirmed]
        with core_session(engine) as session, session.begin():
            lifecycle.mark_queued(session, sender, sorted(confirmed))
        # Each in a transaction of its own: together they would lock rows out of order.
        _rest(engine, sender, [job_id for job_id in unsent if job_id not in publisher.refused], REST_SECONDS)
        _rest(engine, sender, sorted(publisher.refused), REFUSED_REST_SECONDS)
    return len(batch)


def _rest(engine: Engine, sender: str, job_ids: list[str], seconds: float) -> None:
    if job_ids:
        with core_session(engine) as session, session.begin():
            lifecycle.release_unsent(session, sender, job_ids, seconds)


class Relay(Nudged):
    """A background thread that empties the outbox: when nudged, and every `poll_seconds` if that is set.

    It rests, longer each time up to five seconds, while the broker or the database is away.
    """

    _name = "outbox"

    def __init__(self, database_url: Any, broker_url: str, poll_seconds: float | None = None) -> None:
        super().__init__()
        self._database_url = database_url
        self._broker_url = broker_url
        self._poll_seconds = poll_seconds
        # How many nudges came, and how many of them a pass has followed.
        self._asked = self._done = 0

    def start(self) -> None:
        self.nudge()

    def nudge(self) -> None:
        self._asked += 1
        super().nudge()

    def wait(self, seconds: float) -> bool:
        """Until what the last nudge asked for is done, well or not; False if it is still under way after `seconds`."""
        asked, end = self._asked, time.monotonic() + seconds
        while self._done < asked and time.monotonic() < end:
            time.sleep(_A_MOMENT)
        return self._done >= asked

    def _run(self) -> None:
        engine = control_engine(self._database_url)
        publisher = Publisher(self._broker_url)
        window = Window()
        pause, patience = 0.0, self._poll_seconds
        while not self._stopping:
            # A nudge does not end a rest: while the broker is away each request would bring it another knock.
            if pause:
                self._end.wait(pause)
            else:
                self._wake.wait(patience)
            self._wake.clear()
            asked = self._asked
            try:
                while send_due(engine, publisher, window=window) and not self._stopping:
                    pass
                pause, patience = 0.0, self._until_next_look(engine)
            except (NotConfirmed, DBAPIError) as trouble:
                pause = min(max(2 * pause, _SHORTEST_PAUSE), _LONGEST_PAUSE)
                logger.warning("The outbox rests for %.1f s: %s", pause, trouble)
            except Exception:
                # Whatever it is, this thread must live: without it nothing leaves this process.
                pause = _LONGEST_PAUSE
                logger.exception("The outbox rests for %.1f s", pause)
                publisher.close()
            self._done = asked
        publisher.close()
        engine.dispose()

    def _until_next_look(self, engine: Engine) -> float | None:
        """The next poll, or the moment at which a rate leaves room for a job that waits, whichever comes first."""
        if self._poll_seconds is None:
            return None
        with core_session(engine) as session:
            room_in = limits.seconds_to_room(session)
        return self._poll_seconds if room_in is None else min(self._poll_seconds, room_in + _A_MOMENT)
