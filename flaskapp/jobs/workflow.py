"""What the end of a job means for the others of its workflow: joins are counted, and what can no longer run fails.

Every arrow that ends a job comes here in its own transaction, wherever it was taken: in a task's process, in its
parent, by a person or by a rescue. So a chord needs no polling task, and a chain broken by a kill does not hang.
Locks go one way, from a job to what follows it: its own row, its join, the join's body, the body's join.
"""

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from sqlalchemy import and_, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from flaskapp.jobs import joining
from flaskapp.jobs.changes import made_due
from flaskapp.jobs.joining import NewJoin
from flaskapp.jobs.models import PARKED, Job, JobState, Join
from flaskapp.jobs.outcomes import Error, Wish
from flaskapp.jobs.submitting import NOT_KNOWN, submit, submit_failed

#: The task that calls a failed job's errbacks: a job of its own, so that they are called wherever it failed, and once.
ERRBACKS_TASK = "offload.call_errbacks"
_LONGEST_MESSAGE = 2000
_FIELDS: tuple[InstrumentedAttribute[Any], ...] = (
    *(Job.id, Job.task, Job.queue, Job.state, Job.sender, Job.owner, Job.root_id, Job.group_id, Job.counts_for),
    *(Job.options, Job.error_type, Job.error_message, Job.error_data),
)


@dataclass(frozen=True)
class Cause:
    """The job because of which others cannot run, and the error that they fail with."""

    job_id: str
    #: As the later steps of a chain get it.
    error: Error
    #: What it raised, in Python's words.
    raised: str = ""


@dataclass
class _News:
    succeeded: list[str] = field(default_factory=list)
    causes: list[Cause] = field(default_factory=list)
    more_members: list[str] = field(default_factory=list)


class _Todo:
    """The joins that have news; taken from the highest number down, so that two transactions never wait for each other.

    What follows a join has a lower number: it was written before it.
    """

    def __init__(self) -> None:
        self._news: dict[str, _News] = {}
        self._numbers: dict[str, int] = {}

    def of(self, join_id: str) -> _News:
        return self._news.setdefault(join_id, _News())

    def locked(self, session: Session) -> Iterator[tuple[Join, _News]]:
        while self._news:
            join_id = self._next(session)
            if join_id is None:
                return
            news = self._news.pop(join_id)
            join = joining.lock_join(session, join_id)
            if join is not None:
                yield join, news

    def _next(self, session: Session) -> str | None:
        """Joins that nobody wrote (a stranger's chord that we do not know) are left out."""
        if len(self._news) == 1:
            return next(iter(self._news))
        unknown = [join_id for join_id in self._news if join_id not in self._numbers]
        if unknown:
            self._numbers |= dict(session.execute(select(Join.id, Join.number).where(Join.id.in_(unknown))).all())
        return max(
            (join_id for join_id in self._news if join_id in self._numbers), key=self._numbers.__getitem__, default=None
        )


def follow(
    session: Session,
    succeeded: Mapping[str, str | None],
    ended: Collection[str] = (),
    more: Mapping[str, Sequence[str]] = MappingProxyType({}),
) -> None:
    """These jobs have succeeded (with the join that each counts for), these may have failed or been cancelled.

    `more`: members that a job added to its own join.
    """
    todo = _Todo()
    for job_id, join_id in succeeded.items():
        if join_id is not None:
            todo.of(join_id).succeeded.append(job_id)
            todo.of(join_id).more_members += more.get(job_id, ())
    if ended:
        for row in _ended(session, ended):
            _fail_what_follows(session, row, _cause(row), todo)
    for join, news in todo.locked(session):
        _tell(session, join, news, todo)


def open_joins(session: Session, joins: Iterable[NewJoin]) -> None:
    """Write the joins of a canvas call, and count what is already there: a stranger's members may have been first."""
    for new in joins:
        if joining.write_join(session, new):
            succeeded, broken = joining.ended_members(session, new)
            todo = _Todo()
            todo.of(new.id).succeeded += succeeded
            todo.of(new.id).causes += [_cause(row) for row in _ended(session, broken)]
            for join, news in todo.locked(session):
                _tell(session, join, news, todo)


