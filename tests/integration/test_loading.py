"""A table on its way from a file into a database: every good row once, every bad row listed.

On a SQLite file with the application's settings; other processes must be able to write meanwhile.
Which rows are good, and of what kind, is tested with the columns.
"""

import json
import subprocess
import sys
from datetime import date, datetime
from importlib.resources import files
from pathlib import Path

import pytest
import sqlalchemy as sa

from flaskapp.uploads.columns import Stopped, survey
from flaskapp.uploads.loading import BAD_ROWS_LISTED, LoadReport, load
from flaskapp.uploads.sniffing import sniff
from flaskapp.uploads.tables import bad_rows_table, drop, rows_table

VEGA = Path(str(files("vega_datasets"))) / "_data"


def sqlite_engine(path: Path) -> sa.Engine:
    engine = sa.create_engine(sa.URL.create("sqlite", database=str(path)))

    @sa.event.listens_for(engine, "connect")
    def settings(connection, _record):
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA busy_timeout = 5000")

    return engine


# "postgresql" may join as soon as the suite has a fixture of that name: every test here passes on it.
@pytest.fixture(params=["sqlite"])
def engine(request, tmp_path):
    if request.param == "sqlite":
        engine = sqlite_engine(tmp_path / "app.db")
    else:
        engine = sa.create_engine(request.getfixturevalue(request.param).create_database("loading"))
    drop(engine, "upload_1")
    yield engine
    engine.dispose()


@pytest.fixture
def file(tmp_path):
    def write(text: str) -> Path:
        path = tmp_path / "table.csv"
        path.write_text(text)
        return path

    return write


def load_file(path: Path, engine: sa.Engine, **asked) -> LoadReport:
    dialect = sniff(path)
    return load(path, dialect, survey(path, dialect).columns, engine, "upload_1", **asked)


def loaded(path: Path, engine: sa.Engine) -> list[tuple]:
    """The rows as SQLAlchemy reads them with the types that the columns were given."""
    table = rows_table("upload_1", survey(path, sniff(path)).columns)
    with engine.connect() as connection:
        return [tuple(row) for row in connection.execute(sa.select(table).order_by(table.c.row_number))]


def bad_rows(engine: sa.Engine) -> list[tuple]:
    table = bad_rows_table("upload_1")
    with engine.connect() as connection:
        found = connection.execute(sa.select(table.c.row_number, table.c.reason, table.c.raw).order_by(table.c.id))
        return [tuple(row) for row in found]


def test_values_come_back_with_their_types(engine, file):
    path = file("n,x,ok,day,at,name\n1,2.5,true,2020-01-31,2020-01-31 10:30:00.5,Köln\n,,,,,-\n2,1,FALSE,,,'\n")
    report = load_file(path, engine)
    assert (report.rows, report.bad_rows) == (3, 0)
    assert loaded(path, engine) == [
        (2, 1, 2.5, True, date(2020, 1, 31), datetime(2020, 1, 31, 10, 30, 0, 500000), "Köln"),
        (3, None, None, None, None, None, "-"),
        (4, 2, 1.0, False, None, None, "'"),
    ]


def test_bad_rows_are_listed_and_good_ones_kept(engine, file):
    good = "".join(f"{n},x\n" for n in range(100))
    path = file("n,name\n" + good + 'five,x\n1,2,3\n7,"multi\nline"\n3\n')
    report = load_file(path, engine)
    assert (report.rows, report.bad_rows, report.bad_rows_listed) == (101, 3, 3)
    assert bad_rows(engine) == [
        (102, "column n: 'five' is not a whole number", "five,x"),
        (103, "it has 3 cells, the header has 2", "1,2,3"),
        (106, "it has 1 cell, the header has 2", "3"),
    ]
    assert loaded(path, engine)[-1] == (104, 7, "multi\nline")


def test_no_more_bad_rows_are_listed_than_anyone_reads(engine, file):
    report = load_file(file("a,b\n1,x\n" + "1\n" * (BAD_ROWS_LISTED + 500)), engine)
    assert (report.rows, report.bad_rows) == (1, BAD_ROWS_LISTED + 500)
    assert len(bad_rows(engine)) == report.bad_rows_listed == BAD_ROWS_LISTED


def test_hostile_names_and_cells_are_only_names_and_cells(engine, file):
    path = file(
        'id,"a"" b; drop table x","%s %(a)s",:c,ctid,rowid,ROW_NUMBER,😀\n'
        "1,'); drop table upload_1; --,%s,:c,\\N,\\.,{},=1+1\n"
        '2,"x\n\\.\ny",%,?,a\\tb,"""",null,@\n'
    )
    load_file(path, engine)
    first, second = loaded(path, engine)
    assert first == (2, 1, "'); drop table upload_1; --", "%s", ":c", "\\N", "\\.", "{}", "=1+1")
    assert second == (3, 2, "x\n\\.\ny", "%", "?", "a\\tb", '"', "null", "@")


