"""A job that was not started by its expiry time is cancelled, also when no worker ever looks at it."""

from datetime import UTC, datetime
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from flaskapp.jobs import control, lifecycle
from flaskapp.jobs.models import Job, JobState
from flaskapp.jobs.outcomes import RetryLater
from flaskapp.worker import maintenance
from flaskapp.worker.maintenance import Turn
from tests.makers import BOOM, in_state, row_of, running, state_of, waiting

PAST, FUTURE = datetime(2020, 1, 1, tzinfo=UTC), datetime(2090, 1, 1, tzinfo=UTC)


def take_a_turn(app: Flask, engine: Engine) -> None:
    with app.app_context():
        Turn(app.extensions["celery"], engine).run()


@pytest.mark.parametrize("state", [JobState.WAITING, JobState.QUEUED])
def test_a_turn_cancels_what_nobody_started_in_time(app: Flask, engine: Engine, session: Session, state: str) -> None:
    control.pause_queue(session, "mail")
    late, in_time = (in_state(session, state, queue="mail", expires_at=at) for at in (PAST, FUTURE))
    never = in_state(session, state, queue="mail")
    session.commit()

    take_a_turn(app, engine)

    row = row_of(session, late)
    assert (row["state"], row["error_type"], row["live_key"]) == (JobState.CANCELLED, "Expired", None)
    assert [state_of(session, each) for each in (in_time, never)] == [state, state]


def test_what_runs_does_not_expire(app: Flask, engine: Engine, session: Session) -> None:
    claimed = running(session, expires_at=FUTURE)
    session.execute(Job.__table__.update().values(expires_at=PAST))
    session.commit()

    take_a_turn(app, engine)

    assert state_of(session, claimed.job_id) == JobState.RUNNING


def test_a_job_that_waits_to_become_the_last_step_of_a_chain_does_not_expire(
    app: Flask, engine: Engine, session: Session
) -> None:
    claimed = running(session, expires_at=FUTURE)
    lifecycle.settle(session, [RetryLater(claimed, BOOM, parked=True, changes={"expires_at": PAST})])
    session.commit()

    take_a_turn(app, engine)

    assert state_of(session, claimed.job_id) == JobState.WAITING


def test_an_expired_job_gives_its_unique_key_free(app: Flask, engine: Engine, session: Session) -> None:
    first = waiting(session, unique_key="k", expires_at=PAST)
    session.commit()

    take_a_turn(app, engine)

    assert waiting(session, unique_key="k") != first


def test_a_flood_is_taken_in_groups(
    app: Flask, engine: Engine, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maintenance, "_EXPIRE_GROUP", 3)
    monkeypatch.setattr(maintenance, "_EXPIRE_GROUPS", 2)
    for _ in range(7):
        waiting(session, expires_at=PAST)
    session.commit()

    def left() -> int:
        session.rollback()
        return len(session.scalars(select(Job).where(Job.state == JobState.WAITING)).all())

    take_a_turn(app, engine)
    assert left() == 1
    take_a_turn(app, engine)
    assert left() == 0


def test_a_turn_that_expired_something_wakes_the_relay(app: Flask, engine: Engine, session: Session) -> None:
    """One of them may have kept a place that a limit gives to another."""
    waiting(session, expires_at=PAST)
    session.commit()
    relay: Any = app.extensions["celery"].relay

    take_a_turn(app, engine)

    assert relay.count == 1
