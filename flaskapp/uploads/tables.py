"""The two database tables of an upload: its rows with their types, and the rows that were refused.

Both are made and dropped here, on SQLite, PostgreSQL and MariaDB alike; safe to call again after a crash.
No model knows them: each upload has columns of its own.
"""

import time
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.mysql import DATETIME, LONGTEXT
from sqlalchemy.engine import Engine

from .columns import Column
from .header import ROW_NUMBER
from .kinds import Kind

_LINE = sa.BigInteger().with_variant(sa.Integer, "sqlite")  # there it is the row's own id, at no cost
_TEXT = sa.Text().with_variant(LONGTEXT, "mysql", "mariadb")
_TYPES: dict[Kind, sa.types.TypeEngine[Any]] = {
    Kind.INTEGER: sa.BigInteger(),
    Kind.DECIMAL: sa.Double(),
    Kind.BOOLEAN: sa.Boolean(),
    Kind.DATE: sa.Date(),
    Kind.DATETIME: sa.DateTime().with_variant(DATETIME(fsp=6), "mysql", "mariadb"),
    Kind.TEXT: _TEXT,
}
_ROWS_DELETED_AT_ONCE = 20_000


def rows_table(name: str, columns: Sequence[Column]) -> sa.Table:
    """The table of the good rows; its columns have the file's names, and the keys c0, c1, … in SQLAlchemy."""
    return sa.Table(
        name,
        sa.MetaData(),
        sa.Column(ROW_NUMBER, _LINE, primary_key=True, autoincrement=False),
        *(sa.Column(column.name, _TYPES[column.kind], key=f"c{i}") for i, column in enumerate(columns)),
        mysql_charset="utf8mb4",
        mariadb_charset="utf8mb4",
    )


def bad_rows_table(name: str) -> sa.Table:
    """The table of the refused rows of the table `name`."""
    return sa.Table(
        f"{name}_bad",
        sa.MetaData(),
        sa.Column("id", _LINE, primary_key=True),
        sa.Column("row_number", sa.BigInteger, nullable=False),
        sa.Column("reason", _TEXT, nullable=False),
        sa.Column("raw", _TEXT, nullable=False),
        mysql_charset="utf8mb4",
        mariadb_charset="utf8mb4",
    )


def create(engine: Engine, *tables: sa.Table) -> None:
    with engine.begin() as connection:
        for table in tables:
            table.create(connection)


def drop(engine: Engine, name: str) -> None:
    """Remove both tables of an upload if they are there."""
    # The table of the rows goes last: by its name the sweep finds what a killed process left of the two.
    for table in (bad_rows_table(name), rows_table(name, ())):
        if not sa.inspect(engine).has_table(table.name):
            continue
        if engine.dialect.name == "sqlite":
            _empty_by_and_by(engine, table)
        with engine.begin() as connection:
            table.drop(connection, checkfirst=True)


def _empty_by_and_by(engine: Engine, table: sa.Table) -> None:
    """SQLite writes every page of a table that it drops, and no one else writes meanwhile: empty it first."""
    line = next(iter(table.primary_key))
    while True:
        with engine.begin() as connection:
            # The key has no gaps worth speaking of, so a stretch of it is about as many rows.
            first = connection.scalar(sa.select(sa.func.min(line)))
            if first is None:
                return
            connection.execute(table.delete().where(line < first + _ROWS_DELETED_AT_ONCE))
        time.sleep(PAUSE_SECONDS)


#: Long enough for a writer that waits for SQLite's lock to look again: it looks every 25 ms at first.
PAUSE_SECONDS = 0.03
