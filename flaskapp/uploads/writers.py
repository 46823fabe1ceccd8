"""How rows reach each database: COPY on PostgreSQL, many rows a statement elsewhere, always in short commits.

SQLite has one writer at a time, so there a commit aims at a tenth of a second and leaves the lock alone for a
moment before the next. A row too wide for the database becomes one sentence.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa
from sqlalchemy.engine import Engine

from .refusals import TooWide
from .tables import PAUSE_SECONDS

Rows = list[tuple[object, ...]]

_MYSQL_TOO_WIDE = {1117, 1118}  # too many columns, row size too large
_ROWS_AT_ONCE = 5_000
_COMMIT_SECONDS = 0.08


def writer_for(engine: Engine, table: sa.Table) -> "Writer":
    if engine.dialect.name == "postgresql":
        return CopyWriter(engine, table)
    if engine.dialect.name == "sqlite":
        return PacedWriter(engine, table)
    return Writer(engine, table)


class Writer:
    def __init__(self, engine: Engine, table: sa.Table) -> None:
        self.engine = engine
        self.table = table
        # The driver's own executemany: SQLAlchemy's look at each value costs more than the insert.
        insert = table.insert().compile(dialect=engine.dialect)
        self._insert = str(insert)
        self._names = None if insert.positional else tuple(table.columns.keys())

    def write(self, rows: Rows) -> None:
        for start in range(0, len(rows), _ROWS_AT_ONCE):
            self.commit(rows[start : start + _ROWS_AT_ONCE])

    def commit(self, rows: Rows) -> None:
        with self.engine.begin() as connection:
            if self._names is None:
                connection.exec_driver_sql(self._insert, rows)
            else:
                named = [dict(zip(self._names, row, strict=True)) for row in rows]
                connection.exec_driver_sql(self._insert, named)

    @contextmanager
    def refusing_wide_rows(self) -> Iterator[None]:
        try:
            yield
        except sa.exc.DBAPIError as error:
            if error.orig is not None and error.orig.args and error.orig.args[0] in _MYSQL_TOO_WIDE:
                raise self.too_wide("MariaDB") from error
            raise

    def too_wide(self, database: str) -> TooWide:
        width = len(self.table.columns) - 1
        return TooWide(f"A row of {width:,} columns is too wide for {database}: split the table by columns.")


class PacedWriter(Writer):
    """Writes as many rows at once as fit the time of a commit, and then lets others have the lock."""

    def __init__(self, engine: Engine, table: sa.Table) -> None:
        super().__init__(engine, table)
        self._at_once = _ROWS_AT_ONCE
        self._free_since = 0.0

    def write(self, rows: Rows) -> None:
        start = 0
        while start < len(rows):
            # Reading the next chunk is mostly pause enough; only commits back to back need this.
            time.sleep(max(0.0, self._free_since + PAUSE_SECONDS - time.monotonic()))
            part = rows[start : start + self._at_once]
            began = time.monotonic()
            self.commit(part)
            self._free_since = time.monotonic()
            self._adapt(len(part), self._free_since - began)
            start += len(part)

    def _adapt(self, rows: int, seconds: float) -> None:
        # Waiting for the lock counts too: when others write much, shorter commits are right as well.
        fitting = int(rows * _COMMIT_SECONDS / max(seconds, 0.001))
        self._at_once = max(500, min(20_000, 2 * self._at_once, fitting))


class CopyWriter(Writer):
    def write(self, rows: Rows) -> None:
        self.commit(rows)

    def commit(self, rows: Rows) -> None:
        from psycopg import sql

        names = sql.SQL(", ").join(sql.Identifier(column.name) for column in self.table.columns)
        copy_into = sql.SQL("COPY {} ({}) FROM STDIN").format(sql.Identifier(self.table.name), names)
        with self.engine.begin() as connection:
            driver = connection.connection.driver_connection
            assert driver is not None  # noqa: S101 - the connection was just made
            with driver.cursor() as cursor, cursor.copy(copy_into) as copy:
                for row in rows:
                    copy.write_row(row)

    @contextmanager
    def refusing_wide_rows(self) -> Iterator[None]:
        from psycopg.errors import ProgramLimitExceeded, TooManyColumns

        try:
            yield
        except (ProgramLimitExceeded, TooManyColumns) as error:
            raise self.too_wide("PostgreSQL") from error
        except sa.exc.DBAPIError as error:
            if isinstance(error.orig, ProgramLimitExceeded | TooManyColumns):
                raise self.too_wide("PostgreSQL") from error
            raise
