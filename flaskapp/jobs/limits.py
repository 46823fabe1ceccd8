"""How many jobs of a queue or of a key may run at a time, and how many may start in a span: who has room now.

A limit is a row, of `queue` or of `job_limit`. The claim *enforces* it: it locks the row before it counts, so two
workers never give away the same room. The relay only *chooses* by it, so that jobs without room do not travel to the
broker and back. The rule of a rate: in no span of `rate_seconds` do more than `rate_count` jobs start, by the
database's clock. Nothing here commits.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Select, and_, case, delete, exists, func, insert, or_, select, true
from sqlalchemy.orm import Session

from flaskapp.jobs.clock import now, seconds_from_now
from flaskapp.jobs.models import PARKED, Job, JobState, Limit, Queue, Start
from flaskapp.jobs.unknown import UNKNOWN

#: Where a session remembers in which of its transactions it has locked limits.
_LOCKED_IN = "limits locked in"
#: A message that nobody took for so long does not stand for a job that is about to run: it keeps no place.
_ABOUT_TO_RUN_SECONDS = 60.0


class Bound(NamedTuple):
    """What a limit is about."""

    #: `key` or `queue`.
    kind: str
    name: str


#: For each kind: the rows that hold its limits, how they are called, and the job's column that names them.
_KINDS: dict[str, tuple[Any, Any, Any]] = {
    "key": (Limit, Limit.key, Job.limit_key),
    "queue": (Queue, Queue.name, Job.queue),
}


class Rule(NamedTuple):
    """Empty fields do not limit; the last two are empty together."""

    max_running: int | None = None
    rate_count: int | None = None
    rate_seconds: float | None = None

    def in_words(self) -> str:
        """For people: `at most 2 at a time, 10 a minute`; empty without a limit."""
        parts = []
        if self.max_running is not None:
            parts.append(f"{self.max_running} at a time")
        if self.rate_count is not None:
            parts.append(f"{self.rate_count} {_SPANS.get(self.rate_seconds or 0) or f'in {self.rate_seconds:g} s'}")
        return f"at most {', '.join(parts)}" if parts else ""


_SPANS: dict[float, str] = {1: "a second", 60: "a minute", 3600: "an hour", 86400: "a day"}


@dataclass
class Admission:
    """Who may go on, in the order in which they were asked, and who turned the others away."""

    ids: list[str] = field(default_factory=list)
    #: Of these, who fell under a limit.
    limited: set[str] = field(default_factory=set)
    full: set[Bound] = field(default_factory=set)
    #: The clock by which rates were measured; None if none had to be.
    at: datetime | None = None


def admit_to_start(session: Session, jobs: Sequence[Any]) -> Admission:
    """Which of these jobs a worker may start now: none of a paused queue, none beyond a limit.

    The limits stay locked until the caller's transaction ends, and its starts are counted.
    """
    queues = _queues(session, {job.queue for job in jobs})
    jobs = [job for job in jobs if job.queue not in queues or queues[job.queue].paused_at is None]
    limited = {name for name, row in queues.items() if row.limited}
    rules, others = _locked(session, {"key": {job.limit_key for job in jobs} - {None}, "queue": limited})
    if not rules and not others:
        return Admission([job.id for job in jobs])
    moment = _moment(session, rules)
    room = _room(session, rules, _count(session, rules, _is_running()), moment)
    admission = _admit(jobs, room | dict.fromkeys(others, 0))
    admission.at = moment
    _count_starts(session, jobs, rules, admission)
    return admission


def admit_to_send(session: Session, jobs: Sequence[Any]) -> Admission:
    """Which of these jobs the relay may send: those that will find room when they arrive."""
    wanted = {kind: {getattr(job, column.key) for job in jobs} - {None} for kind, (_, _, column) in _KINDS.items()}
    rules, others = _locked(session, wanted)
    if not rules and not others:
        return Admission([job.id for job in jobs])
    counts = _count(session, rules, or_(_is_running(), _is_queued(), _is_being_sent()))
    room = _room(session, rules, counts, _moment(session, rules))
    return _admit(jobs, room | dict.fromkeys(others, 0))


def full(session: Session) -> set[Bound]:
    """Who is surely full: a look without locks, so that the relay need not touch the jobs that wait behind it."""
    found: set[Bound] = set()
    any_of_kind = session.execute(select(*(exists().where(_is_limited(rows)) for rows, _, _ in _KINDS.values()))).one()
    for is_any, (kind, (rows, name, column)) in zip(any_of_kind, _KINDS.items(), strict=True):
        if not is_any:
            continue
        busy = (
            select(column.label("name"), func.count().label("jobs"))
            .where(or_(_is_running(), _is_queued()), column.is_not(None))
            .group_by(column)
            .subquery()
        )
        over = select(name).join(busy, busy.c.name == name).where(busy.c.jobs >= rows.max_running)
        # Only those that somebody waits for: a statement takes so many parameters, and the relay names each in one.
        spent = _spent(kind).where(_is_waited_for(kind))
        found |= {Bound(kind, each) for query in (over, spent) for each in session.scalars(query)}
    return found


def seconds_to_room(session: Session) -> float | None:
    """How soon the first of the spent rates, for whose room a job waits, leaves some; None if there is none."""
    soonest = []
    for kind, (rows, _, _) in _KINDS.items():
        spent = _spent(kind).add_columns(rows.rate_seconds, func.min(Start.at), now().label("moment"))
        for _, seconds, oldest, moment in session.execute(spent.where(_is_waited_for(kind))):
            soonest.append(seconds - (moment - oldest).total_seconds())
    return max(0.0, min(soonest)) if soonest else None


def _is_waited_for(kind: str) -> ColumnElement[bool]:
    _, name, column = _KINDS[kind]
    return exists().where(column == name, Job.state == JobState.WAITING, Job.run_at <= now())


def _spent(kind: str) -> Select[Any]:
    """The names of those whose rate lets nobody start now."""
    rows, name, _ = _KINDS[kind]
    return (
        select(name)
        .join(Start, and_(Start.kind == kind, Start.name == name))
        # A clock that went back leaves starts ahead of it, and only a claim forgets them.
        .where(rows.rate_count.is_not(None), Start.at > seconds_from_now(-rows.rate_seconds), Start.at <= now())
        .group_by(name, rows.rate_count, rows.rate_seconds)
        .having(func.count() >= rows.rate_count)
    )


def has_room(full: Collection[Bound]) -> ColumnElement[bool]:
    """The relay's part of the WHERE: not of a queue or key that is full."""
    keys, queues = ([bound.name for bound in full if bound.kind == kind] for kind in ("key", "queue"))
    conditions: list[ColumnElement[bool]] = [true()]
    if keys:
        conditions.append(or_(Job.limit_key.is_(None), Job.limit_key.not_in(keys)))
    if queues:
        conditions.append(Job.queue.not_in(queues))
    return and_(*conditions)


