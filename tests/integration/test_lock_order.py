"""Relay, claim and confirm lock the same rows at once: they may wait for each other, but never in a ring."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import Engine, make_url, select, text, update
from sqlalchemy.orm import Session

from flaskapp.extensions import control_engine, core_session
from flaskapp.jobs import control, lifecycle, limits
from flaskapp.jobs.joining import NewJoin
from flaskapp.jobs.limits import Rule
from flaskapp.jobs.models import Job
from flaskapp.jobs.outcomes import Hint, Succeeded
from flaskapp.worker.recorder import Recorder
from tests.helpers import create_schema, wait_until
from tests.integration.recorder_fixtures import Message, pool, recorder  # noqa: F401 -- fixtures
from tests.makers import claim, queued, send, state_of, waiting
from tests.services import MariaDB, PostgreSQL

W, Q, R = "waiting", "queued", "running"


@pytest.fixture(scope="module", params=["postgresql", "mariadb"])
def tables(request: pytest.FixtureRequest) -> Iterator[Engine]:
    """SQLite has one writer: there nobody can meet in the middle."""
    service: PostgreSQL | MariaDB = request.getfixturevalue(request.param)
    engine = control_engine(make_url(service.create_database(f"locks_{uuid4().hex}")))
    create_schema(engine)
    yield engine
    engine.dispose()


def somebody_waits(engine: Engine) -> bool:
    """Another connection waits for a lock."""
    waits = "SELECT 'waits', count(*) FROM pg_locks WHERE NOT granted"
    if engine.dialect.name != "postgresql":
        waits = "SHOW GLOBAL STATUS LIKE 'Innodb_row_lock_current_waits'"
    with engine.connect() as connection:
        return int(connection.execute(text(waits)).one()[1]) > 0


def test_a_relay_that_holds_one_limit_passes_over_another_that_a_claim_has_locked(
    engine: Engine, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key in ("a", "b"):
        control.set_limit(session, key, Rule(max_running=5))
    first, second = waiting(session, limit_key="b", priority=9), waiting(session, limit_key="a")
    arrived = [queued(session, limit_key="a"), queued(session, limit_key="b")]
    session.commit()
    has_one, admit = threading.Event(), limits.admit_to_send

    def admit_slowly(session: Session, jobs: Any) -> Any:
        if has_one.is_set():
            # The claim has locked the limit a by now, and waits for b, which we hold.
            wait_until(lambda: somebody_waits(engine), 10, "the claim waits for us")
        admission = admit(session, jobs)
        has_one.set()
        return admission

    monkeypatch.setattr(limits, "admit_to_send", admit_slowly)

    def relay() -> list[str]:
        with core_session(engine) as session, session.begin():
            return [job.id for job in lifecycle.take_to_send(session, "relay", 10, 30)]

    def claim() -> set[str]:
        assert has_one.wait(10)
        with core_session(engine) as session, session.begin():
            return set(lifecycle.claim(session, [Hint(each, 1) for each in arrived], "worker"))

    with ThreadPoolExecutor(2) as pool:
        taken, claimed = pool.submit(relay), pool.submit(claim)
        assert (taken.result(30), claimed.result(30)) == ([first], set(arrived))
    monkeypatch.undo()
    # What was passed over has its turn at the next look.
    assert relay() == [second]


@pytest.mark.parametrize(
    ("arrow", "made", "becomes"),
    [
        (lambda session, ids: lifecycle.mark_queued(session, "relay", ids), W, Q),
        (lambda session, ids: lifecycle.release_unsent(session, "relay", ids, 1), W, W),
        (lambda session, ids: lifecycle.requeue_lost(session, ids), Q, W),
        (lambda session, ids: lifecycle.expire(session, ids), Q, "cancelled"),
    ],
    ids=["mark_queued", "release_unsent", "requeue_lost", "expire"],
)
def test_an_arrow_for_many_jobs_takes_them_by_id_as_a_claim_does(
    engine: Engine, session: Session, arrow: Callable[[Session, list[str]], int], made: str, becomes: str
) -> None:
    make = waiting if made == W else queued
    # In the table they stand the other way round.
    later, earlier = (make(session, job_id=job_id) for job_id in ("job-2", "job-1"))
    if made == W:
        lifecycle.take_to_send(session, "relay", 10, 30)
    session.commit()
    assert lock(session, earlier) == [earlier]

    def carry_out() -> int:
        with core_session(engine) as session, session.begin():
            return arrow(session, [later, earlier])

    with ThreadPoolExecutor(1) as pool:
        changed = pool.submit(carry_out)
        wait_until(lambda: somebody_waits(engine), 10, "it waits for the one that we hold")
        assert lock(session, later, nowait=True) == [later]
        session.commit()
        assert changed.result(30) == 2
    assert [state_of(session, each) for each in (earlier, later)] == [becomes, becomes]


def test_a_worker_that_records_and_claims_members_of_one_chord_meets_a_cancel_in_no_ring(
    engine: Engine, session: Session, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, body = (waiting(session, job_id=f"job-{n}") for n in range(3))
    session.execute(update(Job).where(Job.id.in_([first, second])).values(counts_for="a join"))
    lifecycle.open_joins(session, [NewJoin("a join", [first, second], [body])])
    for job_id in (first, second):
        send(session, job_id)
    done = claim(session, first)
    session.commit()
    offer, ended = Message(second, 1), Message(first, 1)
    ended.group = "a join"
    claim_now = lifecycle.claim

    def cancel() -> bool:
        with core_session(engine) as session, session.begin():
            return lifecycle.cancel(session, second)

    with ThreadPoolExecutor(1) as pool:
        cancels = []

        def claim_meanwhile(*claims: Any) -> Any:
            if not cancels:
                # The first is recorded, so its join is locked.
                cancels.append(pool.submit(cancel))
                wait_until(lambda: somebody_waits(engine), 10, "the cancel waits for us")
            return claim_now(*claims)

        monkeypatch.setattr(lifecycle, "claim", claim_meanwhile)
        recorder._recording.record([offer], [(ended, Succeeded(done, "1"))])
        assert cancels[0].result(30)
    assert [state_of(session, each) for each in (first, second)] == ["succeeded", "cancelled"]


def lock(session: Session, job_id: str, nowait: bool = False) -> list[str]:
    return list(session.scalars(select(Job.id).where(Job.id == job_id).with_for_update(nowait=nowait)))
