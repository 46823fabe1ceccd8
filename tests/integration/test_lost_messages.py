"""A job whose message is gone is sent again; one that merely waits for a busy worker is not."""

import json
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import Engine, insert
from sqlalchemy.orm import Session

from flaskapp.jobs.models import JobState, Worker
from flaskapp.worker.maintenance import LOST_SECONDS, Turn
from tests.makers import pass_seconds, queued, state_of


def worker(session: Session, queues: str, **holds: int) -> None:
    values: dict[str, Any] = {"id": "w@host/1", "kind": "worker", "host": "host", "pid": 1, "concurrency": 2}
    session.execute(insert(Worker).values(values | {"queues": queues, "holds": json.dumps(holds)}))


def take_a_turn(app: Flask, engine: Engine) -> None:
    with app.app_context():
        Turn(app.extensions["celery"], engine).run()


@pytest.fixture
def overdue(engine: Engine, session: Session) -> str:
    job_id = queued(session)
    pass_seconds(session, job_id, LOST_SECONDS + 1, "queued_at")
    return job_id


def test_a_job_queued_for_long_before_an_idle_worker_is_sent_again(
    app: Flask, engine: Engine, session: Session, overdue: str
) -> None:
    worker(session, "default,mail")
    session.commit()
    take_a_turn(app, engine)
    assert state_of(session, overdue) == JobState.WAITING


@pytest.mark.parametrize(("queues", "holds"), [("default", {"other": 1}), ("mail", {})])
def test_a_job_that_waits_for_a_busy_worker_is_left_alone(
    app: Flask, engine: Engine, session: Session, overdue: str, queues: str, holds: dict[str, int]
) -> None:
    worker(session, queues, **holds)
    session.commit()
    take_a_turn(app, engine)
    assert state_of(session, overdue) == JobState.QUEUED


def test_a_job_queued_just_now_is_left_alone(app: Flask, engine: Engine, session: Session) -> None:
    job_id = queued(session)
    worker(session, "default")
    session.commit()
    take_a_turn(app, engine)
    assert state_of(session, job_id) == JobState.QUEUED
