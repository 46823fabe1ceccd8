"""Which kind each column of a file gets, and which rows are refused because of it.

Real files come from the vega-datasets package; the rest is written here, one column at a time.
"""

from collections.abc import Callable, Iterable
from datetime import date, datetime
from importlib.resources import files
from pathlib import Path

import pytest

from flaskapp.uploads.casting import typed
from flaskapp.uploads.columns import Column, Stopped, Survey, survey
from flaskapp.uploads.kinds import Kind
from flaskapp.uploads.reading import BadRow, rows
from flaskapp.uploads.refusals import UnreadableTable
from flaskapp.uploads.sniffing import check, sniff

VEGA = Path(str(files("vega_datasets"))) / "_data"
Write = Callable[..., Path]


@pytest.fixture
def file(tmp_path) -> Write:
    def write(cells: Iterable[str], delimiter: str = ",") -> Path:
        path = tmp_path / "table.csv"
        lines = [f"x{delimiter}{cell}\n" for cell in cells]
        path.write_text(f"key{delimiter}value\n" + "".join(lines))
        return path

    return write


def column(path: Path) -> Column:
    return survey(path, sniff(path)).columns[1]


def cast(path: Path) -> tuple[list[object], list[BadRow]]:
    dialect = sniff(path)
    columns = survey(path, dialect).columns
    good, bad = [], []
    for chunk in rows(path, dialect):
        frame, refused = typed(chunk, columns, dialect)
        good += frame["c1"].to_list() if len(frame) else []
        bad += refused
    return good, bad


@pytest.mark.parametrize(
    ("cells", "kind", "values"),
    [
        (["1", "-2", " 3 ", ""], Kind.INTEGER, [1, -2, 3, None]),
        (["1", "2.5", "1e3", "-.5"], Kind.DECIMAL, [1.0, 2.5, 1000.0, -0.5]),
        (["true", "FALSE", "True"], Kind.BOOLEAN, [True, False, True]),
        (["2020-01-31", "NULL"], Kind.DATE, [date(2020, 1, 31), None]),
        (["2020/01/31"], Kind.DATE, [date(2020, 1, 31)]),
        (["31.01.2020"], Kind.DATE, [date(2020, 1, 31)]),
        (["Jan 31 2020", '"January 31, 2020"'], Kind.DATE, [date(2020, 1, 31)] * 2),
        (["31-Jan-2020", "1 Feb 2020"], Kind.DATE, [date(2020, 1, 31), date(2020, 2, 1)]),
        (
            ["2020-01-31", "2020-01-31 10:30", "2020-01-31T10:30:00.5", "2020-01-31T12:30:00+02:00"],
            Kind.DATETIME,
            [datetime(2020, 1, 31), *[datetime(2020, 1, 31, 10, 30, second) for second in (0, 0, 0)]],
        ),
        (["2020/01/31 10:30:05"], Kind.DATETIME, [datetime(2020, 1, 31, 10, 30, 5)]),
        (["a", "NA", ""], Kind.TEXT, ["a", "NA", None]),
        (["", ""], Kind.TEXT, [None, None]),
    ],
)
def test_each_kind_is_known_by_its_cells(file, cells, kind, values):
    path = file(cells)
    good, bad = cast(path)
    assert (column(path).kind, bad) == (kind, [])
    assert [v.replace(microsecond=0) if isinstance(v, datetime) else v for v in good] == values


@pytest.mark.parametrize("empty", ["", "NA", "N/A", "null", "NULL", "None", "-", "nan", "  "])
def test_the_usual_words_for_nothing_are_empty_among_numbers(file, empty):
    assert cast(file(["1", empty, "2"])) == ([1, None, 2], [])


@pytest.mark.parametrize(
    "code", ["00123", "-01", "+4930123456", "9" * 19, "1" * 5_000, "1e400", "inf", "0x1F", "1_000", "20%"]
)
def test_what_a_number_would_spoil_stays_text(file, code):
    assert column(file([code, "5", "7"])).kind is Kind.TEXT
    assert cast(file([code, "5", "7"]))[0] == [code, "5", "7"]


@pytest.mark.parametrize("cell", ["01/02/2020", "2020-13-01", "1.2.20", "yes", "20200230x"])
def test_what_could_mean_two_things_stays_text(file, cell):
    assert column(file([cell] * 3)).kind is Kind.TEXT


def test_a_decimal_comma_is_read_where_commas_do_not_part_cells(file):
    assert cast(file(["1,5", "-2,25", "3"], delimiter=";")) == ([1.5, -2.25, 3.0], [])


def test_one_odd_cell_among_many_is_a_bad_row(file):
    path = file([str(n) for n in range(5_000)] + ["n.a."] + [str(n) for n in range(20_000)])
    good, bad = cast(path)
    assert len(good) == 25_000
    assert bad == [BadRow(5_002, "column value: 'n.a.' is not a whole number", "x,n.a.")]


def test_one_odd_cell_in_a_small_table_is_a_bad_row_too(file):
    _, bad = cast(file([*(f"2020-01-{day:02}" for day in range(1, 15)), "soon"]))
    assert [row.reason for row in bad] == ["column value: 'soon' is not a date"]


def test_many_odd_cells_make_a_column_of_text(file):
    assert column(file(["1"] * 97 + ["a", "b", "c"])).kind is Kind.TEXT


def test_a_late_decimal_makes_a_column_of_decimals(file):
    path = file(["1"] * 30_000 + ["0.5"])
    assert column(path) == Column("value", Kind.DECIMAL, "decimal", 0.5, 1.0)
    assert cast(path)[1] == []


def test_a_late_code_makes_a_column_of_text(file):
    assert column(file(["1"] * 30_000 + ["007"])).kind is Kind.TEXT


def test_a_table_without_one_good_row_is_refused(file, tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("a,b\n" + "1,2\n")
    dialect = sniff(path)
    path.write_text("a,b\n1,2,3\n")
    with pytest.raises(UnreadableTable, match="line 2: it has 3 cells"):
        survey(path, dialect)


def test_a_survey_tells_its_progress_and_stops_when_asked(file):
    path, seen = file(["1"] * 60_000), []
    assert survey(path, sniff(path), on_progress=seen.append).total == 60_000
    assert seen == sorted(seen)
    assert seen[-1] == 60_000
    with pytest.raises(Stopped):
        survey(path, sniff(path), should_stop=lambda: True)


EXPECTED = {
    "airports.csv": (3376, ["text"] * 5 + ["decimal"] * 2),
    "iowa-electricity.csv": (51, ["date", "text", "integer"]),
    "la-riots.csv": (
        63,
        ["text"] * 2 + ["integer"] + ["text"] * 2 + ["date"] + ["text"] * 3 + ["decimal"] * 2,
    ),
    "seattle-temps.csv": (8759, ["datetime", "decimal"]),
    "seattle-weather.csv": (1461, ["date"] + ["decimal"] * 4 + ["text"]),
    "sf-temps.csv": (8759, ["decimal", "datetime"]),
    "stocks.csv": (560, ["text", "date", "decimal"]),
    "us-employment.csv": (120, None),
}


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_published_tables_are_read_whole(name):
    check(VEGA / name)
    found: Survey = survey(VEGA / name, sniff(VEGA / name))
    lines, kinds = EXPECTED[name]
    assert (found.rows, found.bad_rows) == (lines, 0)
    assert kinds is None or [str(column.kind) for column in found.columns] == kinds


def test_every_published_table_is_in_the_list():
    assert {path.name for path in VEGA.glob("*.csv")} == set(EXPECTED)
