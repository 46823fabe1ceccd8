"""What a file must be to be read as a table, and which of its rows are good.

Files are written byte for byte: quotes that never end, NULs, old code pages, a megabyte in one cell.
Types and databases are tested elsewhere.
"""

import csv
import gzip
import io
import random
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from flaskapp.uploads import reading
from flaskapp.uploads.escaping import bad_rows_csv, csv_lines, escape_cell
from flaskapp.uploads.reading import BadRow, Chunk, rows
from flaskapp.uploads.refusals import UnreadableTable
from flaskapp.uploads.sniffing import check, sniff


@pytest.fixture
def file(tmp_path):
    def write(content: bytes | str) -> Path:
        path = tmp_path / "table"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


def read(path: Path) -> tuple[list[list[str]], list[BadRow]]:
    good, bad = [], []
    for chunk in rows(path, sniff(path)):
        good += chunk.rows
        bad += chunk.bad
    return good, bad


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "is empty"),
        (b"\n\n   \n", "nothing but blank lines"),
        (b"\x89PNG\r\n\x1a\n" + bytes(50), "PNG picture"),
        (b"PK\x03\x04" + bytes(50), "Excel workbook"),
        (b"%PDF-1.7\n", "PDF"),
        (gzip.compress(b"a,b\n1,2\n", mtime=0), "gzip"),
        (random.Random(1).randbytes(50_000), "binary file"),
        (bytes(5_000), "binary file"),
        (b"<!DOCTYPE html><html><body>a,b\n1,2</body></html>", "web page"),
        (b'[{"a": 1, "b": 2}]', "JSON"),
        (b"1,2,3\n4,5,6\n", "values, not names"),
        (b"Alice,30,2020-01-01\nBob,31,2020-02-02\n", "values, not names"),
        (b"name\nAlice\nBob\n", "Only one column"),
        (b"a,b,c\n", "no data"),
        (b"Sales of 2020\n\na,b,c\n1,2,3\n4,5,6\n", "above the header row"),
        (b"a,b\n1,2,3\n4,5,6\n", "one name"),
        (b'a,"b\n' + b"1,2\n" * 100, "quote that never ends"),
        (",".join(f"c{i}" for i in range(10_000)).encode() + b"\n1,2\n", "10,000 columns"),
        (b"x" * 1_000_000 + b",b\n1,2\n", "longer than"),
    ],
)
def test_what_is_no_table_is_refused_with_one_sentence(file, content, sentence):
    path = file(content)
    for judge in (check, sniff):
        with pytest.raises(UnreadableTable, match=sentence) as refusal:
            judge(path)
        assert str(refusal.value).endswith(".")
        assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    "content",
    [
        ",".join(f"c{i}" for i in range(10_000)) + "\n1,2\n",
        "a,b\n1," + "x" * 1_000_000 + "\n",
        'a,b\n1,"' + "x,1\n" * 300_000,
        "a,b\n" + '"\n' * 300_000,
        ",".join(["name"] * 999) + "\n" + ",".join(["x"] * 999),
        ("é" * 10 + ",") * 100_000,
    ],
    ids=["columns", "field", "quote", "quotes", "names", "line"],
)
def test_a_hostile_file_is_judged_in_a_moment(file, content):
    path = file(content)
    best = 9.0
    for _ in range(5):
        started = time.process_time()
        with suppress(UnreadableTable):
            check(path)
        best = min(best, time.process_time() - started)
    assert best < 0.05


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_delimiter_is_found_among_commas_in_the_cells(file, delimiter):
    table = io.StringIO()
    writer = csv.writer(table, delimiter=delimiter)
    writer.writerows([["place", "size", "note"]] + [["Berlin, DE", "1,5", "a; b | c"]] * 20)
    path = file(table.getvalue())
    assert sniff(path).delimiter == delimiter
    assert read(path)[0][0] == ["Berlin, DE", "1,5", "a; b | c"]


def test_excels_own_line_about_the_delimiter_is_obeyed(file):
    path = file("sep=;\r\na;b,c\r\n1;2,3\r\n")
    assert sniff(path).header == ("a", "b,c")
    assert read(path)[0] == [["1", "2,3"]]


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("utf-8", "città,größe\nFrançois,1\n"),
        ("utf-8-sig", "name,größe\nFrançois,1\n"),
        ("utf-16", "name,größe\nFrançois,1\n"),
        ("utf-16-le", "name,größe\nFrançois,1\n" * 5),
        ("cp1252", "name,größe\nFrançois,1\nMüller,2\n"),
        ("cp1250", "miasto,liczba\nŁódź,1\nŚwiętokrzyskie,2\nGdańsk,3\n"),
        ("cp1251", "имя,город\nИван,Москва\nПётр,Казань\n"),
        ("cp932", "名前,都市\n会社名,東京\n株式会社,大阪\n"),
    ],
)
def test_text_is_read_in_the_encoding_that_it_was_saved_in(file, encoding, text):
    path = file(text.encode(encoding))
    check(path)
    assert [list(sniff(path).header), *read(path)[0]] == list(csv.reader(io.StringIO(text)))


def test_the_first_accent_may_come_late(file):
    path = file(b"name,n\n" + b"plain,1\n" * 100_000 + "Köln,2\n".encode("cp1252"))
    assert read(path)[0][-1] == ["Köln", "2"]


def test_a_few_damaged_bytes_cost_their_rows_only(file):
    good, bad = read(file(b"name,n\n" + "Köln,1\n".encode() * 50 + b"K\xffln,2\nBonn,3\n"))
    assert len(good) == 51
    assert [(row.number, row.reason) for row in bad] == [(52, "it contains bytes that are not UTF-8 text")]


