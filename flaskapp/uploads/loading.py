"""The second pass over a file: its rows into a table of their own, in commits that let others write.

The table is dropped first and made anew, so that a load may be tried again after a crash. The profile is
built on the way. Nothing here touches the job: progress and the wish to stop come and go through callables.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa
from sqlalchemy.engine import Engine

from .casting import typed
from .columns import Column, Stopped
from .lazy_polars import polars
from .profile import Profile
from .reading import BadRow, rows
from .sniffing import Dialect
from .tables import bad_rows_table, create, drop, rows_table
from .writers import writer_for

if TYPE_CHECKING:
    import polars as pl

#: So many bad rows are listed; all are counted.
BAD_ROWS_LISTED = 10_000


@dataclass(frozen=True)
class LoadReport:
    rows: int
    bad_rows: int
    bad_rows_listed: int
    #: One object for each column, as profile.py describes it.
    profile: list[dict[str, object]]


def load(
    path: Path,
    dialect: Dialect,
    columns: Sequence[Column],
    engine: Engine,
    table_name: str,
    on_progress: Callable[[int], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> LoadReport:
    """Load every good row and list the bad ones; `on_progress` hears the number of rows done.

    Raises Stopped between two commits when asked to stop, TooWide if the database has no room for such a row.
    """
    drop(engine, table_name)
    table, bad_table = rows_table(table_name, columns), bad_rows_table(table_name)
    writer = writer_for(engine, table)
    with writer.refusing_wide_rows():
        create(engine, table, bad_table)
    profile = Profile(columns)
    good = bad = listed = 0
    for chunk in rows(path, dialect):
        if should_stop and should_stop():
            raise Stopped
        frame, bad_rows = typed(chunk, columns, dialect)
        if len(frame):
            with writer.refusing_wide_rows():
                writer.write(_as_stored(frame))
            profile.add(frame.get_columns()[1:])
        listed += _list_bad_rows(engine, bad_table, bad_rows[: BAD_ROWS_LISTED - listed])
        good += len(frame)
        bad += len(bad_rows)
        if on_progress:
            on_progress(good + bad)
    return LoadReport(good, bad, listed, profile.result())


def _list_bad_rows(engine: Engine, table: sa.Table, bad_rows: list[BadRow]) -> int:
    if bad_rows:
        with engine.begin() as connection:
            connection.execute(
                table.insert(),
                [{"row_number": row.number, "reason": row.reason, "raw": row.raw} for row in bad_rows],
            )
    return len(bad_rows)


def _as_stored(frame: "pl.DataFrame") -> list[tuple[object, ...]]:
    """The rows as every driver takes them, dates as the text that SQLAlchemy itself would write."""
    return list(_tuples(frame))


def _tuples(frame: "pl.DataFrame") -> Iterator[tuple[object, ...]]:
    pl = polars()
    columns = []
    for values in frame.get_columns():
        if values.dtype == pl.Date:
            values = values.cast(pl.String)
        elif isinstance(values.dtype, pl.Datetime):
            values = values.dt.strftime("%Y-%m-%d %H:%M:%S%.6f")
        columns.append(values.to_list())
    return zip(*columns, strict=True)
