"""What Flask-SQLAlchemy's session does for the job core at each commit.

Before: a commit inside a running attempt is fenced, so a worker thought dead cannot write. After: the outbox is
nudged. And neither a request nor an app context inside a task may end well with submitted jobs that nobody committed.
"""

from weakref import WeakKeyDictionary

from flask import Flask, Response
from sqlalchemy import event
from sqlalchemy.orm import Session, SessionTransaction

from flaskapp.broker.outbox import Relay
from flaskapp.errors import LeaseLost, UncommittedJobs
from flaskapp.extensions import db
from flaskapp.jobs import lifecycle
from flaskapp.jobs.changes import SUBMITTED
from flaskapp.worker.attempt import current_attempt

_WAKE = "wake the relay"
#: How many jobs were submitted before each savepoint.
_marks: WeakKeyDictionary[SessionTransaction, int] = WeakKeyDictionary()


def watch(app: Flask) -> None:
    """Install the guards; safe to call for several applications of one process."""
    if not event.contains(db.session, "before_commit", _fence):
        event.listen(db.session, "before_commit", _fence)
        event.listen(db.session, "after_commit", _nudge)
        event.listen(db.session, "after_transaction_create", _mark)
        event.listen(db.session, "after_soft_rollback", _forget)
    app.after_request(_refuse_uncommitted)
    app.teardown_appcontext(_refuse_to_lose_children)


def _fence(session: Session) -> None:
    """A commit inside a task is a checkpoint: allowed only while the attempt is still this worker's."""
    attempt = current_attempt()
    if attempt is None or session.in_nested_transaction() or (attempt.settled and not attempt.lost):
        return
    if attempt.lost or not lifecycle.still_held(session, attempt.claimed):
        raise LeaseLost(
            f"Attempt {attempt.claimed.number} of job {attempt.claimed.job_id} was cancelled or replaced; "
            "nothing it writes counts any more."
        )


def _nudge(session: Session) -> None:
    # A savepoint's release also comes here; only the outermost commit makes rows visible.
    if session.in_nested_transaction():
        return
    submitted, wake = session.info.pop(SUBMITTED, None), session.info.pop(_WAKE, None)
    if submitted or wake:
        relay().nudge()


def wake_relay(session: Session) -> None:
    """Once this transaction is committed the relay looks again: a queue goes on, or a limit leaves room."""
    session.info[_WAKE] = True


def let_jobs_leave(seconds: float = 3) -> None:
    """For a process that ends now: wait a moment until the relay has sent what was committed.

    What it could not send, beat sends.
    """
    relay().wait(seconds)


def _mark(session: Session, transaction: SessionTransaction) -> None:
    if transaction.nested:
        _marks[transaction] = len(session.info.get(SUBMITTED, ()))


def _forget(session: Session, previous: SessionTransaction) -> None:
    if previous.nested:
        # A savepoint is undone, and with it what was submitted inside; what came before is still to be committed.
        del session.info.get(SUBMITTED, [])[_marks.get(previous, 0) :]
    elif previous.parent is None:
        session.info.pop(SUBMITTED, None)
        session.info.pop(_WAKE, None)


def relay() -> Relay:
    from flask import current_app

    found: Relay = current_app.extensions["celery"].relay
    return found


def _refuse_uncommitted(response: Response) -> Response:
    if response.status_code < 400 and (left := uncommitted_jobs()):
        raise UncommittedJobs(
            f"The request ended well but {len(left)} submitted job(s) are not committed: {', '.join(left[:5])}. "
            "Call db.session.commit() in the view."
        )
    return response


def _refuse_to_lose_children(problem: BaseException | None) -> None:
    """An app context that a task opened has a session of its own, which the attempt's commit does not reach."""
    if problem is None and current_attempt() is not None and (left := uncommitted_jobs()):
        # Flask-SQLAlchemy's own turn comes after ours, and Flask takes none after an error.
        db.session.remove()
        raise UncommittedJobs(
            f"The app context inside the task ended with {len(left)} submitted job(s) not committed: "
            f"{', '.join(left[:5])}. Call db.session.commit() in it, or leave it out: a task has one already."
        )


def uncommitted_jobs() -> list[str]:
    """The jobs submitted in this context's session and not yet committed."""
    return list(db.session().info.get(SUBMITTED, ())) if db.session.registry.has() else []