def test_blank_and_repeated_names_are_mended(file):
    header = sniff(file('name,Name,,"a\nb",row_number,ctid,naïve,naive\n' + "x," * 7 + "x\n")).header
    assert header == ("name", "Name_2", "column_3", "a b", "row_number_2", "ctid_2", "naïve", "naive_2")


def test_every_name_fits_every_database(file):
    names = sniff(file("ü" * 400 + "," + "ü" * 400 + ",😀\nx,x,x\n")).header
    assert len(set(names)) == 3
    assert all(0 < len(name.encode()) <= 60 and max(name) <= "\uffff" for name in names)


def test_years_may_be_names(file):
    assert sniff(file("country,2019,2020,2021\nFR,1,2,3\nDE,4,5,6\n")).header[1] == "2019"


def test_a_bad_row_tells_its_line_reason_and_text(file):
    good, bad = read(file('a,b,c\n1,2,3\n"x\ny",2,3\n\n4,5\n,,\n6,7,8,9\n7,8,9\n'))
    assert good == [["1", "2", "3"], ["x\ny", "2", "3"], ["7", "8", "9"]]
    assert bad == [
        BadRow(6, "it has 2 cells, the header has 3", "4,5"),
        BadRow(8, "it has 4 cells, the header has 3", "6,7,8,9"),
    ]


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
def test_every_line_ending_counts_lines_alike(file, ending):
    _, bad = read(file(ending.join(["a,b", "1,2", '"x', 'y",2', "3", "4,5", ""])))
    assert [row.number for row in bad] == [5]


@pytest.mark.parametrize("quoted", ['"{}"', "{}"])
def test_a_megabyte_in_one_cell_is_one_bad_row(file, quoted):
    good, bad = read(file("a,b\n1," + quoted.format("x" * 1_000_000) + "\n2,3\n"))
    assert good == [["2", "3"]]
    assert [(row.number, row.reason) for row in bad] == [(2, "the row is longer than 500,000 characters")]
    assert len(bad[0].raw) <= 1_000


@pytest.mark.parametrize("rows_after", [3, 200_000])
def test_a_quote_that_never_ends_is_one_bad_row(file, rows_after):
    good, bad = read(file('a,b\n0,1\n1,"x\n' + "2,3\n" * rows_after))
    assert len(good) == 1 + rows_after
    assert [(row.number, row.reason) for row in bad] == [(3, "the quote that opens on line 3 is not closed")]


def test_a_quote_that_ends_in_a_later_row_does_not_swallow_the_rows_between(file):
    good, bad = read(file('a,b,c\n1,"x,2\n3,4,5\n6,7,8\n9,"y",0\n'))
    assert good == [["3", "4", "5"], ["6", "7", "8"], ["9", "y", "0"]]
    assert [row.number for row in bad] == [2]


def test_a_nul_is_one_bad_row(file):
    good, bad = read(file("a,b\n1,2\n3,\x004\n5,6\n"))
    assert len(good) == 2
    assert [(row.number, row.reason, row.raw) for row in bad] == [(3, "it contains a NUL byte", "3,\\04")]


def joined(chunks: list[Chunk]) -> tuple[list[object], list[BadRow]]:
    good = [row for chunk in chunks for row in zip(chunk.numbers, chunk.rows, strict=True)]
    return good, [row for chunk in chunks for row in chunk.bad]


def test_where_the_blocks_end_changes_nothing(file, monkeypatch):
    chance = random.Random(7)
    pieces = ["x", "1", '"', '""', ",", "\n", "\r\n", '"a\nb"', "é", "x,y\n", "1,2\n"]
    for _ in range(150):
        path = file("a,b\n1,2\n3,4\n" + "".join(chance.choices(pieces, k=40)) + chance.choice(["", "\0"]))
        dialect = sniff(path)
        whole = list(rows(path, dialect))
        monkeypatch.setattr(reading, "_BLOCK", chance.randint(1, 12))
        parts = list(rows(path, dialect))
        monkeypatch.undo()
        assert joined(parts) == joined(whole)


def test_looking_at_a_file_does_not_import_polars(file):
    code = (
        "import sys; from pathlib import Path;"
        "from flaskapp.uploads import sniffing, reading, loading, drawing;"
        "p = Path(sys.argv[1]); sniffing.check(p); list(reading.rows(p, sniffing.sniff(p)));"
        "assert 'polars' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, file("a,b\n1,x\n")], check=True)


@pytest.mark.parametrize("cell", ["=1+1", "+cmd|x", "-2+3", "@SUM(A1)", "\tx", "\rx", " =1", "＝1"])
def test_a_formula_becomes_text(cell):
    assert escape_cell(cell) == "'" + cell


@pytest.mark.parametrize("cell", ["-5", "+1.5e3", "-.5", -5, 2.5, None, "a=b", "", "x-1"])
def test_a_number_or_plain_text_stays_what_it_is(cell):
    assert escape_cell(cell) == cell


def test_bad_rows_are_written_as_csv_that_reads_back():
    text = "".join(bad_rows_csv([(7, "it has 1 cell", '=x,"y"\nz'), (9, "column a: '-' is not a number", "-5")]))
    lines = list(csv.reader(io.StringIO(text.removeprefix("\ufeff"))))
    assert lines[1:] == [["7", "it has 1 cell", '\'=x,"y"\nz'], ["9", "column a: '-' is not a number", "-5"]]


def test_a_header_can_be_a_formula_too():
    assert "'=evil" in "".join(csv_lines(["=evil"], []))
