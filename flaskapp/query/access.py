"""The account for questions on PostgreSQL and MariaDB, and the views that are all it may read. SQLite needs neither.

Its password is derived from SECRET_KEY, so nothing is stored and every worker knows it. The views ask `query_pass`
which connection may see whose rows: a connection's number is the server's word, which no question can change.
"""

import hashlib
import hmac
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from flaskapp.config import Settings
from flaskapp.errors import OffloadError
from flaskapp.query.catalogue import VIEWS, LoadedTable

#: PostgreSQL's schema of the views.
SCHEMA = "offload_query"
_LOCK = 0x0FF10AD
#: PostgreSQL's own rest of a disk would be filled in minutes.
_TEMP_FILES = "2GB"


class NoAccount(OffloadError):
    """The database has no account for questions, and ours may not make one; the message says what to do."""


@dataclass(frozen=True)
class Reader:
    """The account for questions."""

    name: str
    password: str
    #: MariaDB: the database of the views. PostgreSQL: the same database as ours.
    database: str

    def connect_arguments(self, engine: Engine) -> dict[str, Any]:
        """What psycopg or PyMySQL is called with."""
        url = engine.url.set(username=self.name, password=self.password, database=self.database)
        _, arguments = engine.dialect.create_connect_args(url)
        # Without SQLAlchemy's own objects, and without flags: ours ask for rows that were found instead of changed.
        arguments = {name: value for name, value in arguments.items() if isinstance(value, str | int | bool | dict)}
        arguments.pop("client_flag", None)
        return {**arguments, "connect_timeout": 5}


def reader_of(settings: Settings) -> Reader:
    url = settings.database_url
    name = f"{url.database}_query"[:63]
    key = hmac.new(settings.secret_key.encode(), f"query {url.database}".encode(), hashlib.sha256)
    return Reader(name, key.hexdigest(), str(url.database) if _is_postgresql(url) else name)


def _is_postgresql(url: Any) -> bool:
    return bool(url.get_backend_name() == "postgresql")


def statements(engine: Engine, reader: Reader) -> list[str]:
    """What makes the account, for our own account or for a database administrator."""
    quote = engine.dialect.identifier_preparer.quote_identifier
    name, password = quote(reader.name), reader.password
    if _is_postgresql(engine.url):
        return [
            f"CREATE ROLE {name} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOINHERIT PASSWORD '{password}'",
            f"ALTER ROLE {name} SET default_transaction_read_only = on",
            _disk_limit(engine, reader),
        ]
    user, ours = f"'{reader.name.replace(chr(39), chr(39) * 2)}'@'%'", quote(str(engine.url.database))
    return [
        f"CREATE DATABASE IF NOT EXISTS {quote(reader.database)}",
        f"CREATE USER IF NOT EXISTS {user} IDENTIFIED BY '{password}'",
        f"ALTER USER {user} IDENTIFIED BY '{password}'",
        f"GRANT SELECT ON {quote(reader.database)}.* TO {user}",
        f"GRANT CREATE VIEW, DROP, SELECT, SHOW VIEW ON {quote(reader.database)}.* TO CURRENT_USER  -- of {ours}",
    ]


def _disk_limit(engine: Engine, reader: Reader) -> str:
    """Of the disk that a sort fills on PostgreSQL; no question can change it."""
    name = engine.dialect.identifier_preparer.quote_identifier(reader.name)
    return f"ALTER ROLE {name} SET temp_file_limit = '{_TEMP_FILES}'"


def grant(engine: Engine, reader: Reader) -> None:
    """Make the account, or set its password again; raises NoAccount if our own may not."""
    with _alone(engine) as connection:
        _grant(connection, engine, reader)


def _grant(connection: Connection, engine: Engine, reader: Reader) -> None:
    try:
        for statement in _needed(connection, engine, reader):
            connection.exec_driver_sql(_as_it_stands(statement))
        if _is_postgresql(engine.url):
            _limit_disk(connection, engine, reader)
    except DBAPIError as problem:
        raise NoAccount(
            "Questions need a database account of their own, and this installation's may not make it "
            f"({str(problem.orig).splitlines()[0]}). Run `flask --app flaskapp query grant --print` and let a "
            "database administrator run what it prints."
        ) from problem


def _limit_disk(connection: Connection, engine: Engine, reader: Reader) -> None:
    """Only superusers may: without it questions are asked all the same."""
    with suppress(DBAPIError), connection.begin_nested():
        connection.exec_driver_sql(_disk_limit(engine, reader))


