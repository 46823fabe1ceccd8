"""Which values of an answer cross a threshold."""

from typing import Any

import pytest

from flaskapp.query.alerts import is_crossed
from flaskapp.query.models import SavedQuery


@pytest.mark.parametrize(
    ("value", "sign", "limit", "crosses"),
    [
        (11, ">", 10, True),
        (10, ">", 10, False),
        ("12.5000000000000000001", ">", 10, True),
        ("9223372036854775807", ">", 10, True),
        ("Infinity", ">", 10, True),
        ("Infinity", "<", 10, False),
        ("-Infinity", "<", 10, True),
        (True, "=", 1, True),
        (False, ">=", 1, False),
        ("NaN", "<>", 10, False),
        ("many", ">", 10, False),
        ("2026-11-29", ">", 10, False),
        ([11], ">", 10, False),
        (None, "<", 10, False),
    ],
)
def test_a_number_in_any_row_crosses_the_threshold(value: Any, sign: str, limit: float, crosses: bool) -> None:
    saved = SavedQuery(alert_column="n", alert_sign=sign, alert_value=limit)
    assert is_crossed(saved, ["name", "n"], [["a", None], ["b", value]]) is crosses


def test_a_column_that_is_gone_crosses_nothing() -> None:
    saved = SavedQuery(alert_column="n", alert_sign=">", alert_value=0)
    assert not is_crossed(saved, ["m"], [[1]])
