"""An answer as a picture that travels."""

import functools

import pytest
import resvg_py

from flaskapp.query import charts
from flaskapp.query.charts import Choice


def test_a_mailed_chart_has_letters_on_a_machine_without_a_font(monkeypatch: pytest.MonkeyPatch):
    without = functools.partial(resvg_py.svg_to_bytes, skip_system_fonts=True)
    monkeypatch.setattr(resvg_py, "svg_to_bytes", without)
    drawn = [charts.standing_alone(Choice("bar", 0, 1), ["city", "n"], [[name, 1], ["x", 2]]) for name in "ab"]
    first, second = map(charts.as_png, drawn)
    assert first.startswith(b"\x89PNG")
    # They differ in one letter.
    assert first != second


@pytest.mark.parametrize("kind", charts.KINDS)
def test_a_mailed_chart_fetches_and_runs_nothing(kind: str):
    hostile = '"><script>alert(1)</script><image href="http://x.example/y.png"/>\x00\x01\ufffe'
    rows = [[hostile, 1], ["b", 4], ["c", 2]]
    svg = charts.standing_alone(Choice(kind, 1 if kind == "scatter" else 0, 1), [hostile, hostile], rows)
    assert "<script" not in svg
    assert "<image" not in svg
    assert charts.as_png(svg).startswith(b"\x89PNG")
