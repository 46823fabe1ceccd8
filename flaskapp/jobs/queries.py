"""What pages and scripts ask about jobs: SELECTs only.

A viewer sees only their own jobs: pass `owner`. Lists are keyset pages, newest first.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import ColumnElement, Select, case, func, null, or_, select, tuple_
from sqlalchemy.orm import Session

from flaskapp.jobs.clock import now, seconds_from_now
from flaskapp.jobs.limits import Rule
from flaskapp.jobs.models import FINAL_STATES, PARKED, Attempt, Job, JobState, Progress, Queue, Schedule, Tally, Worker

#: It waits for other steps of its workflow: nobody is late.
_parked = func.coalesce(Job.sender, "") == PARKED


@dataclass(frozen=True)
class Filter:
    """What a list shows; empty fields do not filter."""

    states: Sequence[str] = ()
    task: str | None = None
    queue: str | None = None
    #: Part of the id, the task's name or the error message.
    text: str | None = None
    owner: str | None = None
    #: Whether a schedule asked for it.
    scheduled: bool | None = None


class Page(NamedTuple):
    jobs: list[Job]
    #: Pass to the next call for older jobs; None at the end.
    older: "Position | None"


class Position(NamedTuple):
    """Where a page ended."""

    created_at: datetime
    id: str


def job_by_id(session: Session, job_id: str, owner: str | None = None) -> Job | None:
    """None also if it is not `owner`'s: an outsider cannot tell the two apart."""
    job = session.get(Job, job_id, populate_existing=True)
    return job if job is not None and owner in (None, job.owner) else None


def jobs(session: Session, wanted: Filter, limit: int = 50, after: Position | None = None) -> Page:
    """One page of jobs, newest first."""
    query = _filtered(select(Job), wanted)
    if after is not None:
        query = query.where(tuple_(Job.created_at, Job.id) < tuple_(*after))
    rows = list(session.scalars(query.order_by(Job.created_at.desc(), Job.id.desc()).limit(limit + 1)))
    page = rows[:limit]
    older = Position(page[-1].created_at, page[-1].id) if len(rows) > limit else None
    return Page(page, older)


def newer_jobs(session: Session, wanted: Filter, before: Position, limit: int = 50) -> Page:
    """The page just before the one that begins at `before`, newest first."""
    query = _filtered(select(Job), wanted).where(tuple_(Job.created_at, Job.id) > tuple_(*before))
    rows = list(session.scalars(query.order_by(Job.created_at, Job.id).limit(limit)))[::-1]
    return Page(rows, Position(rows[-1].created_at, rows[-1].id) if rows else None)


def jobs_by_ids(session: Session, job_ids: Sequence[str], owner: str | None = None) -> list[Job]:
    """Those that exist and are `owner`'s, newest first."""
    query = select(Job).where(Job.id.in_(job_ids)).order_by(Job.created_at.desc(), Job.id.desc())
    if owner is not None:
        query = query.where(Job.owner == owner)
    return list(session.scalars(query))


def _filtered(query: Select[Job], wanted: Filter) -> Select[Job]:
    if wanted.states:
        query = query.where(Job.state.in_(wanted.states))
    if wanted.task:
        query = query.where(Job.task == wanted.task)
    if wanted.queue:
        query = query.where(Job.queue == wanted.queue)
    if wanted.owner is not None:
        query = query.where(Job.owner == wanted.owner)
    if wanted.scheduled is not None:
        query = query.where(Job.schedule.is_not(None) if wanted.scheduled else Job.schedule.is_(None))
    if wanted.text:
        query = query.where(_mentions(wanted.text))
    return query


def _mentions(text: str) -> ColumnElement[bool]:
    return or_(
        Job.id.contains(text, autoescape=True),
        Job.task.contains(text, autoescape=True),
        Job.error_message.contains(text, autoescape=True),
    )


def attempts(session: Session, job_id: str) -> list[Attempt]:
    """The attempts that a later one replaced, oldest first; the last one stands in the job's own row."""
    return list(session.scalars(select(Attempt).where(Attempt.job_id == job_id).order_by(Attempt.number)))


def progress(session: Session, job_ids: Sequence[str]) -> dict[str, Progress]:
    rows = session.scalars(
        select(Progress).where(Progress.job_id.in_(job_ids)).execution_options(populate_existing=True)
    )
    return {row.job_id: row for row in rows}


def children(session: Session, job_id: str, limit: int = 100) -> list[Job]:
    query = select(Job).where(Job.parent_id == job_id).order_by(Job.created_at, Job.id).limit(limit)
    return list(session.scalars(query))


def count_by_state(session: Session, owner: str | None = None) -> dict[str, int]:
    """Every one of the six states is a key."""
    query = select(Job.state, func.count()).group_by(Job.state)
    if owner is not None:
        query = query.where(Job.owner == owner)
    counts = dict(session.execute(query).all())
    return {state.value: counts.get(state.value, 0) for state in JobState}


@dataclass(frozen=True)
class Account:
    """accepted = waiting + queued + running + succeeded + failed + cancelled + pruned."""

    accepted: int
    pruned: int
    states: dict[str, int]

    @property
    def drift(self) -> int:
        """0 when the books balance; above 0: so many accepted jobs have no row any more."""
        return self.accepted - self.pruned - sum(self.states.values())


def account(session: Session) -> Account:
    """The conservation check, in one statement, so that both sides are of one moment."""
    tally = select(func.coalesce(func.sum(Tally.accepted), 0), func.coalesce(func.sum(Tally.pruned), 0))
    states = [
        select(func.count()).where(Job.state == state.value).scalar_subquery().label(state.value) for state in JobState
    ]
    row = session.execute(tally.add_columns(*states)).one()
    return Account(int(row[0]), int(row[1]), {state.value: row[2 + n] for n, state in enumerate(JobState)})


