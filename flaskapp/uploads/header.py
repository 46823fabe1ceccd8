"""The first row of a table: whether it holds names at all, and the names that its columns get.

Names are mended rather than refused; every name fits every database as a quoted identifier.
It does not choose what a column holds: columns.py does.
"""

import re
import unicodedata
from collections import Counter
from itertools import pairwise

#: The table's own first column: the line of the file that a row came from.
ROW_NUMBER = "row_number"
# PostgreSQL has columns of these names in every table, and refuses a second one.
_TAKEN = {ROW_NUMBER, "tableoid", "xmin", "cmin", "xmax", "cmax", "ctid"}
_MAX_BYTES = 60  # PostgreSQL ends a name after 63 bytes, MariaDB after 64 characters
_NUMBER = re.compile(r"[+-]?(\d+([.,]\d*)?|[.,]\d+)([eE][+-]?\d+)?")
_DATE = re.compile(r"\d{4}[-/]\d{1,2}[-/]\d{1,2}([ T].*)?|\d{1,2}\.\d{1,2}\.\d{4}")
_INTEGER = re.compile(r"\d{1,6}")


def columns_named(header: list[str]) -> tuple[str, ...]:
    """A different name for each column: `name`, `name_2`, and `column_3` for one that has none."""
    taken = set(_TAKEN)
    times: Counter[str] = Counter(_TAKEN)  # so that a thousand equal names do not cost a million looks
    names = []
    for position, cell in enumerate(header, start=1):
        wanted = name = _clean(cell) or f"column_{position}"
        first = compared = _as_compared(name)
        while compared in taken:
            times[first] += 1
            suffix = f"_{times[first]}"
            name = _clip(wanted, _MAX_BYTES - len(suffix)) + suffix
            compared = _as_compared(name)
        taken.add(compared)
        times[compared] += 1
        names.append(name)
    return tuple(names)


def looks_like_data(header: list[str], rows: list[list[str]]) -> bool:
    """Whether the first row is a row like the others: a value wherever the column below holds values."""
    cells = [cell.strip() for cell in header]
    if all(_is_value(cell) for cell in cells if cell):
        return True
    values = [cell for cell, column in zip(cells, zip(*_full(rows, len(cells)), strict=True), strict=False)
              if _holds_values(column)]  # fmt: skip
    return bool(values) and all(map(_is_value, values)) and not _counts_up(values)


def _full(rows: list[list[str]], width: int) -> list[list[str]]:
    return [row for row in rows if len(row) == width]


def _holds_values(column: tuple[str, ...]) -> bool:
    filled = [cell for cell in map(str.strip, column) if cell]
    return bool(filled) and sum(map(_is_value, filled)) >= 0.9 * len(filled)


def _is_value(cell: str) -> bool:
    return bool(_NUMBER.fullmatch(cell) or _DATE.fullmatch(cell))


def _counts_up(cells: list[str]) -> bool:
    """Whether the cells are names such as 2019, 2020, 2021 or 1, 2, 3."""
    if len(cells) < 2 or not all(_INTEGER.fullmatch(cell) for cell in cells):
        return False
    steps = {int(after) - int(before) for before, after in pairwise(cells)}
    return len(steps) == 1 and steps.pop() > 0


def _as_compared(name: str) -> str:
    """The name as the strictest database compares it: MariaDB sees neither case nor accents."""
    if name.isascii():
        return name.lower()
    return "".join(c for c in unicodedata.normalize("NFKD", name.casefold()) if not unicodedata.combining(c))


def _clean(cell: str) -> str:
    # MariaDB takes no letter beyond U+FFFF in a name; a control character helps nobody.
    if cell.isascii() and cell.isprintable():
        return _clip(" ".join(cell[:1000].split()), _MAX_BYTES)
    kept = (" " if unicodedata.category(c)[0] in "CZ" or c > "\uffff" else c for c in cell[:1000])
    printable = "".join(kept)
    return _clip(" ".join(printable.split()), _MAX_BYTES)


def _clip(name: str, most: int) -> str:
    return name.encode("utf-8", "ignore")[:most].decode("utf-8", "ignore").strip()
