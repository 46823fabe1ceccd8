"""What a column can hold, and how the text of each kind is read: one vectorised parser per notation.

A parser returns a value for each cell that fits and null for each that does not; it never raises for a cell.
Which notation a column gets is decided in columns.py.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime, time
from enum import StrEnum
from typing import TYPE_CHECKING

from .lazy_polars import polars

if TYPE_CHECKING:
    import polars as pl


class Kind(StrEnum):
    INTEGER = "integer"
    DECIMAL = "decimal"
    BOOLEAN = "boolean"
    DATE = "date"
    DATETIME = "datetime"
    TEXT = "text"


#: What "'n/a' is …" goes on to say of a cell that does not fit.
MISFIT = {
    Kind.INTEGER: "not a whole number",
    Kind.DECIMAL: "not a number",
    Kind.BOOLEAN: "neither true nor false",
    Kind.DATE: "not a date",
    Kind.DATETIME: "not a date and time",
}
#: Cells that mean "nothing here" in a column of numbers or dates. In text they stay: NA is also Namibia.
EMPTY = ["", "-", "NA", "N/A", "n/a", "na", "#N/A", "NULL", "null", "Null", "NaN", "nan", "NAN"]
EMPTY += ["None", "none", "NONE", "nil"]

Value = int | float | bool | date | datetime | str


def reach(values: "pl.Series") -> tuple[Value | None, Value | None]:
    """The smallest and the largest value, None where there is none."""
    return values.min(), values.max()  # type: ignore[return-value]


@dataclass
class Range:
    """How far the values of a column reach, chunk by chunk."""

    smallest: Value | None = None
    largest: Value | None = None

    def include(self, low: Value | None, high: Value | None) -> None:
        if low is not None:
            self.smallest = low if self.smallest is None else min(self.smallest, low)
        if high is not None:
            self.largest = high if self.largest is None else max(self.largest, high)


@dataclass(frozen=True)
class Notation:
    """One way to write the values of one kind."""

    name: str
    kind: Kind
    parse: Callable[["pl.Series"], "pl.Series"]
    #: A notation whose every cell this one reads too.
    narrower: str = ""
    #: What every cell of it looks like, so that one glance rules it out for a column of prose.
    shape: str = ""

    def widen(self, value: Value | None) -> Value | None:
        """A value of the narrower notation as one of this kind."""
        if self.kind is Kind.DECIMAL and isinstance(value, int):
            return float(value)
        if self.kind is Kind.DATETIME and isinstance(value, date) and not isinstance(value, datetime):
            return datetime.combine(value, time())
        return value


def _integers(cells: "pl.Series") -> "pl.Series":
    return cells.cast(polars().Int64, strict=False)


def _decimals(cells: "pl.Series") -> "pl.Series":
    numbers = cells.cast(polars().Float64, strict=False)
    return numbers.set(numbers.is_infinite() | numbers.is_nan(), None)


def _decimals_with_comma(cells: "pl.Series") -> "pl.Series":
    fitting = cells.set(~cells.str.contains(r"^[+-]?\d+(,\d+)?$"), None)
    return _decimals(fitting.str.replace(",", ".", literal=True))


def _booleans(cells: "pl.Series") -> "pl.Series":
    lower = cells.str.to_lowercase()
    return (lower == "true").set(~lower.is_in(["true", "false"]), None)


def _first_fitting(cells: "pl.Series", formats: tuple[str, ...], read: Callable[..., "pl.Series"]) -> "pl.Series":
    """What the first format that fits makes of each cell."""
    found = read(cells, formats[0])
    for format in formats[1:]:
        if found.null_count() == cells.null_count():
            break
        left = cells.set(found.is_not_null(), None)
        found = found.zip_with(found.is_not_null(), read(left, format))
    return found


def _dates(*formats: str) -> Callable[["pl.Series"], "pl.Series"]:
    def read(cells: "pl.Series", format: str) -> "pl.Series":
        dates = cells.str.to_date(format, strict=False)
        # `20` for a year is a typing error or a convention that we do not know.
        return dates.set(~dates.dt.year().is_between(1000, 9999), None)

    return lambda cells: _first_fitting(cells, formats, read)


def _datetimes(*formats: str) -> Callable[["pl.Series"], "pl.Series"]:
    def read(cells: "pl.Series", format: str) -> "pl.Series":
        times = cells.str.to_datetime(format, strict=False, time_unit="us")
        if times.dtype != polars().Datetime("us"):
            times = times.dt.replace_time_zone(None)  # already moved to UTC by the parser
        return times.set(~times.dt.year().is_between(1000, 9999), None)

    def parse(cells: "pl.Series") -> "pl.Series":
        timed = [format for format in formats if "%H" in format]
        found = _first_fitting(cells, tuple(timed), read)
        if found.null_count() > cells.null_count():
            days = _dates(*(format for format in formats if "%H" not in format))(cells.set(found.is_not_null(), None))
            found = found.zip_with(found.is_not_null(), days.cast(polars().Datetime("us")))
        return found

    return parse


def _family(name: str, shape: str, dates: tuple[str, ...], clocks: tuple[str, ...]) -> list[Notation]:
    """Dates of one style, and the same dates with a time of day behind them."""
    timed = tuple(day + clock for day in dates for clock in clocks)
    return [
        Notation(name, Kind.DATE, _dates(*dates), shape=shape),
        Notation(f"{name} time", Kind.DATETIME, _datetimes(*timed, *dates), narrower=name, shape=shape),
    ]


_CLOCKS = (" %H:%M:%S%.f", " %H:%M")
_ISO_CLOCKS = (*_CLOCKS, "T%H:%M:%S%.f", "T%H:%M:%S%.f%#z", " %H:%M:%S%.f%#z", "T%H:%M")
# The wider notation comes after the narrower: the first with the most fitting cells is chosen. Dates that
# begin with a day or a month in digits and slashes are read differently in two countries: they stay text.
NOTATIONS = {
    notation.name: notation
    for notation in [
        Notation("integer", Kind.INTEGER, _integers),
        Notation("decimal", Kind.DECIMAL, _decimals, narrower="integer"),
        Notation("decimal comma", Kind.DECIMAL, _decimals_with_comma),
        Notation("boolean", Kind.BOOLEAN, _booleans),
        *_family("2026-01-31", r"^\d{4}-\d{1,2}-\d", ("%Y-%m-%d",), _ISO_CLOCKS),
        *_family("2026/01/31", r"^\d{4}/\d{1,2}/\d", ("%Y/%m/%d",), _CLOCKS),
        *_family("31.01.2026", r"^\d{1,2}\.\d{1,2}\.\d{4}", ("%d.%m.%Y",), _CLOCKS),
        *_family(
            "Jan 31 2026",
            r"^[A-Za-z]{3,9} \d{1,2},? \d{4}",
            ("%b %d %Y", "%b %d, %Y", "%B %d, %Y", "%B %d %Y"),
            _CLOCKS,
        ),
        *_family(
            "31 Jan 2026",
            r"^\d{1,2}[ -][A-Za-z]{3,9}[ -]\d{4}",
            ("%d %b %Y", "%d-%b-%Y", "%d %B %Y"),
            _CLOCKS,
        ),
    ]
}
