"""What each column of a table holds, decided by a first pass over the whole file.

One odd cell among a million does not turn numbers into text: where nearly all cells fit a kind, the column
is of that kind and the others are bad rows later. Codes that a number would spoil (00123, +49…) stay text.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .kinds import EMPTY, NOTATIONS, Kind, Notation, Range, Value, reach
from .lazy_polars import polars
from .reading import Chunk, rows
from .refusals import UnreadableTable
from .sniffing import Dialect

if TYPE_CHECKING:
    import polars as pl

_TASTE = 200
_FEW = 10
# A number would lose the zero, the plus, or the digits beyond 64 bits.
_CODE = r"^[+-]?0\d|^\+\d{7}"
_WHOLE = r"^[+-]?\d+$"


@dataclass(frozen=True)
class Column:
    name: str
    kind: Kind
    #: A key of NOTATIONS; empty for text.
    notation: str = ""
    #: The range that the histogram covers; None for text and for columns without a value.
    smallest: Value | None = None
    largest: Value | None = None


@dataclass(frozen=True)
class Survey:
    columns: tuple[Column, ...]
    #: Rows with the right number of cells; some may still hold a cell that does not fit its column.
    rows: int
    bad_rows: int

    @property
    def total(self) -> int:
        return self.rows + self.bad_rows


def survey(
    path: Path,
    dialect: Dialect,
    on_progress: Callable[[int], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> Survey:
    """Decide the kind of every column; `on_progress` hears the number of rows seen so far."""
    guesses = [_Guess(name, dialect.delimiter) for name in dialect.header]
    good = bad = 0
    first_fault = ""
    for chunk in rows(path, dialect):
        for guess, cells in zip(guesses, text_columns(chunk), strict=False):
            guess.observe(cells)
        good += len(chunk.rows)
        bad += len(chunk.bad)
        if chunk.bad and not first_fault:
            first_fault = f"line {chunk.bad[0].number:,}: {chunk.bad[0].reason}"
        if on_progress:
            on_progress(good + bad)
        if should_stop and should_stop():
            raise Stopped
    if not good:
        because = f" ({first_fault})" if first_fault else ""
        raise UnreadableTable(f"No row below the header could be read{because}: correct the file and upload it again.")
    return Survey(tuple(guess.column() for guess in guesses), good, bad)


class Stopped(Exception):
    """Someone asked the work to stop before its end."""


def text_columns(chunk: Chunk) -> list["pl.Series"]:
    """The cells of a chunk column by column; nothing if it has no good row."""
    pl = polars()
    return [pl.Series(values=cells, dtype=pl.String) for cells in zip(*chunk.rows, strict=True)]


def without_empties(cells: "pl.Series") -> "pl.Series":
    """The cells without the blanks around them, null where they say that there is nothing."""
    stripped = cells.str.strip_chars()
    return stripped.set(stripped.is_in(EMPTY), None)


class _Guess:
    """Which notations a column may still have, after the chunks seen so far."""

    def __init__(self, name: str, delimiter: str) -> None:
        self._name = name
        self._filled = 0
        # With a comma between cells, a comma inside one is no decimal sign but a second number.
        self._alive = {n.name: _Fit(n) for n in NOTATIONS.values() if n.name != "decimal comma" or delimiter != ","}

    def observe(self, cells: "pl.Series") -> None:
        if not self._alive:
            return
        filled = without_empties(cells).drop_nulls()
        if not len(filled):
            return
        if not self._filled:
            self._drop_hopeless(filled.head(_TASTE))
        for fit in self._alive.values():
            fit.observe(filled, self._alive.get(fit.notation.narrower))
        self._filled += len(filled)
        self._alive = {name: fit for name, fit in self._alive.items() if 2 * fit.cells > self._filled}
        if ("integer" in self._alive or "decimal" in self._alive) and _holds_codes(filled):
            self._alive = {}

    def _drop_hopeless(self, taste: "pl.Series") -> None:
        """Spare the column the many parsers that a first look at it rules out."""
        likely: dict[str, _Fit] = {}
        for name, fit in self._alive.items():
            shape = fit.notation.shape
            if shape and 4 * taste.str.contains(shape).sum() < len(taste):
                continue
            fitting = fit.notation.parse(taste).count()
            if 4 * fitting >= len(taste):
                likely[name] = fit
            if fitting == len(taste):
                likely.update((wider, f) for wider, f in self._alive.items() if f.notation.narrower == name)
                break
        self._alive = likely

    def column(self) -> Column:
        best = max(self._alive.values(), key=lambda fit: fit.cells, default=None)
        if best is None or not best.cells or self._filled - best.cells > self._tolerance():
            return Column(self._name, Kind.TEXT)
        return Column(self._name, best.notation.kind, best.notation.name, best.range.smallest, best.range.largest)

    def _tolerance(self) -> int:
        """How many cells may not fit: one in a hundred, but one already in a small table."""
        return max(1, self._filled // 100) if self._filled >= _FEW else 0


class _Fit:
    """How many cells of a column fit a notation, and how far their values reach."""

    def __init__(self, notation: Notation) -> None:
        self.notation = notation
        self.cells = 0
        self.range = Range()
        self._fitting = 0
        self._reach: tuple[Value | None, Value | None] = (None, None)

    def observe(self, filled: "pl.Series", narrower: "_Fit | None") -> None:
        if narrower and narrower._fitting == len(filled):
            self._fitting = narrower._fitting
            low, high = map(self.notation.widen, narrower._reach)
        else:
            found = self.notation.parse(filled)
            self._fitting = found.count()
            low, high = reach(found)
        self._reach = low, high
        self.cells += self._fitting
        self.range.include(low, high)


def _holds_codes(filled: "pl.Series") -> bool:
    if filled.str.contains(_CODE).any():
        return True
    too_long = filled.filter(filled.cast(polars().Int64, strict=False).is_null())
    return bool(too_long.str.contains(_WHOLE).any())
