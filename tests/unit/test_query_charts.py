"""Charts of whatever a database answers: a picture, or none, and never an accident."""

import random
from typing import Any
from xml.etree import ElementTree

import pytest

from flaskapp.query import charts
from flaskapp.query.charts import Choice
from flaskapp.query.showing import numeric_columns

CELLS: list[Any] = [None, True, 0, 1, -7, 2.5, 1e308, -1e308, 1e18, 1e-80, 5e-324, 10**40, -3, 1000, 1000.0001]
CELLS += ["NaN", "-nan", "-Infinity", "-9" * 40, "1e308", "2026-11-24", "", "x" * 90_000, [1, {"a": None}]]
NAMES = ["n", "", "\x00\x0b", "\uffff", "</svg><script>", "\x1b[31m", "name " * 900]


@pytest.mark.parametrize("kind", charts.KINDS)
def test_every_answer_is_drawn_or_not(kind: str) -> None:
    dice = random.Random(7)
    for _ in range(60):
        names = dice.choices(NAMES, k=2)
        rows = [dice.choices([*CELLS, *NAMES], k=2) for _ in range(dice.randrange(7))]
        for x, y in ((0, 1), (1, 0), (1, 1)):
            for drawing in (charts.drawn, charts.standing_alone):
                picture = drawing(Choice(kind, x, y), names, rows)
                assert not picture or ElementTree.fromstring(picture).tag.endswith("svg")
        charts.suggested(names, rows)


def test_what_is_no_number_is_left_out() -> None:
    rows = [["a", None], ["b", 3], ["c", -4], ["d", "-nan"], ["e", "NaN"], ["f", "9" * 30]]
    assert charts.drawn(Choice("bar", 0, 1), ["name", "n"], rows).count('class="bar"') == 3


def test_averages_with_all_their_digits_are_drawn_and_texts_with_digits_are_not() -> None:
    averages = [["a", "173.3333333333333333"], ["b", 1.5], ["c", None], ["d", "-0.00012345678901234567"]]
    assert numeric_columns(["task", "avg"], averages) == {1}
    assert charts.suggested(["task", "avg"], averages) == Choice("bar", 0, 1)
    for text in ("12.50", "4111111111111111", "192.168.100.200", "2026-11-29", "1.5e3", "NaN", "0" * 100_000):
        assert charts.suggested(["task", "what"], [["a", text], ["b", text]]) is None


def test_spans_that_no_scale_holds_are_not_drawn() -> None:
    assert charts.drawn(Choice("bar", 0, 1), ["name", "n"], [["a", 1e308], ["b", -1e308]]) == ""
    assert charts.drawn(Choice("scatter", 0, 1), ["x", "y"], [[9e59, 1]]) == ""


@pytest.mark.parametrize(
    ("kind", "rows", "words"),
    [("bar", 60, ""), ("bar", 61, "Drawn are the first 60 of 61 rows."), ("scatter", 1501, "first 1,500 of 1,501")],
)
def test_a_picture_that_holds_not_all_rows_says_so(kind: str, rows: int, words: str) -> None:
    note = charts.note(Choice(kind, 0, 1), [[n, n] for n in range(rows)] + [[None, None]])
    assert words in note
    assert bool(words) == bool(note)


def test_a_distribution_is_of_all_rows() -> None:
    assert charts.note(Choice("histogram", 0, 0), [[n] for n in range(9_000)]) == ""


@pytest.mark.parametrize("kind", ["bar", "line"])
def test_of_many_labels_a_few_are_written_also_where_they_repeat(kind: str) -> None:
    rows = [[f"2026-01-{1 + n // 4:02}", n] for n in range(60)]
    picture = ElementTree.fromstring(charts.drawn(Choice(kind, 0, 1), ["date", "n"], rows))
    written = [text.text for text in picture.iter("{http://www.w3.org/2000/svg}text") if text.text]
    assert 6 <= sum(text.startswith("2026-01-") for text in written) <= 12


def test_the_number_of_a_row_is_drawn_only_where_nothing_else_can_be() -> None:
    rows = [[2, "clear", 7.5], [3, "rain", 9.1]]
    assert charts.suggested(["row_number", "sky", "delay"], rows) == Choice("bar", 1, 2)
    assert charts.suggested(["row_number", "sky"], [row[:2] for row in rows]) == Choice("bar", 1, 0)


def test_the_figures_beside_a_chart_are_read_like_those_of_the_page_and_have_room() -> None:
    picture = ElementTree.fromstring(charts.drawn(Choice("bar", 0, 1), ["sky", "n"], [["a", 622_000_000], ["b", 1]]))
    texts = {text.text: text for text in picture.iter("{http://www.w3.org/2000/svg}text")}
    assert "600,000,000" in texts
    plot = next(each for each in picture.iter() if "plot" in each.get("class", "").split())
    room = float(plot.get("transform", "").removeprefix("translate(").split(",")[0])
    assert room > len("600,000,000") * 8
