"""A question in the background, and the questions of long ago."""

from typing import Any

import sqlalchemy as sa
from celery import shared_task
from celery.exceptions import Ignore
from kombu.utils.json import dumps, loads

from flaskapp.accounts.actions import account_by_name
from flaskapp.accounts.models import Role
from flaskapp.errors import OffloadError
from flaskapp.extensions import db
from flaskapp.jobs.models import Job
from flaskapp.query import asking
from flaskapp.query.models import QueryRun


@shared_task(name="query.run", bind=True, internal=True)
def run(self: Any, query_id: str) -> dict[str, Any]:
    """Ask with the rights that the question's owner has now; the answer commits with the success."""
    query = db.session.get(QueryRun, query_id)
    if query is None or query.job_id != self.request.id:
        raise Ignore(f"The question {query_id} is gone, or another job asks it.")
    sql, parameters, owner = query.sql, loads(query.parameters), query.owner
    try:
        sees_all = may_see_all(owner)
        # No transaction stays open while the database thinks.
        db.session.rollback()
        answer = asking.ask(sql, parameters, owner, sees_all)
    except OffloadError as refusal:
        _note(query_id, str(refusal))
        raise
    query = db.session.get_one(QueryRun, query_id)
    query.columns, query.rows, query.row_count = dumps(answer.columns), dumps(answer.rows), len(answer.rows)
    query.truncated, query.plan, query.seconds, query.error = answer.truncated, answer.plan, answer.seconds, None
    return {"rows": len(answer.rows), "columns": len(answer.columns), "truncated": answer.truncated}


def may_see_all(owner: str) -> bool:
    """By the role that the account has at this moment; raises QueryRefused if it may not come in any more."""
    account = account_by_name(db.session(), owner)
    if account is None or not account.is_active:
        raise asking.QueryRefused(f"The account {owner} may not ask: it is closed or gone.")
    return Role(account.role).includes(Role.OPERATOR)


def _note(query_id: str, sentence: str) -> None:
    """Kept beside the question: the job that failed is pruned some day. A checkpoint, refused if we were replaced."""
    db.session.rollback()
    db.session.execute(
        sa.update(QueryRun)
        .where(QueryRun.id == query_id)
        .values(error=sentence, columns=None, rows=None, row_count=None)
    )
    db.session.commit()


@shared_task(name="query.forget")
def forget() -> int:
    """Delete answers whose jobs are pruned; answers how many."""
    gone = sa.delete(QueryRun).where(~sa.exists().where(Job.id == QueryRun.job_id))
    deleted = db.session.execute(gone.execution_options(synchronize_session=False))
    return int(deleted.rowcount)  # type: ignore[attr-defined]
