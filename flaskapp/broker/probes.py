"""The search for lost messages, beat's side: probes are sent, what they prove is carried out, counts are asked for.

One look follows another in a thread of its own, each when beat (or a worker that stands in for it) nudges: a broker
that is away delays neither the rescue of jobs nor the relay. What is known stands in SQL, so any number may look.
"""

import logging
import time
from typing import Any

from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from flaskapp.broker import transports
from flaskapp.broker.nudged import Nudged
from flaskapp.broker.publisher import Publisher
from flaskapp.errors import NotConfirmed
from flaskapp.extensions import control_engine, core_session
from flaskapp.jobs import comparing, lifecycle, lost
from flaskapp.jobs.lost import UnderWay
from flaskapp.jobs.models import QUEUES

logger = logging.getLogger(__name__)

#: A probe before a worker that was idle for so long since then is missing.
IDLE_SECONDS = 5.0
_COUNT_EVERY = 5.0
_REST_SECONDS = 5.0
#: How many jobs one short transaction sends again.
_GROUP = 1000


class Search:
    """One process's looks; it remembers only since when it saw idle workers wait for which probe."""

    def __init__(self, engine: Engine, publisher: Publisher, margin: float) -> None:
        self._engine = engine
        self._publisher = publisher
        self._margin = margin
        #: (queue, number of its probe) → since when, on our own clock, each look saw an idle worker there
        self._idle_since: dict[tuple[str, int], float] = {}

    def look(self) -> list[str]:
        """Answers the jobs found lost; raises NotConfirmed when the broker is away, DBAPIError when the database is."""
        found = []
        with core_session(self._engine, expire_on_commit=False) as session:
            probes = lost.under_way(session)
            idle = lost.idle_queues(session)
            self._watch(probes, idle)
            for probe in probes:
                if probe.seen_ago is None:
                    found += self._wait_for(session, probe, idle)
                elif probe.seen_ago >= self._margin:
                    # Who was before it and is still queued has lost its message.
                    found += self._send_again(session, probe, "a later message arrived")
            queues = lost.queues_to_probe(session, self._margin)
        for queue in queues:
            self._send_probe(queue)
        return found

    def count(self) -> None:
        """Ask the broker how many messages it has, and keep the answer for the pages."""
        with core_session(self._engine) as session:
            queues = lost.queues_with_jobs(session, QUEUES)
        counts = self._publisher.count_messages(queues)
        with core_session(self._engine) as session, session.begin():
            comparing.note_counts(session, counts)

    def _watch(self, probes: list[UnderWay], idle: set[str]) -> None:
        moment = time.monotonic()
        waited_for = [(probe.queue, probe.number) for probe in probes if probe.seen_ago is None and probe.queue in idle]
        self._idle_since = {key: self._idle_since.get(key, moment) for key in waited_for}

    def _wait_for(self, session: Session, probe: UnderWay, idle: set[str]) -> list[str]:
        since = self._idle_since.get((probe.queue, probe.number))
        waited_idly = since is not None and time.monotonic() - since >= IDLE_SECONDS
        is_old = probe.sent_ago >= IDLE_SECONDS
        if not (waited_idly or (is_old and lost.overtaken(session, probe))) or not lost.miss(session, probe):
            session.rollback()
            return []
        session.commit()
        logger.warning("queue=%s probe %d is missing", probe.queue, probe.number)
        if waited_idly and probe.missing + 1 >= lost.MOST_MISSING:
            return self._send_again(session, probe, f"{probe.missing + 1} probes went missing before idle workers")
        return []

    def _send_again(self, session: Session, probe: UnderWay, why: str) -> list[str]:
        gone = lost.lost_before(session, probe.queue, probe.sent_at, self._margin)
        if probe.seen_ago is not None and not lost.still_stands(session, probe):
            session.rollback()
            return []
        for start in range(0, len(gone), _GROUP):
            # If we die between two groups the probe is still there to be judged.
            lifecycle.requeue_lost(session, gone[start : start + _GROUP], probe.sent_at)
            session.commit()
        lost.close(session, probe, gone)
        session.commit()
        if gone:
            shown = ", ".join(gone[:5])
            logger.warning("queue=%s sending %d job(s) again, for %s: %s …", probe.queue, len(gone), why, shown)
        return gone

    def _send_probe(self, queue: str) -> None:
        with core_session(self._engine) as session, session.begin():
            number = lost.begin(session, queue)
        if number is None:
            return
        is_sent = False
        try:
            is_sent = self._publisher.publish_probe(queue, number)
        finally:
            if not is_sent:
                with core_session(self._engine) as session, session.begin():
                    lost.not_sent(session, queue, number)


class Prober(Nudged):
    """The thread of the search; a look for each nudge, and a rest while the broker or the database is away."""

    _name = "probes"

    def __init__(self, database_url: Any, broker_url: str) -> None:
        super().__init__()
        self._database_url = database_url
        self._broker_url = broker_url

    def _run(self) -> None:
        engine = control_engine(self._database_url)
        publisher = Publisher(self._broker_url)
        search = Search(engine, publisher, transports.margin_seconds(self._broker_url))
        counted_at = 0.0
        while not self._stopping:
            self._wake.wait()
            self._wake.clear()
            try:
                search.look()
                if time.monotonic() - counted_at >= _COUNT_EVERY:
                    search.count()
                    counted_at = time.monotonic()
            except (NotConfirmed, DBAPIError) as trouble:
                logger.info("The search for lost messages rests for %.0f s: %s", _REST_SECONDS, trouble)
                self._end.wait(_REST_SECONDS)
            except Exception:
                # Whatever it is, this thread must live: without it a lost message is never found.
                logger.exception("The search for lost messages rests for %.0f s", _REST_SECONDS)
                publisher.close()
                self._end.wait(_REST_SECONDS)
        publisher.close()
        engine.dispose()