def test_loading_again_replaces_what_a_crash_left(engine, file):
    path = file("a,b\n" + "1,a few words\n" * 60_000)
    stop = iter([False, True])
    with pytest.raises(Stopped):
        load_file(path, engine, should_stop=lambda: next(stop))
    assert 0 < len(loaded(path, engine)) < 60_000
    assert load_file(path, engine).rows == len(loaded(path, engine)) == 60_000


def test_dropping_removes_both_tables_and_may_be_repeated(engine, file):
    load_file(file("a,b\n" + "1,x\n" * 50_000), engine)
    drop(engine, "upload_1")
    drop(engine, "upload_1")
    assert sa.inspect(engine).get_table_names() == []


def test_progress_counts_up_to_all_rows(engine, file):
    seen: list[int] = []
    load_file(file("a,b\n" + "1,x\n" * 50_000 + "1\n"), engine, on_progress=seen.append)
    assert seen == sorted(seen)
    assert seen[-1] == 50_001


@pytest.mark.parametrize("path", sorted(VEGA.glob("*.csv")), ids=lambda path: path.stem)
def test_published_tables_are_loaded_whole(engine, path):
    report = load_file(path, engine)
    assert report.bad_rows == 0
    assert len(loaded(path, engine)) == report.rows > 50
    json.dumps(report.profile, allow_nan=False)
    assert all(column["filled"] + column["empty"] == report.rows for column in report.profile)


def test_airports_have_the_profile_that_they_should(engine):
    profile = {column["name"]: column for column in load_file(VEGA / "airports.csv", engine).profile}
    assert (profile["iata"]["distinct"], profile["iata"]["distinct_is_exact"]) == (3376, True)
    assert profile["state"]["most_frequent"][0] == {"value": "AK", "count": 263}
    assert profile["latitude"]["mean"] == pytest.approx(40.0365, abs=0.001)
    assert sum(bin_["count"] for bin_ in profile["latitude"]["histogram"]["bins"]) == 3376


WRITE_UNTIL_STDIN_ENDS = """
import select, sqlite3, sys, time
base = sqlite3.connect(sys.argv[1], timeout=5, isolation_level=None)
base.execute("PRAGMA synchronous = NORMAL")
base.execute("CREATE TABLE job (id INTEGER PRIMARY KEY, text)")
waits = []
print("ready", flush=True)
while not select.select([sys.stdin], [], [], 0.005)[0]:
    started = time.monotonic()
    base.execute("BEGIN IMMEDIATE")
    base.execute("INSERT INTO job (text) VALUES (?)", ("x" * 200,))
    base.execute("COMMIT")
    waits.append(time.monotonic() - started)
waits.sort()
print(len(waits), waits[int(len(waits) * 0.99)])
"""


def test_others_write_quickly_while_a_large_table_loads_and_is_dropped(tmp_path, file):
    engine = sqlite_engine(tmp_path / "app.db")
    engine.connect().close()
    path = file("id,name,price,day\n" + "".join(f"{n},name {n},{n}.5,2020-01-31\n" for n in range(200_000)))
    command = [sys.executable, "-c", WRITE_UNTIL_STDIN_ENDS, str(tmp_path / "app.db")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "ready\n"
        load_file(path, engine)
        drop(engine, "upload_1")
        told, _ = other.communicate("stop\n", timeout=30)
    writes, slowest_but_one_in_a_hundred = told.split()
    assert int(writes) > 100
    assert float(slowest_but_one_in_a_hundred) < 0.25


LOAD_AND_TELL_MEMORY = """
import re, sys
from pathlib import Path
import sqlalchemy as sa
from flaskapp.uploads import columns, loading, sniffing
path, engine = Path(sys.argv[1]), sa.create_engine("sqlite:///" + sys.argv[2])
dialect = sniffing.sniff(path)
report = loading.load(path, dialect, columns.survey(path, dialect).columns, engine, "t")
# getrusage would tell the peak of the process that started this one, if that was higher.
print(report.rows, re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
"""


@pytest.mark.parametrize(("rows", "columns"), [(120_000, 5), (300, 400), (40, 1_000)])
def test_memory_stays_small_whatever_the_shape_of_the_table(tmp_path, file, rows, columns):
    header = ",".join(f"column {number}" for number in range(columns))
    path = file(header + "\n" + "".join(f"{n}" + f",cell {n}" * (columns - 1) + "\n" for n in range(rows)))
    command = [sys.executable, "-c", LOAD_AND_TELL_MEMORY, str(path), str(tmp_path / "memory.db")]
    told = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    assert int(told[0]) == rows
    assert int(told[1]) < 200 * 1024