@contextmanager
def _alone(engine: Engine) -> Iterator[Connection]:
    """A transaction that one process has at a time: two that make the same account or view would both fail."""
    with engine.begin() as connection:
        if _is_postgresql(engine.url):
            connection.execute(sa.text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
            yield connection
            return
        connection.execute(sa.text("SELECT GET_LOCK('offload_query', 15)"))
        try:
            yield connection
        finally:
            connection.execute(sa.text("SELECT RELEASE_LOCK('offload_query')"))


def _needed(connection: Connection, engine: Engine, reader: Reader) -> list[str]:
    wanted = statements(engine, reader)
    if not _is_postgresql(engine.url):
        # Whoever could make the database may already make views in it.
        return wanted[:-1]
    # On its own, for it may fail.
    wanted.remove(_disk_limit(engine, reader))
    if connection.scalar(sa.text("SELECT 1 FROM pg_roles WHERE rolname = :name"), {"name": reader.name}):
        wanted[0] = wanted[0].replace("CREATE ROLE", "ALTER ROLE")
    return wanted


def refresh(engine: Engine, reader: Reader, tables: list[LoadedTable]) -> None:
    """Make the views that are missing; the account too, if nobody did. Cheap when all is there."""
    wanted = {view.name: None for view in VIEWS} | {
        name: table for table in tables for name in (table.table_name, table.nice_name)
    }
    with engine.connect() as connection:
        if _account_is_there(connection, reader) and not set(wanted) - _views_there(connection, reader):
            return
    with _alone(engine) as connection:
        if not _account_is_there(connection, reader):
            _grant(connection, engine, reader)
        if _is_postgresql(engine.url):
            _open_schema(connection, reader)
        for name in sorted(set(wanted) - _views_there(connection, reader)):
            _create(connection, reader, name, wanted[name])


def _account_is_there(connection: Connection, reader: Reader) -> bool:
    if connection.dialect.name == "postgresql":
        found = connection.scalar(sa.text("SELECT 1 FROM pg_roles WHERE rolname = :name"), {"name": reader.name})
        return bool(found)
    # Not everybody may look into mysql.user: the account is made with its database.
    found = connection.scalar(
        sa.text("SELECT 1 FROM information_schema.schemata WHERE schema_name = :name"), {"name": reader.database}
    )
    return bool(found)


def _views_there(connection: Connection, reader: Reader) -> set[str]:
    schema = SCHEMA if connection.dialect.name == "postgresql" else reader.database
    found = connection.execute(
        sa.text("SELECT table_name FROM information_schema.tables WHERE table_schema = :schema"), {"schema": schema}
    )
    return {str(row[0]) for row in found}


def _open_schema(connection: Connection, reader: Reader) -> None:
    name = connection.dialect.identifier_preparer.quote_identifier(reader.name)
    connection.exec_driver_sql(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}")
    connection.exec_driver_sql(f"GRANT USAGE ON SCHEMA {SCHEMA} TO {name}")
    connection.exec_driver_sql(f"ALTER DEFAULT PRIVILEGES IN SCHEMA {SCHEMA} GRANT SELECT ON TABLES TO {name}")


def _create(connection: Connection, reader: Reader, name: str, table: LoadedTable | None) -> None:
    quote = connection.dialect.identifier_preparer.quote_identifier
    if connection.dialect.name == "postgresql":
        db, number = quote(str(connection.scalar(sa.text("SELECT current_schema()")))) + ".", "pg_backend_pid()"
        # A barrier: no condition of the question is tried on a row before the view has let it through.
        begin = f"CREATE VIEW {SCHEMA}.{quote(name)} WITH (security_barrier) AS "
    else:
        db, number = quote(str(connection.engine.url.database)) + ".", "CONNECTION_ID()"
        place = f"{quote(reader.database)}.{quote(name)}"
        # Its rows are chosen before the question sees one, and with our rights.
        begin = f"CREATE OR REPLACE ALGORITHM=TEMPTABLE SQL SECURITY DEFINER VIEW {place} AS "
    look = f"FROM {db}query_pass p WHERE p.connection = {number}"
    visible = f"((SELECT p.sees_all {look}) OR {{owner}} = (SELECT p.owner {look}))"
    if table is None:
        select = select_of(name, db, visible, quote)
    else:
        owner = "'" + table.owner.replace("\\", "").replace("'", "''") + "'"
        select = f"SELECT * FROM {db}{quote(table.table_name)} WHERE {visible.format(owner=owner)}"  # noqa: S608
    connection.exec_driver_sql(_as_it_stands(begin + select))


def _as_it_stands(statement: str) -> str:
    """The drivers take % for a placeholder."""
    return statement.replace("%", "%%")


def select_of(name: str, db: str, visible: str, quote: Any) -> str:
    """The text of a fixed view, with the names that are words of SQL in this database's quotes."""
    (view,) = (view for view in VIEWS if view.name == name)
    text = view.select(db, visible)
    return (
        text.replace("{key}", quote("key")).replace("{rows}", quote("rows")).replace(" AS key", f" AS {quote('key')}")
    )


def drop_views(connection: Connection, settings: Settings) -> None:
    """Before a migration: PostgreSQL changes no table that a view reads. The next question makes them again."""
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(f"DROP SCHEMA IF EXISTS {SCHEMA} CASCADE")
    elif connection.dialect.name in ("mysql", "mariadb"):
        reader = reader_of(settings)
        quote = connection.dialect.identifier_preparer.quote_identifier
        for name in _views_there(connection, reader) & {view.name for view in VIEWS}:
            connection.exec_driver_sql(f"DROP VIEW IF EXISTS {quote(reader.database)}.{quote(name)}")
