"""A person's second chance for a job: failed, cancelled ─▶ waiting, and what had failed with it waits for it again.

Nothing here commits: the caller owns the transaction.
"""

import json

from sqlalchemy import ColumnElement, and_, null, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from flaskapp.jobs.changes import change, error_columns, remember, wait
from flaskapp.jobs.clock import now
from flaskapp.jobs.models import Job, JobState, Join
from flaskapp.jobs.outcomes import Error
from flaskapp.jobs.submitting import PARKING
from flaskapp.jobs.workflow import reopen_what_follows


def run_again(session: Session, job_id: str) -> bool:
    """failed, cancelled ─▶ waiting, with all its retries; the steps that failed with it wait for it again.

    False also while another live job holds its unique key, and for a step that failed because another did: run that
    one again.
    """
    ended = and_(Job.id == job_id, Job.state.in_([JobState.FAILED, JobState.CANCELLED]))
    row = session.execute(select(Job).where(ended).with_for_update()).scalar()
    if row is None or _key_is_held(session, row.unique_key) or (row.is_parked and _cannot_come(session, row)):
        return False
    try:
        with session.begin_nested():
            return _wait_again(session, ended, row)
    except IntegrityError:
        # Its key was taken since we looked.
        return False


def _wait_again(session: Session, ended: ColumnElement[bool], row: Job) -> bool:
    if row.started_at is not None:
        outcome = "failed" if row.state == JobState.FAILED else "cancelled"
        remember(session, row, outcome, Error.of_row(row), row.finished_at)
    again = wait(now()) | (PARKING if row.is_parked else {})
    changed = change(
        session,
        ended,
        **again,
        **error_columns(None),
        retries=0,
        crashes=0,
        finished_at=null(),
        expires_at=null(),
        live_key=Job.unique_key,
    )
    reopen_what_follows(session, row.id)
    return bool(changed)


def _cannot_come(session: Session, row: Job) -> bool:
    """A step that failed because another did, or a cancelled body whose join is broken: nothing would release it."""
    if row.state == JobState.FAILED:
        return True
    named = Join.bodies.contains(json.dumps(row.id), autoescape=True)
    return session.execute(select(Join.id).where(named, Join.broken_by.is_not(None))).first() is not None


def _key_is_held(session: Session, key: str | None) -> bool:
    return key is not None and session.execute(select(Job.id).where(Job.live_key == key)).first() is not None
