"""What a column looks like: how much is empty, how many different values, their range, mean and distribution.

One `add` for each chunk, in memory that does not grow with the table; where a figure is no longer exact, a
flag beside it says so. The result is plain JSON; dates are ISO text in it.
"""

from collections.abc import Sequence
from datetime import date, datetime, timedelta
from math import isfinite
from typing import TYPE_CHECKING

from .columns import Column
from .kinds import Kind, Range, Value, reach
from .sketches import Distinct, Frequent

if TYPE_CHECKING:
    import polars as pl

_BINS = 20
_SHOWN = 200
_EPOCH_DAY = date(1970, 1, 1)
_EPOCH = datetime(1970, 1, 1)
_MICROSECOND = timedelta(microseconds=1)


class Profile:
    """The profile of a table, built while its rows go by."""

    def __init__(self, columns: Sequence[Column]) -> None:
        self._columns = [_ColumnProfile(column, len(columns)) for column in columns]

    def add(self, values: Sequence["pl.Series"]) -> None:
        for column, chunk in zip(self._columns, values, strict=True):
            column.add(chunk)

    def result(self) -> list[dict[str, object]]:
        return [column.result() for column in self._columns]


class _ColumnProfile:
    def __init__(self, column: Column, of_columns: int) -> None:
        self._column = column
        self._filled = self._empty = 0
        self._total = 0.0
        self._range = Range()
        self._distinct = Distinct(of_columns)
        self._frequent = Frequent(of_columns) if column.kind in (Kind.TEXT, Kind.BOOLEAN) else None
        self._histogram = _histogram(column)

    def add(self, values: "pl.Series") -> None:
        self._empty += values.null_count()
        filled = values.drop_nulls()
        if not len(filled):
            return
        self._range.include(*reach(filled))
        if self._column.kind in (Kind.INTEGER, Kind.DECIMAL):
            # Each chunk's mean, weighted: a sum of 64-bit integers could overflow.
            mean = filled.cast(float).mean()
            assert isinstance(mean, float)  # noqa: S101 - there are values, and they are floats
            self._total += mean * len(filled)
        self._filled += len(filled)
        self._distinct.add(filled)
        if self._frequent:
            self._frequent.add(filled)
        if self._histogram:
            self._histogram.add(filled)

    def result(self) -> dict[str, object]:
        has_mean = self._filled and self._column.kind in (Kind.INTEGER, Kind.DECIMAL) and isfinite(self._total)
        found: dict[str, object] = {
            "name": self._column.name,
            "type": self._column.kind.value,
            "filled": self._filled,
            "empty": self._empty,
            "distinct": self._distinct.estimate(),
            "distinct_is_exact": self._distinct.is_exact,
            "smallest": _plain(self._range.smallest),
            "largest": _plain(self._range.largest),
            "mean": self._total / self._filled if has_mean else None,
            "histogram": self._histogram.result() if self._histogram and self._filled else None,
        }
        if self._frequent:
            found["most_frequent"] = self._frequent.top()
            found["most_frequent_is_exact"] = self._frequent.is_exact
        return found


def _plain(value: Value | None) -> object:
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, str) and len(value) > _SHOWN:
        return value[: _SHOWN - 1] + "…"
    return value


def _histogram(column: Column) -> "_Histogram | None":
    low, high = column.smallest, column.largest
    if low is None or high is None or isinstance(low, bool | str):
        return None
    is_whole = column.kind in (Kind.INTEGER, Kind.DATE)
    return _Histogram(_as_number(low), _as_number(high), column.kind, is_whole)


def _as_number(value: Value) -> int | float:
    """A date as polars counts it: in days, and with a time of day in microseconds, since 1970."""
    if isinstance(value, datetime):
        return (value - _EPOCH) // _MICROSECOND
    if isinstance(value, date):
        return (value - _EPOCH_DAY).days
    assert isinstance(value, int | float)  # noqa: S101 - text has no histogram
    return value


class _Histogram:
    """At most twenty bins of one width over a range known beforehand."""

    def __init__(self, low: int | float, high: int | float, kind: Kind, is_whole: bool) -> None:
        self._low = low
        self._high = high
        self._kind = kind
        self._is_whole = is_whole
        if is_whole:
            values = int(high) - int(low) + 1
            self._width: int | float = -(-values // _BINS)
            bins = -(-values // int(self._width))
        else:
            # Halved first: the distance between the largest floats is no float.
            self._width = (high / 2 - low / 2) / _BINS * 2
            bins = _BINS if self._width else 1
        self._counts = [0] * bins

    def add(self, filled: "pl.Series") -> None:
        numbers = filled.to_physical().cast(float)
        places = (numbers / 2 - self._low / 2) / (self._width / 2 or 1)
        places = places.floor().clip(0, len(self._counts) - 1).cast(int)
        for place, count in places.value_counts().iter_rows():
            self._counts[place] += count

    def result(self) -> dict[str, object]:
        bins = []
        for place, count in enumerate(self._counts):
            start, end = self._edge(place), self._edge(place + 1)
            if self._is_whole:
                end -= 1
            bins.append({"from": self._label(start), "to": self._label(min(end, self._high)), "count": count})
        return {"bins": bins}

    def _edge(self, place: int) -> int | float:
        if self._is_whole:
            return self._low + place * self._width
        share = place / len(self._counts)
        return self._low * (1 - share) + self._high * share

    def _label(self, number: int | float) -> object:
        if self._kind is Kind.DATE:
            return (_EPOCH_DAY + timedelta(days=int(number))).isoformat()
        if self._kind is Kind.DATETIME:
            return (_EPOCH + timedelta(microseconds=int(number))).isoformat(timespec="seconds")
        return number
