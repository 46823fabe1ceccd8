"""The rows of an uploaded table as people to write to: read in short stretches, whatever their number."""

from collections.abc import Collection, Iterator, Sequence
from typing import Any

import sqlalchemy as sa
from kombu.utils.json import loads

from flaskapp.extensions import db
from flaskapp.mail.filling import variable_name
from flaskapp.uploads.header import ROW_NUMBER
from flaskapp.uploads.models import Upload

_AT_ONCE = 1000
_AT_FIRST = 16
#: A row may have half a million characters: of such ones fewer are held at once.
_MOST_CHARACTERS = 1_000_000
#: What the driver reads ahead.
_AHEAD = 10


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


def rows_of(upload: Upload, names: Collection[str], after: int = 0) -> Iterator[tuple[int, dict[str, Any]]]:
    """(number of the row, its values by variable), of the variables `names`, without those that are empty.

    No transaction stays open.
    """
    columns = {name: one for name, one in columns_of(upload).items() if name in names}
    number: sa.ColumnClause[int] = sa.column(ROW_NUMBER, sa.BigInteger)
    table = sa.table(str(upload.table_name), number, *(sa.column(name) for name in columns.values()))
    fields = [table.c[name] for name in columns.values()]
    at_once = _AT_FIRST
    while True:
        query = sa.select(table.c[ROW_NUMBER], *fields).where(table.c[ROW_NUMBER] > after)
        with db.engine.connect().execution_options(yield_per=_AHEAD) as connection:
            found = _beginning(connection.execute(query.order_by(table.c[ROW_NUMBER]).limit(at_once)))
        if not found:
            return
        for row in found:
            values = zip(columns, row[1:], strict=True)
            yield int(row[0]), {name: _plain(value) for name, value in values if value is not None}
        after = int(found[-1][0])
        at_once = min(2 * len(found), _AT_ONCE)


def row_of(upload: Upload, number: int, names: Collection[str]) -> tuple[int, dict[str, Any]] | None:
    """The row with this number, or the next one after it."""
    return next(rows_of(upload, names, number - 1), None)


def _beginning(rows: sa.CursorResult[Any]) -> list[Sequence[Any]]:
    """As many of them as may be held at once, at least one."""
    found: list[Sequence[Any]] = []
    length = 0
    for row in rows:
        found.append(row)
        length += sum(len(value) for value in row if isinstance(value, str))
        if length > _MOST_CHARACTERS:
            break
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer():
        return int(value)  # a column of decimals, in which this one has none
    return value if isinstance(value, str | int | float | bool) else str(value)