def reopen_what_follows(session: Session, job_id: str) -> None:
    """A failed job runs again: the steps that failed with it wait for it again."""
    todo = _Todo()
    _wait_again(session, _rows(session, [job_id]), todo)
    for join, _ in todo.locked(session):
        if join.broken_by is None:
            continue
        other = joining.another_broken_member(session, join)
        if other is None:
            _wait_again(session, _rows(session, joining.reopen(session, join)), todo)
        else:
            join.broken_by = other


def write_steps_to_come(session: Session, job_id: str) -> None:
    """A step of a chain has no row before it comes: write it, and the steps around it, if a live job leads to it.

    Parked, so that it can be cancelled like any other and stays so when it comes. Reads every live job's options.
    """
    live = Job.state.in_([JobState.WAITING, JobState.QUEUED, JobState.RUNNING])
    named = Job.options.contains(json.dumps(job_id), autoescape=True)
    rows = select(*_FIELDS).where(live, named).order_by(Job.id).with_for_update()
    for row in session.execute(rows).all():
        steps = _steps(row, json.loads(row.options).get("embed", {}).get("chain"))
        if any(step.job_id == job_id for step in steps):
            submit(session, [replace(step, options=NOT_KNOWN) for step in steps])
            return


def _tell(session: Session, join: Join, news: _News, todo: _Todo) -> None:
    """One join hears how its members ended."""
    if news.more_members:
        joining.add_members(join, news.more_members)
    join.missing -= len(news.succeeded)
    if join.broken_by is None and news.causes:
        cause = news.causes[0]
        error = _error_of_body(cause)
        bodies = joining.fail_bodies(session, join, cause.job_id, error)
        for row in _rows(session, bodies):
            _fail_what_follows(session, row, Cause(cause.job_id, error), todo)
    elif join.missing <= 0 and join.finished_at is None:
        joining.release(session, join, news.succeeded[-1] if news.succeeded else None)


# --- failing what follows ---------------------------------------------------------------------------------


def _fail_what_follows(session: Session, row: Any, cause: Cause, todo: _Todo) -> None:
    """The later steps of its chain, the join it counts for, and its errbacks."""
    options = json.loads(row.options).get("embed", {})
    if row.counts_for is not None:
        todo.of(row.counts_for).causes.append(cause)
    steps = _steps(row, options.get("chain"))
    failed = submit_failed(session, steps, cause.error)
    for step in steps:
        if step.job_id in failed and step.counts_for is not None:
            todo.of(step.counts_for).causes.append(cause)
    if row.sender == PARKED:
        _fail_parked_successors(session, row.id, cause, todo)
    if options.get("errbacks") and row.state == JobState.FAILED:
        told = Wish(ERRBACKS_TASK, json.dumps([row.id]), queue=row.queue, owner=row.owner, parent_id=row.id)
        (told_id,) = submit(session, [_in_tree_of(row, told)])
        made_due(session, told_id)


def _fail_parked_successors(session: Session, job_id: str, cause: Cause, todo: _Todo) -> None:
    """A step that has not arrived knows nothing of its chain, but those after it have it as parent."""
    before = [job_id]
    while before:
        never_ran = and_(Job.sender == PARKED, Job.state == JobState.WAITING, Job.attempt == 0)
        rows = session.execute(select(*_FIELDS).where(Job.parent_id.in_(before), never_ran).order_by(Job.id)).all()
        failed = submit_failed(session, [Wish(row.task, job_id=row.id) for row in rows], cause.error)
        for row in rows:
            if row.id in failed and row.counts_for is not None:
                todo.of(row.counts_for).causes.append(cause)
        before = sorted(failed)


def _wait_again(session: Session, rows: Iterable[Any], todo: _Todo) -> None:
    for row in rows:
        ids = [step.job_id for step in _steps(row, json.loads(row.options).get("embed", {}).get("chain"))]
        steps = _rows(session, [job_id for job_id in ids if job_id is not None])
        joining.park_again(session, [step.id for step in steps])
        for one in [row, *steps]:
            if one.counts_for is not None:
                todo.of(one.counts_for)


