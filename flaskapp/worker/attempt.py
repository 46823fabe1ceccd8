"""One attempt in a worker's pool: the application context, the trace, and how it is settled.

The context is pushed before Celery's trace begins and popped after everything is settled, so one session spans
the attempt: the task's own writes, the jobs it submits and its success commit together, or none of them.
"""

import logging
from contextvars import ContextVar
from dataclasses import dataclass, field
from traceback import format_exception
from typing import Any

from celery import current_app, signals
from celery.app.trace import task_has_custom, trace_task
from celery.exceptions import Ignore, Reject
from kombu.serialization import loads as loads_message
from kombu.serialization import prepare_accept_content
from sqlalchemy.exc import DBAPIError, InterfaceError, InternalError, OperationalError, SQLAlchemyError

from flaskapp.extensions import db, is_outage, lost_to_another
from flaskapp.jobs import lifecycle
from flaskapp.jobs.outcomes import (
    Claimed,
    Error,
    Failed,
    Ignored,
    Outage,
    Outcome,
    RetryLater,
    Succeeded,
    after_failure,
)

logger = logging.getLogger(__name__)

#: Where the parent puts the claim into the request that it hands to the pool.
CLAIM_KEY = "offload_claim"
REJECT_REQUEUE_SECONDS = 1.0

_current: ContextVar["RunningAttempt | None"] = ContextVar("attempt", default=None)


def current_attempt() -> "RunningAttempt | None":
    """The attempt that this thread is running, if it is inside one."""
    return _current.get()


@dataclass(frozen=True)
class Report:
    """What a pool child tells its parent. An outcome here is still to be recorded; None: it was."""

    outcome: Outcome | None
    summary: str
    seconds: float


@dataclass
class RunningAttempt:
    """What is known about the attempt while it runs, and the only place that settles it in the child."""

    claimed: Claimed
    #: True if the attempt may leave a success that wrote nothing for its parent to record in a group.
    may_defer: bool
    #: Set by send_task when the task sends itself again (retry, replace): new values for its row, and when.
    again: RetryLater | None = None
    #: Set by retry(): what its call itself names; the rest stays as the job's caller chose it.
    asked_by_retry: frozenset[str] = frozenset()
    #: Set by replace(): the job goes on as another task, so what it did so far is kept.
    replacing: bool = False
    settled: bool = False
    #: True once the row turned out to be final or another attempt's: nothing that follows may be committed.
    lost: bool = False
    #: How it was settled in a transaction that is still open.
    outcome: Outcome | None = None
    #: What is left for the parent to record.
    deferred: Outcome | None = None
    #: Jobs submitted inside, by id: a success with children is never deferred.
    submitted: list[str] = field(default_factory=list)
    #: Jobs that it added to its chord; written with its success, so that the join is not locked while it runs.
    more_members: list[str] = field(default_factory=list)

    def succeed(self, result: str | None) -> None:
        """Commit the task's writes, its children and its success; raises Reject if the attempt was fenced off."""
        if self.again is not None:
            # retry(throw=False) and a normal return: Celery runs it again, so what it did so far is kept.
            return self._commit_with(self.again)
        value = None if self.claimed.ignore_result else result
        outcome = Succeeded(self.claimed, value, tuple(self.more_members))
        if self.may_defer and not self.submitted and not db.session().in_transaction():
            self.deferred, self.settled = outcome, True
            return None
        return self._commit_with(outcome)

    def fail(self, error: Error) -> None:
        """Roll the task's writes back and record its failure, or the retry that the caller's limit still allows."""
        self._roll_back_and(after_failure(self.claimed, error))

    def fail_with(self, problem: BaseException, error: Error) -> None:
        """As `fail`; but if its database failed it, or preferred another, it is put back uncounted."""
        if is_outage(problem) or lost_to_another(problem):
            self._roll_back_and(Outage(self.claimed, error, "while it ran"))
        else:
            self.fail(error)

    def retry(self, error: Error | None) -> None:
        """Roll back and record the retry that send_task noted."""
        again = self.again or RetryLater(self.claimed, error)
        self._roll_back_and(RetryLater(again.claimed, error, again.delay_seconds, again.run_at, False, again.changes))

    def end(self, trace_exception: BaseException | None) -> None:
        """Settle what the trace left open: replace, Ignore, Reject."""
        if self.settled:
            return
        if self.replacing:
            self._go_on_as_another()
        elif self.again is not None:
            self._roll_back_and(self.again)
        elif isinstance(trace_exception, Reject):
            self._reject(trace_exception)
        elif isinstance(trace_exception, Ignore):
            self._roll_back_and(Ignored(self.claimed, str(trace_exception)))
        else:
            problem = trace_exception or RuntimeError("The attempt ended without an outcome.")
            self.fail_with(problem, _error_of(problem))

    def _go_on_as_another(self) -> None:
        try:
            self._commit_with(self.again or RetryLater(self.claimed, None, parked=True))
        except SQLAlchemyError as problem:
            self._roll_back_and(Failed(self.claimed, _error_of(problem)))

    def _reject(self, rejected: Reject) -> None:
        error = Error("Reject", str(rejected.reason or "The task rejected its job."))
        if rejected.requeue:
            self._roll_back_and(RetryLater(self.claimed, error, REJECT_REQUEUE_SECONDS))
        else:
            self._roll_back_and(Failed(self.claimed, error))

    def commit(self) -> None:
        """Commit a settlement and what the callbacks after it wrote; if that cannot be, the parent records it."""
        if self.lost:
            db.session.rollback()
            return
        try:
            db.session.commit()
            self.outcome = None
        except OperationalError as lost:
            self._look_up(lost)
        except SQLAlchemyError:
            # A callback left what cannot be written: the outcome counts without it.
            db.session.rollback()
            logger.exception("job=%s what its callbacks wrote is rolled back", self.claimed.job_id)
            self.deferred = self.outcome or self.deferred

    def _commit_with(self, outcome: Outcome) -> None:
        session = db.session()
        # What the task left unflushed is its own: an error here is the task's failure.
        session.flush()
        try:
            held = lifecycle.settle(session, [outcome])
            self.settled = True
            session.commit() if held else session.rollback()
        except OperationalError as lost:
            self.settled = True
            return self._look_up(lost)
        except SQLAlchemyError:
            # So is a transaction that it broke.
            self.settled = False
            raise
        if not held:
            self.lost = True
            raise Reject("The lease on this attempt is lost; what it wrote was rolled back.")

    def _look_up(self, lost: OperationalError) -> None:
        """The commit's answer was lost. All of it is there or nothing: the row tells, and no failure is counted.

        Unless it is lost each time: such a commit can never succeed.
        """
        outage = Outage(self.claimed, _error_of(lost), "while it was committing")
        try:
            db.session.rollback()
            if lifecycle.still_held(db.session(), self.claimed):
                logger.warning("job=%s attempt=%s put back: %s", self.claimed.job_id, self.claimed.number, lost)
                lifecycle.settle(db.session(), [outage])
            db.session.commit()
        except DBAPIError:
            # Still away. Our parent tries until it is back; if the commit did go through, the fence refuses this.
            db.session.remove()
            self.deferred = outage

    def _roll_back_and(self, outcome: Outcome) -> None:
        self.settled = True
        try:
            db.session.rollback()
            self.lost = not lifecycle.settle(db.session(), [outcome])
        except (OperationalError, InternalError) as trouble:
            # A database that is away, or a standby, makes no job fail: our parent records this once it is back.
            logger.warning("job=%s is left to be recorded: %s", self.claimed.job_id, trouble.orig)
            db.session.remove()
            self.deferred = outcome
            return
        if self.lost:
            db.session.rollback()
            return
        # Errbacks and failed chain steps join this fresh transaction; whoever called commits it.
        self.outcome = outcome


