"""The account for questions on servers: who makes it, what it may do, and what happens to it."""

import os
import signal
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

import flask_migrate
import psycopg
import pymysql
import pytest
from flask import Flask
from sqlalchemy import make_url

from flaskapp import config, create_app
from flaskapp.extensions import db
from flaskapp.query import access, asking, safety
from flaskapp.query.attacks import ATTACKS
from flaskapp.query.catalogue import VIEWS
from tests.helpers import asking_below, environment, make_current
from tests.integration.doors_fixtures import Doors
from tests.integration.query_fixtures import doors, site  # noqa: F401
from tests.services import MariaDB, PostgreSQL, wait_until

# SQLite's questions run in a process of ours, which is killed.
on_servers = pytest.mark.parametrize("site", ["postgresql", "mariadb"], indirect=True)


def ask(app: Flask, sql: str = "SELECT 1") -> list[list[object]]:
    with app.app_context():
        return asking.ask(sql, {}, "ada", False).rows


def owner_of_a_database(postgresql: PostgreSQL, may: str) -> str:
    """The name of both: an account that may so much, and its database."""
    name = f"owner_{uuid4().hex[:8]}"
    with psycopg.connect(postgresql.url, autocommit=True) as boss:
        boss.execute(f"CREATE ROLE {name} LOGIN {may}".encode())
        boss.execute(f"CREATE DATABASE {name} OWNER {name}".encode())
    return name


def application(url: str, folder: Path, **settings: str) -> Flask:
    app = create_app(config.from_environment(environment(url, f"folder://{folder}/broker", folder, **settings)))
    make_current(app)
    with app.app_context():
        flask_migrate.upgrade()
    return app


def test_where_ours_may_not_make_it_an_administrator_is_told_how(postgresql: PostgreSQL, tmp_path: Path) -> None:
    name = f"plain_{uuid4().hex[:8]}"
    with psycopg.connect(postgresql.url, autocommit=True) as boss:
        boss.execute(f"CREATE ROLE {name} LOGIN NOCREATEROLE".encode())
        boss.execute(f"CREATE DATABASE {name} OWNER {name}".encode())
        app = application(str(make_url(postgresql.url).set(username=name, database=name)), tmp_path)
        with pytest.raises(access.NoAccount, match="query grant --print"):
            ask(app)
        printed = app.test_cli_runner().invoke(args=["query", "grant", "--print"]).output
        for statement in printed.splitlines():
            boss.execute(statement.encode())
        assert ask(app) == [[1]]
        # It may read the views, and nothing that is not one.
        reader = str(make_url(postgresql.url).set(username=f"{name}_query", database=name))
        with psycopg.connect(reader, autocommit=True) as asks:
            readable = asks.execute(
                "SELECT table_schema FROM information_schema.role_table_grants WHERE grantee = current_user"
            ).fetchall()
            assert set(readable) == {("offload_query",)}
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                asks.execute("SELECT * FROM public.account")
            with pytest.raises(psycopg.Error):
                asks.execute("SET default_transaction_read_only = off; CREATE TABLE offload_query.mine (a int)")
    with app.app_context():
        db.engine.dispose()


def test_every_view_decides_before_a_condition_is_tried(site: Flask, doors: Doors) -> None:
    doors.account("ada")
    assert ask(site) == [[1]]
    if site.config["SETTINGS"].database_url.get_backend_name() == "sqlite":
        # They live for one question only: its plan tells.
        for view in (view.name for view in VIEWS if view.owner):
            assert "MATERIALIZE" in str(ask(site, sql=f"EXPLAIN QUERY PLAN SELECT * FROM {view}"))
        return
    looks = {
        "postgresql": "SELECT relname FROM pg_class JOIN pg_namespace n ON n.oid = relnamespace "
        "WHERE nspname = 'offload_query' AND NOT coalesce(reloptions, '{}') @> '{security_barrier=true}'",
        "mariadb": "SELECT table_name FROM information_schema.views WHERE table_schema = concat(database(), '_query') "
        "AND algorithm <> 'TEMPTABLE'",
    }
    with site.app_context(), db.engine.connect() as connection:
        assert connection.exec_driver_sql(looks[db.engine.url.get_backend_name()]).fetchall() == []


def test_views_do_not_stand_in_the_way_of_migrations(site: Flask, doors: Doors) -> None:
    doors.account("ada")
    assert ask(site) == [[1]]
    with site.app_context():
        flask_migrate.downgrade(revision="0006")
        flask_migrate.upgrade()
    doors.account("ada")
    assert ask(site) == [[1]]


