"""Members settled by many at once: no settlement waits for another's, none is lost, and it is not slow."""

import random
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from celery import chord
from sqlalchemy import select, text, update
from sqlalchemy.orm import Session

from flaskapp.diagnostics.tasks import echo
from flaskapp.extensions import core_session
from flaskapp.jobs import lifecycle
from flaskapp.jobs.models import Job, JobState, Join
from flaskapp.jobs.outcomes import Claimed, Error, Failed, Outcome, Succeeded
from tests.helpers import Bench, wait_until
from tests.tasks_for_tests import add

GROUP = 100


def claim_all(session: Session) -> list[Claimed]:
    """Every due job, claimed by somebody."""
    due = select(Job.id).where(Job.state == JobState.WAITING, Job.sender.is_(None)).order_by(Job.id)
    ids = list(session.scalars(due))
    values = {"state": JobState.RUNNING, "attempt": Job.attempt + 1, "worker": "somebody", "started_at": Job.created_at}
    session.execute(update(Job).where(Job.id.in_(ids)).values(values).execution_options(synchronize_session=False))
    return [Claimed(row.id, row.attempt, "somebody") for row in _attempts(session, ids)]


def _attempts(session: Session, ids: list[str]) -> Any:
    return session.execute(select(Job.id, Job.attempt).where(Job.id.in_(ids))).all()


def settle_at_once(bench: Bench, outcomes: list[Outcome], threads: int = 6, group: int = 7) -> None:
    groups = [outcomes[start : start + group] for start in range(0, len(outcomes), group)]

    def settle(some: list[Outcome]) -> None:
        with core_session(bench.engine) as session, session.begin():
            assert len(lifecycle.settle(session, some)) == len(some)

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(settle, groups))


def test_a_thousand_members_settled_in_groups_are_quick_and_release_the_body_once(bench: Bench) -> None:
    result = chord(add.si(n) for n in range(1000))(echo.s())
    with bench.session() as session, session.begin():
        claims = claim_all(session)
    number = {job.id: str(n) for n, job in enumerate(result.parent.results)}
    random.Random(7).shuffle(claims)

    began = time.monotonic()
    settle_at_once(bench, [Succeeded(claimed, number[claimed.job_id]) for claimed in claims], group=GROUP)

    assert time.monotonic() - began < 15
    body = bench.job(result.id)
    assert (body.is_parked, body.args) == (False, f"[{list(range(1000))}]")


@pytest.mark.parametrize("seed", range(4))
def test_nested_joins_settled_at_once_deadlock_nobody(bench: Bench, seed: int) -> None:
    """Failures travel through several joins in one transaction, while others come from below and above."""
    dice = random.Random(seed)
    canvases = []
    for _ in range(6):
        inner = [chord([add.si(1), add.si(2), add.si(3)], add.s()) for _ in range(3)]
        middle = [chord([*inner, add.si(4)], add.s()), add.si(5), add.si(6)]
        canvases.append(chord(middle, add.s()))
    results = [canvas.apply_async() for canvas in canvases]
    while True:
        with bench.session() as session, session.begin():
            claims = claim_all(session)
        if not claims:
            break
        dice.shuffle(claims)
        boom = Error("ValueError", "boom")
        outcomes: list[Outcome] = [
            Failed(claimed, boom) if dice.random() < 0.05 else Succeeded(claimed, "1") for claimed in claims
        ]
        settle_at_once(bench, outcomes)

    with bench.session() as session:
        joins = session.scalars(select(Join)).all()
        states = set(session.scalars(select(Job.state)))
    assert states <= {JobState.SUCCEEDED, JobState.FAILED}
    assert all(join.finished_at is not None for join in joins)
    for join in joins:
        assert (join.broken_by is None) == (join.missing == 0) or join.broken_by is not None
    assert {bench.job(result.id).is_final for result in results} == {True}
    assert bench.account().drift == 0


# SQLite has one writer: nobody holds a part of the locks.
@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_joins_are_locked_from_the_inner_to_the_outer(bench: Bench) -> None:
    """One settles members of both joins, another a failure that travels from the inner to the outer one."""
    inner = chord([add.si(1), add.si(2)], add.s())
    result = chord([inner, add.si(3)])(add.s())
    with bench.session() as session, session.begin():
        claims = {claimed.job_id: claimed for claimed in claim_all(session)}
        counts_for = dict(session.execute(select(Job.id, Job.counts_for).where(Job.id.in_(claims))).all())
    of_outer = next(claims[job_id] for job_id in claims if counts_for[job_id] == result.parent.id)
    one, two = (claims[job_id] for job_id in claims if counts_for[job_id] != result.parent.id)

    def settle(*outcomes: Outcome) -> None:
        with core_session(bench.engine) as session, session.begin():
            lifecycle.settle(session, outcomes)

    with ThreadPoolExecutor(2) as pool, bench.session() as holder:
        with holder.begin():
            holder.execute(select(Join).where(Join.id == result.parent.id).with_for_update())
            both = pool.submit(settle, Succeeded(of_outer, "3"), Succeeded(one, "1"))
            wait_until(lambda: waiting_for_locks(bench) == 1, 10, "the first waits for the outer join")
            failing = pool.submit(settle, Failed(two, Error("ValueError", "boom")))
            wait_until(lambda: waiting_for_locks(bench) == 2, 10, "the second waits too")
        both.result(10)
        failing.result(10)

    assert bench.state(result.id) == JobState.FAILED


def waiting_for_locks(bench: Bench) -> int:
    query = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    with bench.engine.connect() as connection:
        return int(connection.execute(text(query)).scalar_one())
