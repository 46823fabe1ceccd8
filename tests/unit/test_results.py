"""How values of a loaded table are written on its page."""

import pytest

from flaskapp.uploads.results import cell, percent, short


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (2026, "2026"),
        (-5, "-5"),
        (48112, "48,112"),
        (2**63 - 1, "9,223,372,036,854,775,807"),
        (0.1 + 0.2, "0.3"),
        (360071.4, "360,071"),
        (4.93020218e11, "4.93e+11"),
        (True, "true"),
        ("x" * 300, "x" * 80),
    ],
)
def test_a_value_is_short_in_the_profile(value: object, shown: str):
    assert short(value) == shown


@pytest.mark.parametrize(("value", "shown"), [(0.1 + 0.2, "0.3"), (31.95376472, "31.95376472"), (False, "false")])
def test_a_cell_is_what_was_read(value: object, shown: str):
    assert cell(value) == shown


@pytest.mark.parametrize(
    ("count", "total", "shown"),
    [(0, 10, "0 %"), (1, 1000, "<1 %"), (999, 1000, "99 %"), (5, 5, "100 %"), (0, 0, "0 %")],
)
def test_a_share_is_never_rounded_to_none_or_all(count: int, total: int, shown: str):
    assert percent(count, total) == shown
