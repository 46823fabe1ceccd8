"""Prune keeps what a join may still need, and leaves no join behind for ever."""

import pytest
from celery import chord
from sqlalchemy import delete, select, update

from flaskapp.diagnostics.tasks import echo
from flaskapp.jobs import lifecycle
from flaskapp.jobs.clock import seconds_from_now
from flaskapp.jobs.models import Job, JobState, Join
from tests.helpers import Bench
from tests.tasks_for_tests import add, fate

DAY = 86400


def grow_old(bench: Bench, days: float) -> None:
    with bench.session() as session, session.begin():
        old = seconds_from_now(-days * DAY)
        session.execute(update(Job).where(Job.finished_at.is_not(None)).values(finished_at=old))
        session.execute(update(Join).values(created_at=old))
        session.execute(update(Join).where(Join.finished_at.is_not(None)).values(finished_at=old))


def prune(bench: Bench, succeeded_days: float = 7, failed_days: float = 90) -> int:
    with bench.session() as session, session.begin():
        return lifecycle.prune(session, succeeded_days, failed_days)


def join_count(bench: Bench) -> int:
    with bench.session() as session:
        return len(session.scalars(select(Join)).all())


def test_a_member_of_an_open_join_is_not_pruned(bench: Bench) -> None:
    result = chord([add.si(1), add.si(2).set(countdown=600)])(echo.s())
    bench.run()
    grow_old(bench, 1000)

    assert prune(bench) == 0
    bench.make_due(result.parent.results[1].id)
    bench.run()

    assert result.get(timeout=1) == [1, 2]


def test_a_member_of_a_broken_join_stays_as_long_as_the_failed_one(bench: Bench) -> None:
    result = chord([fate.si("fail_in_first", 1), add.si(2)])(echo.s())
    failed = result.parent.results[0].id
    bench.run()
    grow_old(bench, 30)

    assert prune(bench) == 0
    with bench.session() as session, session.begin():
        lifecycle.run_again(session, failed)
    bench.run()

    assert bench.result(result.id).get(timeout=1) == [1, 2]


@pytest.mark.parametrize("member", ["ok", "fail"])
def test_a_workflow_that_is_over_leaves_nothing(bench: Bench, member: str) -> None:
    chord([fate.si(member), add.si(2)])(echo.s())
    bench.run()
    grow_old(bench, 100)

    assert prune(bench) == 3
    prune(bench)

    assert (bench.jobs(), join_count(bench)) == ([], 0)
    assert bench.account().drift == 0


def test_a_join_whose_jobs_were_deleted_by_hand_goes_too(bench: Bench) -> None:
    chord([add.si(1), add.si(2)])(echo.s())
    with bench.session() as session, session.begin():
        session.execute(delete(Job))
    prune(bench)
    assert join_count(bench) == 1

    grow_old(bench, 100)
    prune(bench)

    assert join_count(bench) == 0


def test_an_old_join_that_still_waits_is_kept(bench: Bench) -> None:
    result = chord([add.si(1).set(countdown=600)])(echo.s())
    grow_old(bench, 1000)
    prune(bench)

    assert (join_count(bench), bench.state(result.id)) == (1, JobState.WAITING)