def test_a_changed_key_is_said_and_mended(mariadb: MariaDB, tmp_path: Path) -> None:
    # The tests' PostgreSQL asks nobody for a password.
    url = make_url(mariadb.create_database(f"keys_{uuid4().hex[:8]}"))
    first, other = (application(str(url), tmp_path, SECRET_KEY=key) for key in ("one", "another"))
    Doors(first).account("ada")
    assert ask(first) == [[1]]
    with pytest.raises(asking.CannotAsk, match="query grant"):
        ask(other)
    done = other.test_cli_runner().invoke(args=["query", "grant"])
    assert done.exit_code == 0, done.output
    assert ask(other) == [[1]]
    reader = access.reader_of(other.config["SETTINGS"])
    for app in (first, other):
        with app.app_context():
            db.engine.dispose()
    with pymysql.connect(host=url.host, port=url.port, user=reader.name, password=reader.password) as asks:
        cursor = asks.cursor()
        cursor.execute("SHOW GRANTS")
        grants = " ".join(row[0] for row in cursor.fetchall())
    assert f"GRANT SELECT ON `{reader.database}`.*" in grants.replace("\\_", "_")
    assert grants.count("GRANT") == 2  # that, and the right to sign in


def test_a_function_that_somebody_added_runs_no_sql_of_the_question(postgresql: PostgreSQL, tmp_path: Path) -> None:
    """As crosstab of the extension tablefunc does, which calls itself stable."""
    database = f"added_{uuid4().hex[:8]}"
    app = application(postgresql.create_database(database), tmp_path)
    runs = (
        "CREATE FUNCTION public.runs(words text, OUT found text) LANGUAGE plpgsql {} "
        "AS $$BEGIN EXECUTE words INTO found; END$$"
    )
    with app.app_context(), db.engine.begin() as connection:
        connection.exec_driver_sql(runs.format("STABLE"))
        connection.exec_driver_sql(
            "CREATE FUNCTION public.twice(n int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 2 * n'"
        )
    for hidden in ("s'||'et_config(''statement_timeout'', ''0'', false)", "datname FROM p'||'g_stat_activity"):
        with pytest.raises(asking.QueryRefused, match="Refused: the function runs"):
            ask(app, f"SELECT public.runs('SELECT {hidden}')")
    assert ask(app, "SELECT public.twice(2)") == [[4]]
    with app.app_context():
        db.engine.dispose()


def test_a_plan_tells_a_viewer_no_estimates_of_rows_that_are_not_theirs(postgresql: PostgreSQL, tmp_path: Path) -> None:
    app = application(postgresql.create_database(f"planned_{uuid4().hex[:8]}"), tmp_path)
    with app.app_context():
        plans = {sees_all: asking.ask("SELECT id FROM job", {}, "ada", sees_all).plan for sees_all in (False, True)}
        db.engine.dispose()
    assert "rows=" in plans[True]
    assert "job" in plans[False]
    assert "rows=" not in plans[False]


#: Looks for no cancel, and takes the better part of a minute.
ENDLESS = {
    "postgresql": "SELECT (SELECT array_agg(n) FROM generate_series(1, 100000) n) @> array_fill(100000, ARRAY[100000])",
    "mariadb": "SELECT ENCRYPT('a', '$6$rounds=50000000$abc')",
}


