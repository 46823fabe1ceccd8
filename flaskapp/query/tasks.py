"""A question in the background, and the questions of long ago."""

from typing import Any
from uuid import uuid4

import sqlalchemy as sa
from celery import shared_task
from celery.exceptions import Ignore
from kombu.utils.json import dumps

from flaskapp.accounts.actions import account_by_name
from flaskapp.accounts.models import Role
from flaskapp.errors import OffloadError
from flaskapp.extensions import db
from flaskapp.jobs.clock import seconds_from_now
from flaskapp.jobs.lifecycle import LIVE_STATES
from flaskapp.jobs.models import Job
from flaskapp.query import actions, alerts, asking, safety, saving
from flaskapp.query.models import QueryPass, QueryRun, SavedQuery
from flaskapp.worker.attempt import current_attempt

#: No question takes a day; a connection that is given a pass anew loses the old one anyway.
_PASS_SECONDS = 86_400
#: Loading a page again also closes it.
LEFT_SECONDS = 10


@shared_task(name="query.run", bind=True, internal=True, throws=(asking.QueryRefused,))
def run(self: Any, query_id: str) -> dict[str, Any]:
    """Ask with the rights that the question's owner has now; the answer commits with the success."""
    query = db.session.get(QueryRun, query_id)
    if query is None or query.job_id != self.request.id:
        raise Ignore(f"The question {query_id} is gone, or another job asks it.")
    if not _is_wanted(query_id):
        raise Ignore("The page that asked was closed before it began.")
    return answer_into(query_id)


def answer_into(query_id: str) -> dict[str, Any]:
    """Ask, and write the answer into the question's row; a refusal is noted there too, and raised."""
    query = db.session.get_one(QueryRun, query_id)
    sql, parameters, owner = query.sql, actions.parameters_of(query), query.owner
    try:
        sees_all = may_see_all(owner)
        # No transaction stays open while the database thinks.
        db.session.rollback()
        answer = asking.ask(sql, parameters, owner, sees_all, still_wanted=lambda: _is_wanted(query_id))
    except OffloadError as refusal:
        _note(query_id, str(refusal))
        raise
    query = db.session.get_one(QueryRun, query_id)
    query.columns, query.rows, query.row_count = dumps(answer.columns), dumps(answer.rows), len(answer.rows)
    query.truncated, query.plan, query.seconds, query.error = answer.truncated, answer.plan, answer.seconds, None
    return {"rows": len(answer.rows), "columns": len(answer.columns), "truncated": answer.truncated}


def _is_wanted(query_id: str) -> bool:
    """False once the page that asked is closed for longer than it takes to load it again."""
    left = sa.select(QueryRun.id).where(QueryRun.id == query_id, QueryRun.left_at < seconds_from_now(-LEFT_SECONDS))
    with db.engine.connect() as connection:
        return connection.execute(left).first() is None


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
    """Delete answers whose jobs are pruned, and passes that a killed process left; answers how many answers."""
    db.session.execute(sa.delete(QueryPass).where(QueryPass.created_at < seconds_from_now(-_PASS_SECONDS)))
    gone = sa.delete(QueryRun).where(~sa.exists().where(Job.id == QueryRun.job_id))
    deleted = db.session.execute(gone.execution_options(synchronize_session=False))
    return int(deleted.rowcount)  # type: ignore[attr-defined]


@shared_task(name="query.try_attacks", bind=True, internal=True)
def try_attacks(self: Any, owner: str) -> list[tuple[bool, str, str]]:
    """Every known attack on this installation, as `owner`: was it held off, what came of it, how is it called?"""
    sees_all = may_see_all(owner)
    attacks = safety.attacks_here()
    db.session.rollback()
    outcomes = []
    for done, attack in enumerate(attacks):
        self.progress(done, len(attacks), attack.name)
        outcome = safety.attempt(attack, owner, sees_all)
        outcomes.append((outcome.held_off, outcome.words[:300], attack.name))
    return outcomes


@shared_task(name="query.run_saved", bind=True)
def run_saved(self: Any, id_or_name: str) -> dict[str, Any]:
    """Ask a saved question, as the job's owner; if nobody asked (a rhythm in the code), as the question's.

    The answer is kept like any other; a threshold that is crossed is noted.
    """
    saved = saving.found(db.session(), id_or_name)
    if saved is None:
        raise asking.QueryRefused(f"There is no saved question {id_or_name!r}, or several have this name: use its id.")
    attempt = current_attempt()
    owner = (attempt.claimed.owner if attempt is not None else None) or saved.owner
    saved_id, sql, parameters = saved.id, saved.sql, saved.parameters
    query = actions.of_job(db.session(), self.request.id)
    if query is None:
        # A checkpoint: the page of the question shows it while it runs.
        query = QueryRun(id=str(uuid4()), owner=owner, sql=sql, parameters=parameters, saved_id=saved_id)
        query.job_id = self.request.id
        db.session.add(query)
        db.session.commit()
    told = answer_into(query.id)
    mailed = alerts.look(db.session(), saved_id, query.id)
    return told | ({"mail": mailed} if mailed else {})


@shared_task(name="query.submit_due")
def submit_due() -> int:
    """Submit the saved questions whose time has come, but none whose last run is not over; answers how many."""
    taken = [saved for saved in saving.due(db.session()) if saving.take(db.session(), saved)]
    taken = [saved for saved in taken if not _is_under_way(saved)]
    for saved in taken:
        run_saved.apply_async((saved.id,), owner=saved.owner)
    return len(taken)


def _is_under_way(saved: SavedQuery) -> bool:
    """As its owner asks it, or a rhythm in the code: others ask for themselves, perhaps not before next year."""
    run = sa.select(Job.id).where(Job.task == run_saved.name, Job.state.in_(LIVE_STATES), Job.args == dumps([saved.id]))
    of_its_owner = sa.or_(Job.owner == saved.owner, Job.owner.is_(None))
    return db.session.scalar(run.where(of_its_owner).limit(1)) is not None