def _steps(row: Any, chain: Any) -> list[Wish]:
    """What would have run after `row`, first step first: a row for each result that somebody may wait for."""
    wishes = []
    parent = row.id
    # Celery keeps a chain's rest with the next step at its end.
    for signature in reversed(chain if isinstance(chain, list) else []):
        for end in _results_of(signature):
            wishes.append(_in_tree_of(row, _wish(end, row, parent)))
        parent = wishes[-1].job_id if wishes else parent
    return wishes


def _results_of(signature: Any) -> Iterator[Mapping[str, Any]]:
    """The plain tasks whose results are this signature's: a chord's are its body's, a chain's the last step's."""
    if not isinstance(signature, dict):
        return
    kwargs = signature.get("kwargs")
    kwargs = kwargs if isinstance(kwargs, dict) else {}
    match signature.get("subtask_type"):
        case "chord":
            yield from _results_of(kwargs.get("body"))
        case "group" | "chain":
            parts = kwargs.get("tasks")
            for part in parts if isinstance(parts, list) else []:
                yield from _results_of(part)
        case _ if _is_named(signature):
            yield signature


def _is_named(signature: Mapping[str, Any]) -> bool:
    """A stranger's chain may hold anything; what cannot be a row is left out."""
    options = signature.get("options")
    if not isinstance(options, dict):
        return False
    texts = [signature.get("task"), options.get("task_id"), *filter(None, [options.get("group_id")])]
    return all(isinstance(text, str) and 0 < len(text) <= 155 and text.isprintable() for text in texts)


def _wish(signature: Mapping[str, Any], row: Any, parent: str) -> Wish:
    options = signature["options"]
    return Wish(
        task=signature["task"],
        args=json.dumps(signature.get("args") or []),
        kwargs=json.dumps(signature.get("kwargs") or {}),
        queue=row.queue,
        job_id=options["task_id"],
        owner=row.owner,
        parent_id=parent,
        group_id=options.get("group_id") or None,
        counts_for=(options.get("group_id") or None) if options.get("chord") else None,
        parked=True,
    )


def _in_tree_of(row: Any, wish: Wish) -> Wish:
    return replace(wish, root_id=row.root_id or row.id)


# --- what it says -----------------------------------------------------------------------------------------


def _cause(row: Any) -> Cause:
    """get() raises what the failed job raised, or what revoked tasks raise. The row only names the job: its message
    may hold what its task calls secret, and is masked on its own page only.
    """
    message = (row.error_message or "")[:_LONGEST_MESSAGE]
    step = f"{row.task} ({row.id})"
    if row.state == JobState.CANCELLED:
        kind, text = "TaskRevokedError", f"{step} did not succeed: {row.error_type or 'Cancelled'}."
        return Cause(row.id, Error(kind, text, None, _exception(kind, text)), f"{kind}({row.error_type!r})")
    kind = row.error_type or "Exception"
    data = row.error_data or json.dumps({"exc_type": kind, "exc_message": [message], "exc_module": None})
    return Cause(row.id, Error(kind, f"{step} failed: {kind}.", None, data), f"{kind}({message!r})")


def _error_of_body(cause: Cause) -> Error:
    """As Celery words it: the dependency, and what it raised."""
    if cause.error.type == "ChordError":
        return cause.error
    full = f"Dependency {cause.job_id} raised {cause.raised}"
    return Error("ChordError", f"Dependency {cause.error.message}", None, _exception("ChordError", full))


def _exception(name: str, message: str) -> str:
    return json.dumps({"exc_type": name, "exc_message": [message], "exc_module": "celery.exceptions"})


def _ended(session: Session, job_ids: Collection[str]) -> Sequence[Any]:
    ended = Job.state.in_([JobState.FAILED, JobState.CANCELLED])
    return session.execute(select(*_FIELDS).where(Job.id.in_(job_ids), ended).order_by(Job.id)).all()


def _rows(session: Session, job_ids: Collection[str]) -> Sequence[Any]:
    return session.execute(select(*_FIELDS).where(Job.id.in_(job_ids)).order_by(Job.id)).all() if job_ids else []
