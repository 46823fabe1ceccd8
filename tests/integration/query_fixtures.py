"""A site whose questions are asked for real, on each of the three databases."""

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import flask_migrate
import pytest
from flask import Flask

from flaskapp import config, create_app
from flaskapp.extensions import db
from flaskapp.worker.testing import run_due_jobs
from tests.helpers import environment, make_current
from tests.integration.doors_fixtures import Doors

DATABASES = ["sqlite", "postgresql", "mariadb"]


@pytest.fixture(scope="module", params=DATABASES)
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flask]:
    folder: Path = tmp_path_factory.mktemp("query")
    if request.param == "sqlite":
        url = f"sqlite:///{folder / 'offload.sqlite3'}"
    else:
        url = request.getfixturevalue(request.param).create_database(f"asked_{uuid4().hex[:8]}")
    app = create_app(config.from_environment(environment(url, f"folder://{folder}/broker", folder, QUERY_SECONDS=3)))
    app.extensions["celery"].relay.nudge = lambda: None
    make_current(app)
    app.extensions["celery"].loader.import_default_modules()
    with app.app_context():
        flask_migrate.upgrade()
    yield app
    with app.app_context():
        db.engine.dispose()


@pytest.fixture
def doors(site: Flask) -> Doors:
    make_current(site)
    return Doors(site)


def run_all(app: Flask) -> None:
    with app.app_context():
        run_due_jobs()
