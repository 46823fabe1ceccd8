"""The rows of an uploaded table as people to write to: read in short stretches, whatever their number."""

from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa
from kombu.utils.json import loads

from flaskapp.extensions import db
from flaskapp.mail.filling import variable_name
from flaskapp.uploads.header import ROW_NUMBER
from flaskapp.uploads.models import Upload

_AT_ONCE = 1000


def columns_of(upload: Upload) -> dict[str, str]:
    """Variable → column of the table; of two that would be called the same, the first."""
    found: dict[str, str] = {}
    for column in loads(upload.report or "{}").get("columns", []):
        found.setdefault(variable_name(column["name"]), column["name"])
    return found


def address_column(upload: Upload) -> str | None:
    """The one that is called like addresses, to begin with."""
    names = list(columns_of(upload))
    likely = [name for name in names if "mail" in name or "address" in name]
    return likely[0] if likely else None


def rows_of(upload: Upload, after: int = 0) -> Iterator[tuple[int, dict[str, Any]]]:
    """(number of the row, its values by variable), without those that are empty; no transaction stays open."""
    columns = columns_of(upload)
    number: sa.ColumnClause[int] = sa.column(ROW_NUMBER, sa.BigInteger)
    table = sa.table(str(upload.table_name), number, *(sa.column(name) for name in columns.values()))
    fields = [table.c[name] for name in columns.values()]
    while True:
        query = sa.select(table.c[ROW_NUMBER], *fields).where(table.c[ROW_NUMBER] > after)
        with db.engine.connect() as connection:
            found = connection.execute(query.order_by(table.c[ROW_NUMBER]).limit(_AT_ONCE)).all()
        if not found:
            return
        for row in found:
            values = zip(columns, row[1:], strict=True)
            yield int(row[0]), {name: _plain(value) for name, value in values if value is not None}
        after = int(found[-1][0])


def row_of(upload: Upload, number: int) -> tuple[int, dict[str, Any]] | None:
    """The row with this number, or the next one after it."""
    return next(rows_of(upload, number - 1), None)


def _plain(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer():
        return int(value)  # a column of decimals, in which this one has none
    return value if isinstance(value, str | int | float | bool) else str(value)