def run(name: str, request: dict[str, Any], body: Any, content_type: str | None, encoding: str | None) -> Report:
    """The pool's function: one attempt from its claim to its settlement."""
    app = current_app._get_current_object()
    task = app.tasks[name]
    claimed: Claimed = request.pop(CLAIM_KEY)
    with app.flask_app.app_context():
        attempt = RunningAttempt(claimed, may_defer=_has_no_hooks(task))
        token = _current.set(attempt)
        try:
            return _trace(attempt, task, request, (body, content_type, encoding))
        except Exception as problem:
            # Threads and solo have no other way to tell, and not every exception survives the way to a parent.
            logger.exception("job=%s attempt=%s ended outside its trace", claimed.job_id, claimed.number)
            db.session.remove()
            return Report(attempt.deferred or _unsettled(claimed, problem), repr(problem), 0.0)
        finally:
            _current.reset(token)


def _trace(attempt: RunningAttempt, task: Any, request: dict[str, Any], message: tuple[Any, Any, Any]) -> Report:
    problem: BaseException | None = None
    summary, seconds = "", 0.0
    try:
        args, kwargs, embed = _load(task.app, *message)
        # ignore_result is the row's business: told to Celery, it would skip the hooks that settle.
        request |= {"args": args, "kwargs": kwargs, "is_eager": False, "ignore_result": False, **(embed or {})}
        traced = trace_task(task, attempt.claimed.job_id, args, kwargs, request, app=task.app)
        problem = getattr(traced.info, "retval", None)
        summary, seconds = str(traced.retstr or problem or ""), traced.runtime or 0.0
    except Reject as rejected:
        problem, summary = rejected, f"rejected: {rejected.reason}"
    attempt.end(problem)
    # What the last settlement and the callbacks after it left open.
    attempt.commit()
    return Report(attempt.deferred, summary, seconds)


def _load(app: Any, body: Any, content_type: str | None, encoding: str | None) -> Any:
    if not content_type:
        return body
    return loads_message(body, content_type, encoding, accept=prepare_accept_content(app.conf.accept_content))


def _error_of(problem: BaseException) -> Error:
    return Error(type(problem).__name__, str(problem), "".join(format_exception(problem)))


def _unsettled(claimed: Claimed, problem: Exception) -> Outcome:
    if isinstance(problem, OperationalError | InterfaceError):
        return Outage(claimed, _error_of(problem), "while it was settled")
    return after_failure(claimed, _error_of(problem))


def _has_no_hooks(task: Any) -> bool:
    """User callbacks run after settlement; a task that has some is settled in the child."""
    custom = any(task_has_custom(task, hook) for hook in ("on_success", "after_return"))
    return not (custom or signals.task_success.receivers or signals.task_postrun.receivers)
