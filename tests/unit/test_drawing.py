"""A histogram as a picture: safe on a page with a strict policy, readable without eyes."""

import re
from xml.etree import ElementTree

import pytest

from flaskapp.uploads.drawing import chart, sparkline

EVIL = {
    "name": '<img src=x onerror="alert(1)">\x08 & co',
    "histogram": {
        "bins": [
            {"from": "</title><script>", "to": "2", "count": 1},
            {"from": 2, "to": 4.123456789, "count": 0},
            {"from": 4.0, "to": 6.0, "count": 1_000_000},
        ]
    },
}


@pytest.mark.parametrize("draw", [sparkline, chart])
def test_what_stands_in_the_table_is_escaped(draw):
    drawn = draw(EVIL)
    names = {element.tag for element in ElementTree.fromstring(drawn).iter()}
    assert names <= {"svg", "title", "rect", "text"}
    assert "<script" not in drawn


@pytest.mark.parametrize("draw", [sparkline, chart])
def test_the_picture_needs_no_style_script_or_link(draw):
    assert not re.search(r"style|<script|href|\son\w+=|url\(", re.sub(r'"[^"]*"|>[^<]*<', "", draw(EVIL)))
    root = ElementTree.fromstring(draw(EVIL))
    assert all(bar.get("fill") == "currentColor" for bar in root.iter("rect"))
    assert not any("style" in element.attrib for element in root.iter())


@pytest.mark.parametrize("draw", [sparkline, chart])
def test_the_picture_has_a_name_for_those_who_do_not_see_it(draw):
    root = ElementTree.fromstring(draw(EVIL))
    assert root.get("role") == "img"
    assert "3 bins" in root.get("aria-label", "")
    assert root[0].tag == "title"


def test_a_single_row_among_a_million_still_shows():
    heights = [float(bar.get("height", 0)) for bar in ElementTree.fromstring(sparkline(EVIL)).iter("rect")]
    assert heights == [1.0, 0.0, 39.0]


@pytest.mark.parametrize("bins", [1, 7, 20])
def test_the_bars_stay_inside_the_picture(bins):
    column = {"name": "n", "histogram": {"bins": [{"from": i, "to": i, "count": i + 1} for i in range(bins)]}}
    for bar in ElementTree.fromstring(sparkline(column)).iter("rect"):
        assert 0 <= float(bar.get("x", -1)) <= float(bar.get("x", -1)) + float(bar.get("width", 0)) <= 160
        assert float(bar.get("y", -1)) + float(bar.get("height", 0)) <= 40


def test_a_column_without_a_histogram_has_no_picture():
    assert sparkline({"name": "city", "histogram": None}) == ""


def test_the_large_picture_names_the_ends_of_the_range():
    column = {"name": "d", "histogram": {"bins": [{"from": "2020-01-01", "to": "2020-01-31", "count": 4}]}}
    ends = [text.text for text in ElementTree.fromstring(chart(column)).iter("text")]
    assert ends == ["2020-01-01", "2020-01-31"]