class QueueDepth(NamedTuple):
    name: str
    waiting: int
    queued: int
    running: int
    oldest_run_at: datetime | None
    paused_at: datetime | None
    draining_at: datetime | None
    rule: Rule

    @property
    def is_drained(self) -> bool:
        """Nothing of it is at the broker or runs, and nothing more goes there."""
        return self.draining_at is not None and not self.queued and not self.running


def queue_depths(session: Session, known: Sequence[str] = ()) -> list[QueueDepth]:
    """Every queue that is known, has live jobs or a setting: how much stands in it, and since when."""
    live = [JobState.WAITING, JobState.QUEUED, JobState.RUNNING]
    counted = session.execute(
        select(Job.queue, Job.state, func.count(), func.min(case((_parked, null()), else_=Job.run_at)))
        .where(Job.state.in_(live))
        .group_by(Job.queue, Job.state)
    ).all()
    held = (Queue.name, Queue.paused_at, Queue.draining_at)
    rows = session.execute(select(*held, Queue.max_running, Queue.rate_count, Queue.rate_seconds))
    set_for = {row[0]: (row[1], row[2], Rule(*row[3:])) for row in rows}
    names = sorted({*known, *set_for, *(row[0] for row in counted)})
    depths = []
    for name in names:
        counts = {row[1]: row[2] for row in counted if row[0] == name}
        oldest = [row[3] for row in counted if row[0] == name and row[1] != JobState.RUNNING and row[3] is not None]
        depths.append(
            QueueDepth(
                name,
                counts.get(JobState.WAITING, 0),
                counts.get(JobState.QUEUED, 0),
                counts.get(JobState.RUNNING, 0),
                min(oldest, default=None),
                *set_for.get(name, (None, None, Rule())),
            )
        )
    return depths


class KeyDepth(NamedTuple):
    waiting: int = 0
    queued: int = 0
    running: int = 0


def key_depths(session: Session, keys: Sequence[str]) -> dict[str, KeyDepth]:
    """How many live jobs there are with each of these limit keys."""
    live = Job.state.in_([JobState.WAITING, JobState.QUEUED, JobState.RUNNING])
    query = select(Job.limit_key, Job.state, func.count()).where(Job.limit_key.in_(keys), live)
    counts: dict[str, dict[str, int]] = {key: {} for key in keys}
    for key, state, count in session.execute(query.group_by(Job.limit_key, Job.state)):
        counts.setdefault(str(key), {})[state] = count
    return {key: KeyDepth(**count) for key, count in counts.items()}


def oldest_due(session: Session, owner: str | None = None) -> Job | None:
    """The job that has been due the longest without having been started."""
    query = select(Job).where(Job.state.in_([JobState.WAITING, JobState.QUEUED]), Job.run_at <= now(), ~_parked)
    if owner is not None:
        query = query.where(Job.owner == owner)
    return session.scalars(query.order_by(Job.run_at).limit(1)).first()


class FailureGroup(NamedTuple):
    task: str
    message: str
    times: int
    newest_job_id: str
    newest_at: datetime


def failures_by_message(session: Session, owner: str | None = None, limit: int = 5) -> list[FailureGroup]:
    """Failed jobs of the newest ten thousand, grouped by task and message."""
    message = func.substr(func.coalesce(Job.error_message, ""), 1, 200).label("message")
    recent = select(Job.id, Job.task, message, Job.finished_at).where(Job.state == JobState.FAILED)
    if owner is not None:
        recent = recent.where(Job.owner == owner)
    recent = recent.order_by(Job.finished_at.desc()).limit(10_000)
    failed = recent.subquery()
    query = (
        select(failed.c.task, failed.c.message, func.count(), func.max(failed.c.id), func.max(failed.c.finished_at))
        .group_by(failed.c.task, failed.c.message)
        .order_by(func.count().desc())
        .limit(limit)
    )
    return [FailureGroup(*row) for row in session.execute(query)]


class Finished(NamedTuple):
    state: str
    created_at: datetime
    run_at: datetime
    started_at: datetime | None
    finished_at: datetime


def finished_since(session: Session, seconds: float, owner: str | None = None, limit: int = 20_000) -> list[Finished]:
    """What ended in the last `seconds`, newest first: the raw material of the throughput charts."""
    query = select(Job.state, Job.created_at, Job.run_at, Job.started_at, Job.finished_at).where(
        Job.state.in_(sorted(FINAL_STATES)), Job.finished_at > seconds_from_now(-seconds)
    )
    if owner is not None:
        query = query.where(Job.owner == owner)
    rows = session.execute(query.order_by(Job.finished_at.desc()).limit(limit))
    return [Finished(*row) for row in rows]  # type: ignore[arg-type]


def known_tasks(session: Session, limit: int = 200) -> list[str]:
    return list(session.scalars(select(Job.task).distinct().order_by(Job.task).limit(limit)))


def schedules(session: Session) -> list[Schedule]:
    return list(session.scalars(select(Schedule).order_by(Schedule.name)))


def live_workers(session: Session, within_seconds: float, kind: str | None = None) -> list[Worker]:
    """Processes whose heartbeat is younger than `within_seconds`."""
    query = select(Worker).where(Worker.heartbeat_at > seconds_from_now(-within_seconds)).order_by(Worker.id)
    if kind is not None:
        query = query.where(Worker.kind == kind)
    return list(session.scalars(query.execution_options(populate_existing=True)))
