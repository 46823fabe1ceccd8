"""From the text of a chunk to typed columns, and the rows that do not fit.

A row with one cell that its column cannot hold is a bad row as a whole: listed, never loaded by half.
The frame has the row's line in the file first, then the columns in their order, named c0, c1, ….
"""

import csv
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

from .columns import Column, text_columns, without_empties
from .header import ROW_NUMBER
from .kinds import MISFIT, NOTATIONS, Kind
from .lazy_polars import polars
from .reading import RAW_LIMIT, BadRow, Chunk
from .sniffing import Dialect

if TYPE_CHECKING:
    import polars as pl

_CELL_SHOWN = 40


def typed(chunk: Chunk, columns: Sequence[Column], dialect: Dialect) -> tuple["pl.DataFrame", list[BadRow]]:
    """The good rows of a chunk as values, and all of its bad rows in the order of the file."""
    pl = polars()
    if not chunk.rows:
        return pl.DataFrame(), chunk.bad
    cast = [pl.Series(ROW_NUMBER, chunk.numbers, dtype=pl.Int64)]
    faults: dict[int, str] = {}
    for index, (column, cells) in enumerate(zip(columns, text_columns(chunk), strict=True)):
        values, misfits = _cast(column, cells)
        cast.append(values.alias(f"c{index}"))
        for row in misfits:
            cell = _shown(chunk.rows[row][index])
            faults.setdefault(row, f"column {column.name}: '{cell}' is {MISFIT[column.kind]}")
    frame = pl.DataFrame(cast)
    if not faults:
        return frame, chunk.bad
    bad = [BadRow(chunk.numbers[row], why, _as_text(chunk.rows[row], dialect)) for row, why in faults.items()]
    is_bad = pl.Series(faults.keys(), dtype=pl.Int64)
    good = frame.with_row_index("at").filter(~pl.col("at").cast(pl.Int64).is_in(is_bad.implode())).drop("at")
    return good, sorted(chunk.bad + bad, key=lambda row: row.number)


def _cast(column: Column, cells: "pl.Series") -> tuple["pl.Series", list[int]]:
    if column.kind is Kind.TEXT:
        return cells.set(cells.str.strip_chars() == "", None), []
    filled = without_empties(cells)
    values = NOTATIONS[column.notation].parse(filled)
    if values.null_count() == filled.null_count():
        return values, []
    return values, (values.is_null() & filled.is_not_null()).arg_true().to_list()


def _shown(cell: str) -> str:
    cell = " ".join(cell[: 2 * _CELL_SHOWN].split())
    return cell if len(cell) <= _CELL_SHOWN else cell[: _CELL_SHOWN - 1] + "…"


def _as_text(row: list[str], dialect: Dialect) -> str:
    line = io.StringIO()
    clipped = [cell[:RAW_LIMIT] for cell in row[:RAW_LIMIT]]
    csv.writer(line, delimiter=dialect.delimiter, quotechar=dialect.quote, lineterminator="").writerow(clipped)
    text = line.getvalue()
    return text if len(text) <= RAW_LIMIT else text[: RAW_LIMIT - 1] + "…"
