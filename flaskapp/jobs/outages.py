"""The database went away under an attempt: it goes back, uncounted, and after twenty the job is blamed.

Nothing here commits: the caller owns the transaction.
"""

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from flaskapp.jobs.models import Attempt
from flaskapp.jobs.outcomes import Error, Failed, Outage, RetryLater, Stopped, after_failure

#: A job that meets an outage in so many attempts may be what drives the database away.
MOST_OUTAGES = 20
#: How the reason of such a stop begins in the history.
_BEGINNING = "The database went away"


def after_outage(session: Session, outcome: Outage) -> Stopped | Failed | RetryLater:
    """Another attempt that counts as nothing; or, after too many, what a failure leads to."""
    met = _outages(session, outcome.claimed.job_id)
    if met < MOST_OUTAGES:
        return Stopped(outcome.claimed, f"{_BEGINNING} {outcome.moment}: {outcome.error.message}")
    error = outcome.error
    sentence = f"In each of its last {met + 1} attempts the database went away, now {outcome.moment}: {error.message}"
    return after_failure(outcome.claimed, Error(error.type, sentence, error.traceback, error.data))


def _outages(session: Session, job_id: str) -> int:
    """How many attempts ended so since a person last let the job run again."""
    mine = Attempt.job_id == job_id
    again = select(func.coalesce(func.max(Attempt.number), 0)).where(mine, Attempt.outcome.in_(["failed", "cancelled"]))
    stopped = select(func.count()).where(
        mine,
        Attempt.outcome == "stopped",
        Attempt.error_message.startswith(_BEGINNING, autoescape=True),
        Attempt.number > again.scalar_subquery(),
    )
    return session.execute(stopped).scalar_one()
