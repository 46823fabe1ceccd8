"""A process's sign of life: one row, renewed each second, with the attempts it really holds.

While it is renewed the worker's leases live. In the same breath it learns which attempts were taken away
(cancelled, rescued) and lets the recorder stop them.
"""

import logging
import os
import socket
import threading
from collections.abc import Callable, Collection
from pathlib import Path
from uuid import uuid4

from kombu.utils.json import dumps
from sqlalchemy import Engine, delete, insert, select, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from flaskapp.extensions import core_session
from flaskapp.jobs import lifecycle, unknown
from flaskapp.jobs.clock import now
from flaskapp.jobs.models import Job, JobState, Worker
from flaskapp.jobs.outcomes import Claimed, Stopped
from flaskapp.jobs.unknown import Knows

logger = logging.getLogger(__name__)

EVERY_SECONDS = 1.0


def new_process_id(name: str) -> str:
    """NAME@HOST plus a part that is new at every start, so that a restarted worker never inherits a lease."""
    name = name if "@" in name else f"{name}@{socket.gethostname()}"
    return f"{name[:240]}/{uuid4().hex[:8]}"


class Heartbeat:
    def __init__(
        self,
        engine: Engine,
        process_id: str,
        kind: str,
        queues: str = "",
        concurrency: int = 0,
        tasks: Collection[str] = (),
        holds: Callable[[], dict[str, Claimed]] = dict,
        unclaimed: Callable[[], list[str] | None] = lambda: None,
        pace: Callable[[], float | None] = lambda: None,
        take_away: Callable[[list[str]], None] | None = None,
        every_beat: Callable[[], None] | None = None,
    ) -> None:
        self.process_id = process_id
        self._engine = engine
        self._row = {
            "id": process_id,
            "kind": kind,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "queues": queues,
            "concurrency": concurrency,
            "tasks": dumps(sorted(tasks)),
        }
        self._knows = Knows(frozenset(queues.split(",")), frozenset(tasks))
        self._holds = holds
        self._unclaimed = unclaimed
        self._pace = pace
        self._take_away = take_away
        self._every_beat = every_beat
        self._suspects: set[tuple[str, int]] = set()
        self._strays: set[tuple[str, int]] = set()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Say good-bye: the row goes, so that nobody waits for its lease to run out."""
        self._end.set()
        self._thread.join(5)
        try:
            with core_session(self._engine) as session, session.begin():
                session.execute(delete(Worker).where(Worker.id == self.process_id))
        except DBAPIError as trouble:
            logger.warning("Could not take %s off the list of workers: %s", self.process_id, trouble.orig)

    def _run(self) -> None:
        while True:
            try:
                self.beat()
                if self._every_beat is not None:
                    self._every_beat()
            except DBAPIError as trouble:
                logger.warning("Heartbeat of %s failed: %s", self.process_id, trouble.orig)
            except Exception:
                # Whatever it is, this thread must live: without it every lease of this process runs out.
                logger.exception("Heartbeat of %s failed", self.process_id)
            if self._end.wait(EVERY_SECONDS):
                return

    def beat(self) -> None:
        """Renew the row (or write it again), then stop what is no longer ours."""
        # Before what it holds: a message that is claimed in between is then in both, not in neither.
        unclaimed = self._unclaimed()
        held = self._holds()
        values = {
            "heartbeat_at": now(),
            "unclaimed": None if unclaimed is None else dumps(unclaimed),
            "pace": self._pace(),
            "holds": dumps({job_id: claimed.number for job_id, claimed in held.items()}),
            "memory": _memory_of_process_tree(),
        }
        released = 0
        with core_session(self._engine) as session, session.begin():
            renewed = session.execute(
                update(Worker).where(Worker.id == self.process_id).values(beats=Worker.beats + 1, **values)
            )
            if renewed.rowcount == 0:  # type: ignore[attr-defined]
                session.execute(insert(Worker).values(**self._row, **values))
                released = unknown.release_known(session, [self._knows])
            running = _running(session, self.process_id)
            ours = {(job_id, claimed.number) for job_id, claimed in held.items()}
            gone, strays = ours - running, running - ours
            # Seen twice: a claim is committed a moment before it is held. Ours in the table, but nobody here answers
            # for it: its claim's answer was lost together with the broker's connection.
            _put_back(session, self.process_id, strays & self._strays)
        if released:
            logger.info("Released %d job(s) that waited for a worker which knows their task", released)
        self._strays = strays
        # Seen twice: an attempt that its child has just settled is not running either, and its parent hears of
        # that within the second. Killing the child then would hit the next job.
        lost, self._suspects = gone & self._suspects, gone
        if lost and self._take_away is not None:
            self._take_away([job_id for job_id, _number in lost])


def _running(session: Session, process_id: str) -> set[tuple[str, int]]:
    """The attempts that the table gives to us."""
    rows = session.execute(select(Job.id, Job.attempt).where(Job.state == JobState.RUNNING, Job.worker == process_id))
    return {(row.id, row.attempt) for row in rows}


def _put_back(session: Session, process_id: str, strays: set[tuple[str, int]]) -> None:
    reason = "Its worker lost sight of it."
    stopped = [Stopped(Claimed(job_id, number, process_id), reason) for job_id, number in sorted(strays)]
    if stopped:
        logger.warning("Put back %d job(s) that nobody here answers for", len(lifecycle.settle(session, stopped)))


def _memory_of_process_tree() -> int | None:
    """Resident bytes of this process and its children; None where /proc does not tell."""
    try:
        pids = [os.getpid(), *map(int, Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split())]
        page = os.sysconf("SC_PAGE_SIZE")
        return sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * page for pid in pids)
    except (OSError, IndexError, ValueError):
        return None
