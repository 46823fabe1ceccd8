"""How jobs end for good: prune ─▶ gone, and the tally that remembers how many there were.

Nothing here commits: the caller owns the transaction.
"""

from sqlalchemy import ColumnElement, and_, delete, exists, func, insert, or_, select
from sqlalchemy.orm import Session

from flaskapp.jobs.clock import seconds_from_now
from flaskapp.jobs.joining import is_needed
from flaskapp.jobs.models import FINAL_STATES, Attempt, Job, JobState, Join, Progress, Tally

#: How many rows of the tally one compaction folds: a statement takes only so many parameters.
TALLY_GROUP = 5000


def prune(session: Session, succeeded_days: float, failed_days: float, limit: int = 1000) -> int:
    """Delete up to `limit` final jobs that are older than they need to be kept; answers how many.

    Members stay while their join may still need them: it is open, or broken and young enough to be run again.
    """
    old = or_(
        and_(Job.state == JobState.SUCCEEDED, Job.finished_at < seconds_from_now(-86400 * succeeded_days)),
        and_(
            Job.state.in_([JobState.FAILED, JobState.CANCELLED]),
            Job.finished_at < seconds_from_now(-86400 * failed_days),
        ),
    )
    reopened = and_(Join.broken_by.is_not(None), Join.finished_at >= seconds_from_now(-86400 * failed_days))
    needed = exists().where(Join.id == Job.counts_for, or_(Join.finished_at.is_(None), reopened))
    pruned = _prune(session, and_(old, or_(Job.counts_for.is_(None), ~needed)), limit)
    _prune_joins(session, max(succeeded_days, failed_days), limit)
    return pruned


def prune_queue(session: Session, queue: str, limit: int = 1000) -> int:
    """Delete up to `limit` final jobs of a queue that nobody needs any more, however old; answers how many.

    A join goes with the last of its members.
    """
    final = and_(Job.queue == queue, Job.state.in_(sorted(FINAL_STATES)))
    joins = session.scalars(select(Job.counts_for).where(final, Job.counts_for.is_not(None)).distinct()).all()
    pruned = _prune(session, final, limit)
    if joins:
        is_left = exists().where(Job.counts_for == Join.id)
        gone = delete(Join).where(Join.id.in_(joins), ~is_left)
        session.execute(gone.execution_options(synchronize_session=False))
    return pruned


def _prune(session: Session, where: ColumnElement[bool], limit: int) -> int:
    ids = list(session.execute(select(Job.id).where(where).limit(limit).with_for_update(skip_locked=True)).scalars())
    if ids:
        session.execute(delete(Attempt).where(Attempt.job_id.in_(ids)))
        session.execute(delete(Progress).where(Progress.job_id.in_(ids)))
        session.execute(delete(Job).where(Job.id.in_(ids)).execution_options(synchronize_session=False))
        session.execute(insert(Tally).values(accepted=0, pruned=len(ids)))
    return len(ids)


def _prune_joins(session: Session, days: float, limit: int) -> None:
    """Delete joins that are over for as long, and old open ones whose jobs somebody else has deleted."""
    old = func.coalesce(Join.finished_at, Join.created_at) < seconds_from_now(-86400 * days)
    joins = session.scalars(
        select(Join).where(old).order_by(Join.number).limit(limit).with_for_update(skip_locked=True)
    )
    over = [join.number for join in joins.all() if not is_needed(session, join)]
    session.execute(delete(Join).where(Join.number.in_(over)).execution_options(synchronize_session=False))


def compact_tally(session: Session, limit: int = TALLY_GROUP) -> int:
    """Fold up to `limit` of the tally's small rows into one; the sums stay what they were. Answers how many."""
    fields = select(Tally.id, Tally.accepted, Tally.pruned).order_by(Tally.id).limit(limit)
    rows = session.execute(fields.with_for_update(skip_locked=True)).all()
    if len(rows) > 1:
        sums = {"accepted": sum(row.accepted for row in rows), "pruned": sum(row.pruned for row in rows)}
        session.execute(delete(Tally).where(Tally.id.in_([row.id for row in rows])))
        session.execute(insert(Tally).values(sums))
    return len(rows)
