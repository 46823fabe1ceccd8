"""What a profile says of a column: exact while it fits into memory, honest where it does not.

Columns are made as polars series; how text becomes values is tested with the columns.
"""

import json
from datetime import date, datetime, timedelta

import polars as pl
import pytest

from flaskapp.uploads.columns import Column
from flaskapp.uploads.kinds import Kind
from flaskapp.uploads.profile import Profile


def profile(kind: Kind, *chunks: list[object], smallest=None, largest=None) -> dict:
    values = [value for chunk in chunks for value in chunk if value is not None]
    if kind not in (Kind.TEXT, Kind.BOOLEAN) and values:
        smallest = min(values) if smallest is None else smallest
        largest = max(values) if largest is None else largest
    whole = Profile([Column("c", kind, "", smallest, largest)])
    for chunk in chunks:
        whole.add([pl.Series(chunk)])
    [found] = whole.result()
    json.dumps(found, allow_nan=False)
    return found


def counts(found: dict) -> list[int]:
    return [bin_["count"] for bin_ in found["histogram"]["bins"]]


def test_numbers_have_a_range_a_mean_and_a_distribution():
    found = profile(Kind.INTEGER, [1, 2, 2, None], [5, None])
    assert (found["type"], found["filled"], found["empty"]) == ("integer", 4, 2)
    assert (found["smallest"], found["largest"], found["mean"]) == (1, 5, 2.5)
    assert (found["distinct"], found["distinct_is_exact"]) == (3, True)
    assert found["histogram"]["bins"][1] == {"from": 2, "to": 2, "count": 2}
    assert counts(found) == [1, 2, 0, 0, 1]


def test_a_wide_range_of_whole_numbers_has_bins_of_equal_width():
    found = profile(Kind.INTEGER, list(range(1, 1001)))
    assert counts(found) == [50] * 20
    assert found["histogram"]["bins"][-1] == {"from": 951, "to": 1000, "count": 50}


def test_decimals_fall_into_twenty_bins():
    found = profile(Kind.DECIMAL, [0.0, 0.5, 9.99, 10.0])
    assert (len(counts(found)), sum(counts(found)), counts(found)[0], counts(found)[-1]) == (20, 4, 1, 2)


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (Kind.INTEGER, [-(2**63), 0, 2**63 - 1]),
        (Kind.DECIMAL, [-1.7e308, 0.0, 1.7e308]),
        (Kind.DECIMAL, [5e-324, 0.0]),
        (Kind.DECIMAL, [2.5, 2.5]),
        (Kind.DATE, [date(1000, 1, 1), date(9999, 12, 31)]),
        (Kind.DATETIME, [datetime(1000, 1, 1), datetime(9999, 12, 31, 23, 59, 59, 999999)]),
    ],
)
def test_the_ends_of_the_range_are_counted(kind, values):
    assert sum(counts(profile(kind, values))) == len(values)


def test_dates_have_a_distribution_in_iso_text():
    found = profile(Kind.DATE, [date(2020, 1, 1) + timedelta(days=day) for day in range(40)])
    assert counts(found) == [2] * 20
    assert found["histogram"]["bins"][0] == {"from": "2020-01-01", "to": "2020-01-02", "count": 2}
    assert (found["smallest"], found["mean"]) == ("2020-01-01", None)


def test_text_has_its_most_frequent_values():
    found = profile(Kind.TEXT, ["b", "a", "a", None], ["a", "b", "c"])
    assert found["most_frequent"][:2] == [{"value": "a", "count": 3}, {"value": "b", "count": 2}]
    assert (found["most_frequent_is_exact"], found["histogram"]) == (True, None)
    assert (found["smallest"], found["largest"], found["empty"]) == ("a", "c", 1)


def test_a_column_without_values_has_a_profile():
    found = profile(Kind.TEXT, [None, None])
    assert (found["filled"], found["distinct"], found["smallest"], found["most_frequent"]) == (0, 0, None, [])


def test_booleans_are_counted():
    found = profile(Kind.BOOLEAN, [True, False, True, None])
    assert found["most_frequent"] == [{"value": "true", "count": 2}, {"value": "false", "count": 1}]


def test_many_different_values_are_counted_within_three_percent_and_the_profile_says_so():
    chunks = [[f"name {n}" for n in range(start, start + 20_000)] for start in range(0, 200_000, 20_000)]
    found = profile(Kind.TEXT, *chunks, *chunks)
    assert not found["distinct_is_exact"]
    assert found["distinct"] == pytest.approx(200_000, rel=0.03)


def test_a_frequent_value_is_found_among_many_rare_ones():
    chunks = [["often"] * 500 + [f"{chunk} {n}" for n in range(9_500)] for chunk in range(10)]
    found = profile(Kind.TEXT, *chunks)
    assert not found["most_frequent_is_exact"]
    [best] = found["most_frequent"]
    assert best["value"] == "often"
    assert best["count"] == pytest.approx(5_000, rel=0.02)


def test_a_long_text_is_clipped_in_the_profile():
    found = profile(Kind.TEXT, ["x" * 100_000])
    assert len(found["largest"]) == 200
    assert (found["distinct"], found["most_frequent"]) == (1, [])
