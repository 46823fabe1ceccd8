"""The console of a site, the people who look at it, and rows to look at."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import Engine, Executable, insert
from werkzeug.test import TestResponse

from flaskapp import config, create_app
from flaskapp.extensions import db
from flaskapp.jobs.lifecycle import new_job_id
from flaskapp.jobs.models import Job, Tally
from tests.integration.doors_fixtures import Doors


class Site(Doors):
    """Doors, and rows behind them."""

    def engine(self) -> Engine:
        with self.app.app_context():
            return db.engine

    def write(self, *statements: Executable) -> None:
        with self.app.app_context():
            for statement in statements:
                db.session.execute(statement)
            db.session.commit()

    def job(self, state: str = "waiting", age: float = 60, **columns: Any) -> str:
        """One row with sensible times for its state, accepted like any other; answers its id."""
        created = datetime.now(UTC) - timedelta(seconds=age)
        row: dict[str, Any] = {
            "id": new_job_id(),
            "task": "diagnostics.echo",
            "queue": "default",
            "state": state,
            "created_at": created,
            "run_at": created,
            "owner": "olga",
        }
        if state != "waiting":
            row["queued_at"] = created + timedelta(seconds=0.1)
        if state in ("running", "succeeded", "failed"):
            row |= {"started_at": created + timedelta(seconds=1), "worker": "celery@atlas", "attempt": 1}
        if state in ("succeeded", "failed", "cancelled"):
            row["finished_at"] = created + timedelta(seconds=3)
        if state == "failed":
            row |= {"error_type": "ValueError", "error_message": "It has no header row.", "error_traceback": "File x"}
        row |= columns
        self.write(insert(Job).values(row), insert(Tally).values(accepted=1, pruned=0))
        return str(row["id"])


def make_site(folder: Path, database_url: str = "") -> Site:
    app = create_app(config.from_environment({"INSTANCE_PATH": str(folder), "DATABASE_URL": database_url}))
    # A job's state is what the test wrote: no relay sends it on in the middle.
    app.extensions["celery"].relay.nudge = lambda: None
    with app.app_context():
        db.create_all()
    return Site(app)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = make_site(tmp_path)
    yield site
    with site.app.app_context():
        db.engine.dispose()


@pytest.fixture
def operator(site: Site) -> FlaskClient:
    """Sees every job."""
    return site.signed_in("olga", "operator")


def press(client: FlaskClient, page: str, address: str) -> TestResponse:
    """Post the form that stands on `page`, as its button does, and follow."""
    token = re.search(r'name="csrf_token" value="([^"]+)"', client.get(page).text)
    assert token is not None
    return client.post(address, data={"csrf_token": token[1]}, follow_redirects=True)
