"""Bad rows as a CSV file that a spreadsheet opens as text, not as formulas.

A cell that a spreadsheet would run gets an apostrophe before it; a real number keeps its sign.
It writes line by line, so that a download of any length costs no memory.
"""

import csv
import io
import re
from collections.abc import Iterable, Iterator
from itertools import chain

_FORMULA = re.compile(r"\s*[=+\-@＝＋－＠]|[\t\r\n]")
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?")


def escape_cell(cell: object) -> object:
    """The cell as text that no spreadsheet takes for a formula; numbers stay what they are."""
    if not isinstance(cell, str) or not _FORMULA.match(cell) or _NUMBER.fullmatch(cell):
        return cell
    return f"'{cell}"


def csv_lines(header: Iterable[str], rows: Iterable[Iterable[object]]) -> Iterator[str]:
    """A CSV file in pieces: the header, then the rows, every text cell of both made harmless."""
    yield "\ufeff"  # without it Excel reads UTF-8 as its old code page
    line = io.StringIO()
    writer = csv.writer(line)
    for cells in chain([header], rows):
        writer.writerow([escape_cell(cell) for cell in cells])
        yield line.getvalue()
        line.seek(0)
        line.truncate()


def bad_rows_csv(rows: Iterable[tuple[int, str, str]]) -> Iterator[str]:
    """The refused rows of an upload as (row number, reason, raw text)."""
    return csv_lines(("row number", "reason", "row as it stands in the file"), rows)
