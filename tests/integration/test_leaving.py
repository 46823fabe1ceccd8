"""A command ends at once, and yet its job has left for the broker when it has ended."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from flask import Flask
from sqlalchemy.orm import Session

from flaskapp.extensions import db
from flaskapp.jobs.models import Job
from tests.helpers import ROOT, environment, make_app
from tests.services import free_port


def flask(settings: dict[str, str], *words: str) -> tuple[str, float]:
    """A command in a process of its own; answers its standard output and how long it took."""
    begun = time.monotonic()
    program = [sys.executable, "-m", "flask", "--app", "flaskapp", *words]
    done = subprocess.run(
        program, cwd=ROOT, env={**os.environ, **settings}, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip(), time.monotonic() - begun


def state_of(app: Flask, job_id: str) -> str:
    with app.app_context(), Session(db.engine) as session:
        return session.get_one(Job, job_id).state


@pytest.mark.parametrize("broker", ["folder", "rabbitmq"])
def test_a_submitted_job_has_left_when_the_command_ends(
    request: pytest.FixtureRequest, tmp_path: Path, broker: str
) -> None:
    url = f"folder://{tmp_path}/broker" if broker == "folder" else request.getfixturevalue("vhost")
    settings = environment(f"sqlite:///{tmp_path}/x.sqlite3", url, tmp_path)
    app = make_app(settings["DATABASE_URL"], url, tmp_path)

    job_id, _ = flask(settings, "jobs", "submit", "diagnostics.echo", "--args", "[1]")

    assert state_of(app, job_id) == "queued"


def test_a_broker_that_is_away_holds_a_command_for_a_moment_only(tmp_path: Path) -> None:
    url = f"amqp://nobody@127.0.0.1:{free_port()}//"
    settings = environment(f"sqlite:///{tmp_path}/x.sqlite3", url, tmp_path)
    app = make_app(settings["DATABASE_URL"], url, tmp_path)
    _, usual = flask(settings, "jobs", "list")

    job_id, seconds = flask(settings, "jobs", "submit", "diagnostics.echo", "--args", "[1]")

    assert seconds < usual + 6
    assert state_of(app, job_id) == "waiting"
