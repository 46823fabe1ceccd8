"""How jobs end for good: prune ─▶ gone, and the tally that remembers how many there were.

Nothing here commits: the caller owns the transaction.
"""

from sqlalchemy import ColumnElement, and_, delete, insert, or_, select
from sqlalchemy.orm import Session

from flaskapp.jobs.clock import seconds_from_now
from flaskapp.jobs.models import FINAL_STATES, Attempt, Job, JobState, Progress, Tally

#: How many rows of the tally one compaction folds: a statement takes only so many parameters.
TALLY_GROUP = 5000


def prune(session: Session, succeeded_days: float, failed_days: float, limit: int = 1000) -> int:
    """Delete up to `limit` final jobs that are older than they need to be kept; answers how many."""
    old = or_(
        and_(Job.state == JobState.SUCCEEDED, Job.finished_at < seconds_from_now(-86400 * succeeded_days)),
        and_(
            Job.state.in_([JobState.FAILED, JobState.CANCELLED]),
            Job.finished_at < seconds_from_now(-86400 * failed_days),
        ),
    )
    return _prune(session, old, limit)


def prune_queue(session: Session, queue: str, limit: int = 1000) -> int:
    """Delete up to `limit` final jobs of a queue that nobody needs any more, however old; answers how many."""
    return _prune(session, and_(Job.queue == queue, Job.state.in_(sorted(FINAL_STATES))), limit)


def _prune(session: Session, where: ColumnElement[bool], limit: int) -> int:
    ids = list(session.execute(select(Job.id).where(where).limit(limit).with_for_update(skip_locked=True)).scalars())
    if ids:
        session.execute(delete(Attempt).where(Attempt.job_id.in_(ids)))
        session.execute(delete(Progress).where(Progress.job_id.in_(ids)))
        session.execute(delete(Job).where(Job.id.in_(ids)).execution_options(synchronize_session=False))
        session.execute(insert(Tally).values(accepted=0, pruned=len(ids)))
    return len(ids)


def compact_tally(session: Session, limit: int = TALLY_GROUP) -> int:
    """Fold up to `limit` of the tally's small rows into one; the sums stay what they were. Answers how many."""
    fields = select(Tally.id, Tally.accepted, Tally.pruned).order_by(Tally.id).limit(limit)
    rows = session.execute(fields.with_for_update(skip_locked=True)).all()
    if len(rows) > 1:
        sums = {"accepted": sum(row.accepted for row in rows), "pruned": sum(row.pruned for row in rows)}
        session.execute(delete(Tally).where(Tally.id.in_([row.id for row in rows])))
        session.execute(insert(Tally).values(sums))
    return len(rows)
