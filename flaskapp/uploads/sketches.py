"""Counting in bounded memory: how many values are different, and which are the most frequent.

Both are exact for as long as everything fits, and say so; past that they are close, and say that.
The memory is shared among the columns of a table, so that a thousand columns cost what ten do.
"""

from typing import TYPE_CHECKING

from .lazy_polars import polars

if TYPE_CHECKING:
    import polars as pl

_HASHES = 1_000_000
_COUNTERS = 100_000
#: Longer texts are prose, in which nothing repeats.
_LONGEST = 200


class Distinct:
    """The number of different values, from the k smallest of their 64-bit hashes.

    With fewer than k the count is exact; else the k-th smallest tells how densely they lie, within about 1 %.
    """

    def __init__(self, of_columns: int) -> None:
        self._most = max(1_000, min(10_000, _HASHES // of_columns))
        self._hashes: pl.Series | None = None

    def add(self, filled: "pl.Series") -> None:
        hashes = filled.hash()
        if self._hashes is not None:
            if not self.is_exact:
                hashes = hashes.filter(hashes < self._hashes[-1])
            hashes = self._hashes.append(hashes)
        self._hashes = hashes.unique().sort().head(self._most)

    @property
    def is_exact(self) -> bool:
        return self._hashes is None or len(self._hashes) < self._most

    def estimate(self) -> int:
        if self._hashes is None:
            return 0
        if self.is_exact:
            return len(self._hashes)
        return round((self._most - 1) * 2**64 / int(self._hashes[-1]))


class Frequent:
    """The most frequent texts, by counters of which the smallest give way (Misra and Gries).

    Once a counter gave way a count may be a little too low, but a text that stands out is never missed.
    """

    def __init__(self, of_columns: int) -> None:
        self._most = max(50, min(2_000, _COUNTERS // of_columns))
        self._counts: pl.DataFrame | None = None
        self.is_exact = True
        self._given_way = 0

    def add(self, filled: "pl.Series") -> None:
        pl = polars()
        texts = filled if filled.dtype == pl.String else filled.cast(pl.String)
        short = texts.filter(texts.str.len_bytes() <= _LONGEST)
        self.is_exact = self.is_exact and len(short) == len(texts)
        counts = short.alias("value").value_counts()
        if self._counts is not None:
            both = pl.concat([self._counts, counts])
            counts = both.group_by("value").agg(pl.col("count").sum())
        if len(counts) > self._most:
            counts = self._give_way(counts)
        self._counts = counts

    def _give_way(self, counts: "pl.DataFrame") -> "pl.DataFrame":
        self.is_exact = False
        next_best = int(counts["count"].top_k(self._most + 1)[-1])
        self._given_way += next_best
        return counts.filter(counts["count"] > next_best).with_columns(count=polars().col("count") - next_best)

    def top(self, most: int = 5) -> list[dict[str, object]]:
        if self._counts is None:
            return []
        # What stands below the number given away may be there by chance.
        sure = self._counts.filter(self._counts["count"] > self._given_way)
        best = sure.sort(["count", "value"], descending=[True, False]).head(most)
        return [{"value": value, "count": count} for value, count in best.iter_rows()]