@on_servers
def test_what_a_server_cannot_stop_is_one_question_and_not_many(
    site: Flask, doors: Doors, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = site.config["SETTINGS"].database_url.get_backend_name()
    monkeypatch.setattr("flaskapp.query.leftovers.WAIT_SECONDS", 1.0)
    doors.account("ada")
    with site.app_context():
        with pytest.raises(asking.QueryRefused, match="ran longer"):
            asking.ask(ENDLESS[backend], {}, "ada", False, 1.0)
        if backend == "postgresql":
            _leave_passes()
        with pytest.raises(asking.CannotAsk, match="an earlier question that was stopped"):
            asking.ask("SELECT 1", {}, "ada", False)
        # Nothing was held off: nothing was tried.
        with pytest.raises(asking.CannotAsk):
            safety.attempt(ATTACKS[0], "ada", False)
    # It comes to its end, and all is well again.
    wait_until(lambda: _is_answered(site), 120, "an answer")


#: Takes minutes; that of `n` depends on it.
HEAVY = {
    "postgresql": "SELECT count(*) FROM generate_series(1, 100000) a, generate_series(1, 1000000) b WHERE a + b > {n}",
    "mariadb": "SELECT count(*) FROM seq_1_to_10000000 a, seq_1_to_10000000 b WHERE a.seq + b.seq > {n}",
}
#: More rows than are kept come at once.
HEAVY_BEHIND_ITS_BEGIN = {
    "postgresql": f"SELECT CASE WHEN n > 12000 THEN ({HEAVY['postgresql'].format(n='n')}) END "
    "FROM generate_series(1, 20000) n",
    "mariadb": f"SELECT IF(n.seq > 12000, ({HEAVY['mariadb'].format(n='n.seq')}), 0) FROM seq_1_to_20000 n",
}


@on_servers
def test_the_server_does_not_go_on_behind_an_answer_that_was_cut_off(site: Flask, doors: Doors) -> None:
    backend = site.config["SETTINGS"].database_url.get_backend_name()
    doors.account("ada")
    with site.app_context():
        assert asking.ask(HEAVY_BEHIND_ITS_BEGIN[backend], {}, "ada", False, 50.0).truncated
    wait_until(lambda: _is_idle(site), 15, "the server has ended it")


@on_servers
def test_the_server_does_not_go_on_for_a_child_that_was_killed(site: Flask, doors: Doors) -> None:
    backend = site.config["SETTINGS"].database_url.get_backend_name()
    doors.account("ada")

    def kill() -> bool:
        """As the kernel does that has no memory left, once it asks."""
        for child in asking_below(os.getpid()) if not _is_idle(site) else ():
            os.kill(child, signal.SIGKILL)
        return True

    with site.app_context(), pytest.raises(asking.QueryRefused, match="signal 9"):
        asking.ask(HEAVY[backend].format(n=1), {}, "ada", False, 50.0, still_wanted=kill)
    wait_until(lambda: _is_idle(site), 15, "the server has ended it")


def _is_idle(site: Flask) -> bool:
    looks = {
        "postgresql": "SELECT count(*) FROM pg_stat_activity WHERE usename = current_database() || '_query'",
        "mariadb": "SELECT count(*) FROM information_schema.processlist WHERE user = concat(database(), '_query')",
    }
    with site.app_context(), db.engine.connect() as connection:
        return connection.exec_driver_sql(looks[db.engine.url.get_backend_name()]).scalar_one() == 0


@pytest.mark.parametrize("may", ["SUPERUSER", "CREATEROLE"])
def test_a_session_that_does_nothing_keeps_nobody_from_asking(
    postgresql: PostgreSQL, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, may: str
) -> None:
    """An administrator's, or what a machine left that is gone; no plain account sees what they do."""
    monkeypatch.setattr("flaskapp.query.leftovers.WAIT_SECONDS", 1.0)
    name = owner_of_a_database(postgresql, may)
    app = application(str(make_url(postgresql.url).set(username=name, database=name)), tmp_path)
    assert ask(app) == [[1]]
    with psycopg.connect(str(make_url(postgresql.url).set(username=f"{name}_query", database=name))) as other:
        assert ask(app) == [[1]]
        other.execute("SELECT 1")  # idle in a transaction
        assert ask(app) == [[1]]
    with app.app_context():
        db.engine.dispose()


def _leave_passes() -> None:
    """As a process does that is killed while it asks."""
    with db.engine.begin() as connection:
        connection.exec_driver_sql(
            "INSERT INTO query_pass (connection, owner, sees_all, created_at) "
            "SELECT pid, 'ada', false, now() FROM pg_stat_activity "
            "WHERE usename LIKE '%%_query' AND datname = current_database()"
        )


def _is_answered(site: Flask) -> bool:
    with suppress(asking.CannotAsk):
        return ask(site) == [[1]]
    return False


def test_a_sort_fills_no_disk_of_postgresql(postgresql: PostgreSQL, tmp_path: Path) -> None:
    app = application(postgresql.create_database(f"sorted_{uuid4().hex[:8]}"), tmp_path)
    assert ask(app) == [[1]]
    name = access.reader_of(app.config["SETTINGS"]).name
    with app.app_context(), db.engine.begin() as connection:
        limits = connection.exec_driver_sql(f"SELECT rolconfig FROM pg_roles WHERE rolname = '{name}'").scalar_one()
        assert "temp_file_limit=2GB" in limits
        connection.exec_driver_sql(f"ALTER ROLE {name} SET temp_file_limit = '1MB'")
    with pytest.raises(asking.QueryRefused, match="temp_file_limit"):
        ask(app, "SELECT n FROM generate_series(1, 2000000) n ORDER BY n DESC")
    with app.app_context():
        db.engine.dispose()


def test_an_account_that_is_no_superuser_makes_the_one_for_questions(postgresql: PostgreSQL, tmp_path: Path) -> None:
    name = owner_of_a_database(postgresql, "CREATEROLE")
    app = application(str(make_url(postgresql.url).set(username=name, database=name)), tmp_path)
    assert ask(app) == [[1]]
    with app.app_context():
        db.engine.dispose()
