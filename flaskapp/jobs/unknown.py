"""Jobs whose task no running worker knows: held as waiting, released as soon as one does.

Each worker's row says which queues and tasks it knows. Nothing here commits: the caller owns the transaction.
"""

import json
from collections.abc import Collection, Iterable
from datetime import UTC, datetime
from typing import Any, NamedTuple

from sqlalchemy import and_, null, select
from sqlalchemy.orm import Session

from flaskapp.jobs.changes import change
from flaskapp.jobs.clock import now, seconds_from_now
from flaskapp.jobs.models import PARKED, Job, JobState, Worker
from flaskapp.jobs.outcomes import Hint

#: The sender of a job that is held; no relay takes it.
UNKNOWN = "unknown task"
#: A worker whose last heartbeat is older is not asked what it knows.
_ALIVE_SECONDS = 10.0
#: How soon a job is sent again that an older worker got although a newer one is there.
_AGAIN_SECONDS = 1.0
#: How many are released in one transaction: a worker's first sign of life waits for it.
MOST_AT_ONCE = 5000
_NAMES = 500
_held = and_(Job.state == JobState.WAITING, Job.sender == UNKNOWN, Job.run_at <= now())


class Knows(NamedTuple):
    """What one live worker can run."""

    queues: frozenset[str]
    tasks: frozenset[str]


def live_knowledge(session: Session) -> list[Knows]:
    alive = select(Worker.queues, Worker.tasks).where(
        Worker.kind == "worker", Worker.heartbeat_at > seconds_from_now(-_ALIVE_SECONDS)
    )
    return [
        Knows(frozenset(queues.split(",")), frozenset(json.loads(tasks or "[]")))
        for queues, tasks in session.execute(alive)
    ]


def known_tasks(session: Session) -> frozenset[str]:
    """Every task that a live worker knows, of whatever queue."""
    return frozenset().union(*(each.tasks for each in live_knowledge(session)))


def hold_unknown(session: Session, hints: Iterable[Hint]) -> list[str]:
    """Their messages came to a worker that does not know the task: waiting, queued ─▶ waiting, for one that does.

    If one that does is alive they are sent again soon: it may be its turn then. Answers the ids that are held.
    """
    workers = live_knowledge(session)
    held = []
    for hint in hints:
        started = Job.state.not_in([JobState.WAITING, JobState.QUEUED])
        sent = and_(Job.id == hint.job_id, ~started, Job.sends == hint.send, Job.sender.is_distinct_from(PARKED))
        row = session.execute(select(Job.task, Job.queue).where(sent).with_for_update()).first()
        if row is None:
            continue
        if any(row.task in each.tasks and row.queue in each.queues for each in workers):
            rest: dict[str, Any] = {"sender": null(), "sending_until": seconds_from_now(_AGAIN_SECONDS)}
        else:
            rest = {"sender": UNKNOWN, "sending_until": datetime(9999, 1, 1, tzinfo=UTC)}
            held.append(hint.job_id)
        change(session, sent, state=JobState.WAITING, queued_at=null(), **rest)
    return held


def release_known(session: Session, workers: Collection[Knows]) -> int:
    """Held jobs that one of these workers can run are sent, up to MOST_AT_ONCE of them. Answers how many."""
    released = 0
    names: dict[str, list[str]] = {}
    for task, queue in session.execute(select(Job.task, Job.queue).where(_held).distinct()):
        if any(task in each.tasks and queue in each.queues for each in workers):
            names.setdefault(queue, []).append(task)
    for queue, tasks in names.items():
        for start in range(0, len(tasks), _NAMES):
            mine = and_(_held, Job.queue == queue, Job.task.in_(tasks[start : start + _NAMES]))
            some = select(Job.id).where(mine).limit(MOST_AT_ONCE - released).with_for_update(skip_locked=True)
            if ids := session.scalars(some).all():
                released += change(session, Job.id.in_(ids), sender=null(), sending_until=null())
    return released
