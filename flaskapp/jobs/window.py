"""How much of a queue stands at the broker: a window that follows the pace of its workers.

A broker knows first in, first out; what stays waiting beyond the window still feels priorities, pauses and cancels.
Promises cheap answers before any number of waiting jobs: `lines` is a few seeks in the index `job_line`.
"""

import time
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple, cast

from sqlalchemy import CompoundSelect, Select, Table, func, or_, select, union_all
from sqlalchemy.orm import Session

from flaskapp.jobs.clock import now, seconds_from_now
from flaskapp.jobs.models import Job, JobState, Queue, Worker

#: A queue's jobs at the broker: as many as its workers do in so many seconds, and no more than this …
WINDOW_SECONDS = 20
MOST = 10_000
#: … but so many where a worker may be quick, for all we know, or none is there yet.
LEAST = 200
#: … and never fewer than a worker may have in its hands and one more, for each slot: they could keep all of them from
#: an idle one. Four while nothing is known; a slow one fetches one (`worker/prefetch.py`), a quick one's pace is more.
PER_SLOT, PER_SLOT_IF_KNOWN = 5, 2
#: A worker whose last sign of life is older does not count.
_ALIVE_SECONDS = 10
#: How long a count is believed: fresh jobs nudge the relay far more often than a long queue can be counted.
_KEPT_SECONDS = 0.2

_JOB = cast(Table, Job.__table__)


class Line(NamedTuple):
    """The waiting jobs of one queue and one priority, of which at least one is due."""

    queue: str
    priority: int


def lines(session: Session) -> list[Line]:
    """Every line of a running queue with a job that is due, the most urgent first, then the longest due.

    From each line the next is one seek away, however many jobs wait or are due next year.
    """
    held = or_(Queue.paused_at.is_not(None), Queue.draining_at.is_not(None))
    still = set(session.scalars(select(Queue.name).where(held)))
    found = []
    after: Any = None
    while after := session.execute(_next_line(after)).first():
        if after.is_due and after.queue not in still:
            found.append(after)
    found.sort(key=lambda row: (-row.priority, row.run_at))
    return [Line(row.queue, row.priority) for row in found]


def _next_line(after: Any) -> Select[Any] | CompoundSelect[Any]:
    """The first job of the next line: of the same queue, else of the queue that follows."""
    row = _JOB.c
    first = select(row.queue, row.priority, row.run_at, (row.run_at <= now()).label("is_due"))
    # By the whole index: to a planner that believes there are few waiting jobs nothing else then comes cheaper.
    first = first.where(row.state == JobState.WAITING).order_by(row.queue, row.priority, row.run_at, row.id).limit(1)
    # MariaDB's planner would sort all of them.
    first = first.with_hint(_JOB, "FORCE INDEX (job_line)", "mariadb").with_hint(
        _JOB, "FORCE INDEX (job_line)", "mysql"
    )
    if after is None:
        return first
    same_queue = first.where(row.queue == after.queue, row.priority > after.priority).subquery()
    other_queue = first.where(row.queue > after.queue).subquery()
    return union_all(select(same_queue), select(other_queue))


class Window:
    """How many more jobs each queue may have at the broker; one relay's memory of what it counted a moment ago."""

    def __init__(self) -> None:
        #: queue → (how many more, believed until)
        self._rooms: dict[str, tuple[int, float]] = {}

    def lines_with_room(self, session: Session) -> list[Line]:
        found = lines(session)
        moment = time.monotonic()
        stale = {line.queue for line in found if self._rooms.get(line.queue, (0, 0.0))[1] <= moment}
        if stale:
            counted = rooms(session, stale)
            self._rooms |= {queue: (counted[queue], moment + _KEPT_SECONDS) for queue in stale}
        return [line for line in found if self.room(line.queue) > 0]

    def room(self, queue: str) -> int:
        return max(0, self._rooms[queue][0])

    def take(self, queue: str, count: int) -> None:
        room, until = self._rooms[queue]
        self._rooms[queue] = room - count, until


def rooms(session: Session, queues: Collection[str]) -> dict[str, int]:
    """The window of each queue less what stands queued there."""
    queued = select(Job.queue, func.count()).where(Job.state == JobState.QUEUED, Job.queue.in_(sorted(queues)))
    counts = dict(session.execute(queued.group_by(Job.queue)).all())
    windows = sizes(session, queues)
    return {queue: windows[queue] - counts.get(queue, 0) for queue in queues}


def sizes(session: Session, queues: Collection[str]) -> dict[str, int]:
    """The window of each queue."""
    alive = select(Worker.queues, Worker.pace, Worker.concurrency).where(
        Worker.kind == "worker", Worker.heartbeat_at > seconds_from_now(-_ALIVE_SECONDS)
    )
    workers = session.execute(alive).all()
    return {queue: _size([one for one in workers if queue in one.queues.split(",")]) for queue in queues}


def _size(workers: Sequence[Any]) -> int:
    in_hands: int = sum(one.concurrency * (PER_SLOT if one.pace is None else PER_SLOT_IF_KNOWN) for one in workers)
    in_time = WINDOW_SECONDS * sum(one.pace or 0 for one in workers)
    unknown = LEAST if not workers or any(one.pace is None for one in workers) else 0
    return min(MOST, max(unknown, in_hands, int(in_time)))