# --- rules ------------------------------------------------------------------------------------------------


def _is_limited(rows: Any) -> ColumnElement[bool]:
    return or_(rows.max_running.is_not(None), rows.rate_count.is_not(None))


def _queues(session: Session, names: Collection[str]) -> dict[str, Any]:
    """What is set for these queues; most have no row. One tiny SELECT for each group of claims."""
    query = select(Queue.name, Queue.paused_at, _is_limited(Queue).label("limited")).where(Queue.name.in_(names))
    return {row.name: row for row in session.execute(query)}


def _locked(session: Session, wanted: dict[str, set[str]]) -> tuple[dict[Bound, Rule], set[Bound]]:
    """The limits of these names, their rows locked, and those that somebody else has locked just now.

    Keys before queues, each sorted, so that nobody waits in a ring. A transaction that holds some already would come
    out of that order: it waits for no more.
    """
    rules: dict[Bound, Rule] = {}
    others: set[Bound] = set()
    may_wait = session.info.get(_LOCKED_IN) is not session.get_transaction()
    for kind, (rows, name, _) in _KINDS.items():
        if not wanted[kind]:
            continue
        limited = name.in_(sorted(wanted[kind])), _is_limited(rows)
        query = select(name, rows.max_running, rows.rate_count, rows.rate_seconds).where(*limited).order_by(name)
        found = session.execute(query.with_for_update(skip_locked=not may_wait))
        rules |= {Bound(kind, row[0]): Rule(*row[1:]) for row in found}
        if not may_wait:
            others |= {Bound(kind, each) for each in session.scalars(select(name).where(*limited))} - rules.keys()
    if rules:
        session.info[_LOCKED_IN] = session.get_transaction()
    return rules, others


def _bounds(job: Any, rules: Collection[Bound]) -> list[Bound]:
    return [bound for bound in (Bound("key", job.limit_key), Bound("queue", job.queue)) if bound in rules]


