"""The workflow that a job belongs to, as rows: SELECTs only, and only as many rows as a page shows."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, and_, case, func, or_, select
from sqlalchemy.orm import Session, defer

from flaskapp.jobs.models import Job, JobState, Join

#: What somebody who looks at a large workflow wants to see first.
_INTEREST = case(
    (Job.state.in_([JobState.FAILED, JobState.CANCELLED]), 0),
    (Job.state == JobState.RUNNING, 1),
    (Job.state == JobState.SUCCEEDED, 3),
    else_=2,
)
_MOST_JOINS = 50
MOST_COUNTED = 10_000


@dataclass(frozen=True)
class Relatives:
    #: In the order in which they were submitted; of more than `limit` the most interesting ones.
    jobs: Sequence[Job]
    #: The newest first: those inside a chord come before it.
    joins: Sequence[Join]
    #: At most MOST_COUNTED.
    total: int


def relatives(session: Session, job: Job, owner: str | None = None, limit: int = 100) -> Relatives:
    """All jobs with the same root, and the joins between them; `job` is always among them."""
    tree = _of_tree(job.root_id or job.id, owner)
    # A task may have asked for a million jobs: not all of them are counted and sorted for a page.
    some = select(Job.id).where(tree).limit(MOST_COUNTED).subquery()
    total = session.scalar(select(func.count()).select_from(some)) or 0
    light = (defer(Job.result), defer(Job.options), defer(Job.error_traceback), defer(Job.error_data))
    ordered = select(Job).join(some, some.c.id == Job.id).order_by(_INTEREST, Job.created_at, Job.id)
    rows = list(session.scalars(ordered.limit(limit).options(*light)))
    if job not in rows:
        rows[limit - 1 :] = [job]
    of_tree = select(Job.counts_for).where(tree, Job.counts_for.is_not(None)).distinct().limit(_MOST_JOINS)
    join_ids = list(session.scalars(of_tree))
    joins = session.scalars(select(Join).where(Join.id.in_(join_ids)).order_by(Join.number.desc())).all()
    return Relatives(sorted(rows, key=lambda row: (row.created_at, row.id)), joins, total)


def has_relatives(session: Session, job: Job) -> bool:
    """True if it is a part of something larger than itself and the jobs that it asked for."""
    if job.root_id is not None or job.counts_for is not None:
        return True
    others = and_(Job.root_id == job.id, or_(Job.parent_id.is_(None), Job.parent_id != job.id))
    return session.scalar(select(Job.id).where(others).limit(1)) is not None


def child_ids(session: Session, job_id: str, limit: int = 1000) -> list[str]:
    return list(
        session.scalars(select(Job.id).where(Job.parent_id == job_id).order_by(Job.created_at, Job.id).limit(limit))
    )


def _of_tree(root_id: str, owner: str | None) -> ColumnElement[bool]:
    tree = or_(Job.id == root_id, Job.root_id == root_id)
    return tree if owner is None else and_(tree, Job.owner == owner)
