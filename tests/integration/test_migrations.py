"""The migrations make what the models say, on each database, and can be taken back."""

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import flask_migrate
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from flask import Flask
from sqlalchemy import inspect, text

from flaskapp import config, create_app
from flaskapp.extensions import Base, db
from tests.helpers import environment


@pytest.fixture(params=["sqlite", "postgresql", "mariadb"])
def app(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Flask]:
    """An application on an empty database."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path / 'empty.sqlite3'}"
    else:
        url = request.getfixturevalue(request.param).create_database(f"migrated_{uuid4().hex[:8]}")
    app = create_app(config.from_environment(environment(url, f"folder://{tmp_path}/broker", tmp_path)))
    with app.app_context():
        yield app
        db.engine.dispose()


def test_models_equal_migrations(app: Flask) -> None:
    flask_migrate.upgrade()
    with db.engine.connect() as connection:
        differences = compare_metadata(MigrationContext.configure(connection), Base.metadata)
    assert differences == []


def test_every_migration_can_be_taken_back(app: Flask) -> None:
    flask_migrate.upgrade()
    flask_migrate.downgrade(revision="base")
    assert set(inspect(db.engine).get_table_names()) <= {"alembic_version"}
    flask_migrate.upgrade()
    assert "job" in inspect(db.engine).get_table_names()


def test_one_question_runs_at_a_time_unless_somebody_has_said_otherwise(app: Flask) -> None:
    def limit() -> int | None:
        with db.engine.begin() as connection:
            return connection.scalar(text("SELECT max_running FROM queue WHERE name = 'query'"))

    flask_migrate.upgrade()
    assert limit() == 1
    # Before, whoever paused the queue once left a row without a limit: nobody had said "none".
    for before, after in (
        ("max_running = NULL", 1),
        ("max_running = 5", 5),
        ("max_running = NULL, rate_count = 2", None),
    ):
        flask_migrate.downgrade(revision="0010")
        with db.engine.begin() as connection:
            connection.execute(text(f"UPDATE queue SET {before}, paused_at = NULL WHERE name = 'query'"))
        flask_migrate.upgrade()
        assert limit() == after


def test_a_running_job_needs_a_worker_and_an_attempt(app: Flask) -> None:
    flask_migrate.upgrade()
    row = "('x', 'a.b', 'default', 'running', 0, '[]', '{}', '{}', '2026-01-01', '2026-01-01', 0, 0, 0, 0, false)"
    columns = (
        "id, task, queue, state, priority, args, kwargs, options, run_at, created_at, sends, attempt, retries, crashes"
    )
    with pytest.raises(Exception, match="job_running_means_leased"), db.engine.begin() as connection:
        connection.execute(text(f"INSERT INTO job ({columns}, ignore_result) VALUES {row}"))