def _admit(jobs: Iterable[Any], room: dict[Bound, int]) -> Admission:
    """Give the room away in the order of the jobs; a job needs room in its queue and in its key."""
    admission = Admission()
    for job in jobs:
        bounds = _bounds(job, room)
        full = {bound for bound in bounds if room[bound] <= 0}
        if full:
            admission.full |= full
            continue
        for bound in bounds:
            room[bound] -= 1
        admission.ids.append(job.id)
        if bounds:
            admission.limited.add(job.id)
    return admission


# --- counting ---------------------------------------------------------------------------------------------


def _is_running() -> ColumnElement[bool]:
    return Job.state == JobState.RUNNING


def _is_queued() -> ColumnElement[bool]:
    return and_(Job.state == JobState.QUEUED, Job.queued_at > seconds_from_now(-_ABOUT_TO_RUN_SECONDS))


def _is_being_sent() -> ColumnElement[bool]:
    """In the hands of a relay."""
    reserved = and_(
        Job.sender.is_not(None), Job.sender.not_in([PARKED, UNKNOWN]), Job.sending_until > now(), Job.run_at <= now()
    )
    return and_(Job.state == JobState.WAITING, reserved)


class Count(NamedTuple):
    running: int = 0
    #: Queued, or being sent: on its way to a worker, where it will need its place.
    under_way: int = 0


def _count(session: Session, rules: Iterable[Bound], where: ColumnElement[bool]) -> dict[Bound, Count]:
    """How many jobs of each limit are there."""
    running = func.sum(case((_is_running(), 1), else_=0))
    counts: dict[Bound, Count] = {}
    for kind, (_, _, column) in _KINDS.items():
        names = [bound.name for bound in rules if bound.kind == kind]
        if not names:
            continue
        query = select(column, running, func.count()).where(where).group_by(column)
        # A queue is not asked for by its name: its index holds the whole history, that of the states does not.
        query = query.where(column.in_(names)) if kind == "key" else query
        counts |= {Bound(kind, row[0]): Count(int(row[1]), row[2] - int(row[1])) for row in session.execute(query)}
    return counts


def _room(
    session: Session, rules: dict[Bound, Rule], counts: dict[Bound, Count], moment: datetime | None
) -> dict[Bound, int]:
    """How many more may go on."""
    room = {}
    for bound, rule in rules.items():
        count = counts.get(bound, Count())
        left = []
        if rule.max_running is not None:
            left.append(rule.max_running - count.running)
        if rule.rate_count is not None and moment is not None:
            left.append(rule.rate_count - _starts(session, bound, rule, moment))
        room[bound] = min(left) - count.under_way
    return room


def _moment(session: Session, rules: dict[Bound, Rule]) -> datetime | None:
    """The clock, read once the limits are locked: every start that counts was written before."""
    if all(rule.rate_count is None for rule in rules.values()):
        return None
    return session.execute(select(now())).scalar_one()


def _starts(session: Session, bound: Bound, rule: Rule, moment: datetime) -> int:
    span = and_(_of(bound), Start.at > _begin(rule, moment), Start.at <= moment)
    return session.execute(select(func.count()).where(span)).scalar_one()


def _count_starts(session: Session, jobs: Iterable[Any], rules: dict[Bound, Rule], admission: Admission) -> None:
    """Write down what starts now, and forget what no longer counts (also what a clock that went back left ahead)."""
    rated = {bound: rule for bound, rule in rules.items() if rule.rate_count is not None}
    started = [job for job in jobs if job.id in admission.limited]
    rows = [
        {"kind": bound.kind, "name": bound.name, "at": admission.at} for job in started for bound in _bounds(job, rated)
    ]
    if rows and admission.at is not None:
        for bound, rule in rated.items():
            past = or_(Start.at <= _begin(rule, admission.at), Start.at > admission.at)
            session.execute(delete(Start).where(_of(bound), past).execution_options(synchronize_session=False))
        session.execute(insert(Start), rows)


def forget_starts(session: Session, bound: Bound) -> None:
    """Its limit is taken away: what it counted counts no more."""
    session.execute(delete(Start).where(_of(bound)).execution_options(synchronize_session=False))


def _of(bound: Bound) -> ColumnElement[bool]:
    return and_(Start.kind == bound.kind, Start.name == bound.name)


def _begin(rule: Rule, moment: datetime) -> datetime:
    return moment - timedelta(seconds=rule.rate_seconds or 0)
