"""Tables that come in as files: what is refused and in which words, what is kept, who sees it.

Every refusal is a sentence and leaves nothing: no file, no row, no job. On SQLite and PostgreSQL.
"""

import csv
import errno
import html
import io
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from flask.testing import FlaskClient
from vega_datasets import data as datasets
from werkzeug.test import TestResponse

from flaskapp.api.models import IdempotencyKey
from flaskapp.extensions import db
from flaskapp.jobs.models import Job, JobState
from flaskapp.uploads import tables
from flaskapp.uploads.models import Upload
from flaskapp.uploads.storage import IncomingFile, Storage
from tests.helpers import Bench, make_app, make_current
from tests.integration.doors_fixtures import Doors, Script, csrf_of

LIMIT = 1_000_000
TABLE = b"name,amount\nada,1\nbob,2\n"


class Site(Doors):
    """The doors, and a look behind them."""

    def __init__(self, bench: Bench) -> None:
        super().__init__(bench.app)
        self.bench = bench
        self.storage: Storage = bench.app.extensions["storage"]

    def files(self) -> list[Path]:
        return [*self.storage.incoming.iterdir(), *self.storage.kept.iterdir()]

    def uploads(self) -> list[Upload]:
        with self.bench.session() as session:
            return list(session.scalars(sa.select(Upload)))

    def only_upload(self) -> Upload:
        (upload,) = self.uploads()
        return upload

    def jobs(self) -> list[Job]:
        return [job for job in self.bench.jobs() if job.task == "uploads.load_table"]

    def load(self, content: bytes, name: str = "table.csv", by: str = "ada") -> Upload:
        """Hand it over, let the worker's code run, and look."""
        answer = post(self.signed_in(by), content, name)
        assert answer.status_code == 303, answer.text
        self.bench.run()
        job_id = answer.location.rsplit("/", 1)[1]
        (upload,) = [upload for upload in self.uploads() if upload.job_id == job_id]
        return upload

    def tables(self) -> set[str]:
        return {name for name in sa.inspect(self.bench.engine).get_table_names() if name.startswith("t_")}


@pytest.fixture(scope="module")
def uploads_bench(database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    folder = tmp_path_factory.mktemp("instance")
    bench = Bench(make_app(database, f"folder://{folder}/broker", folder, MAX_UPLOAD_BYTES=LIMIT))
    yield bench
    bench.close()


@pytest.fixture
def site(uploads_bench: Bench) -> Iterator[Site]:
    make_current(uploads_bench.app)
    site = Site(uploads_bench)
    yield site
    with uploads_bench.engine.begin() as connection:
        for name in site.tables():
            connection.execute(sa.text(f'DROP TABLE "{name}"'))
        for model in (Upload, Job, IdempotencyKey):
            connection.execute(sa.delete(model))
    for path in site.files():
        path.unlink()


def post(browser: FlaskClient, content: bytes, name: str = "table.csv", **fields: Any) -> TestResponse:
    form = {"csrf_token": csrf_of(browser, "/uploads"), "file": (io.BytesIO(content), name), **fields}
    return browser.post("/uploads", data=form)


def post_by_script(browser: FlaskClient, content: bytes, name: str = "table.csv") -> TestResponse:
    """As the page's own script does."""
    headers = {"X-Requested-With": "fetch", "X-CSRFToken": csrf_of(browser, "/uploads")}
    return browser.post("/uploads", data={"file": (io.BytesIO(content), name)}, headers=headers)


def part(disposition: bytes, content: bytes) -> bytes:
    return b"--cut\r\nContent-Disposition: form-data; " + disposition + b"\r\n\r\n" + content + b"\r\n"


def post_raw(browser: FlaskClient, *parts: bytes, **environ: Any) -> TestResponse:
    """Bytes as no well-behaved client sends them."""
    token = part(b'name="csrf_token"', csrf_of(browser, "/uploads").encode())
    body = token + b"".join(parts) + b"--cut--\r\n"
    return browser.post(
        "/uploads",
        input_stream=io.BytesIO(body),
        content_type="multipart/form-data; boundary=cut",
        environ_overrides={"CONTENT_LENGTH": str(len(body)), **environ},
    )


def problem_of(answer: TestResponse) -> str:
    """The one sentence beside the field."""
    found = re.search(r"data-problem>(.*?)</p>", answer.text, re.DOTALL)
    assert found, answer.text
    return re.sub(r"<svg.*?</svg>|<[^>]+>", "", found[1], flags=re.DOTALL).strip()


def assert_refused(site: Site, answer: TestResponse, status: int, sentence: str) -> None:
    assert answer.status_code == status, answer.text
    assert sentence in unescaped(problem_of(answer))
    assert_nothing_kept(site, answer)


def assert_nothing_kept(site: Site, answer: TestResponse) -> None:
    assert "Traceback" not in answer.text
    assert (site.files(), site.uploads(), site.jobs()) == ([], [], [])


def unescaped(text: str) -> str:
    return text.replace("&#39;", "'").replace("&#34;", '"').replace("&amp;", "&")


# --- what is no table -------------------------------------------------------------------------------------

REFUSED = {
    "empty": (b"", "The file is empty"),
    "blank lines": (b"\n \n\n", "nothing but blank lines"),
    "png": (b"\x89PNG\r\n\x1a\n" + bytes(100), "This is a PNG picture"),
    "zip or xlsx": (b"PK\x03\x04" + bytes(100), "an Excel workbook or a ZIP archive"),
    "gzip": (b"\x1f\x8b\x08" + bytes(100), "This is a gzip archive"),
    "parquet": (b"PAR1" + bytes(100), "This is a Parquet file"),
    "binary": (bytes(range(256)) * 20, "binary file"),
    "html": (b"<!doctype html><title>x</title>", "web page"),
    "svg": (b'<svg onload="alert(1)"></svg>', "web page or an XML file"),
    "json": (b'[{"a": 1}]', "This is JSON"),
    "deep json": (b"[" * 100_000, "JSON"),
    "only a header": (b"name,amount\n", "a header row but no data"),
    "one column": (b"name\nada\nbob\n", "Only one column was found"),
    "no header": (b"1,2,3\n4,5,6\n", "header"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_no_table_is_refused_in_a_sentence_and_leaves_nothing(site: Site, kind: str):
    content, sentence = REFUSED[kind]
    assert_refused(site, post(site.signed_in(), content), 422, sentence)


def test_a_declared_type_and_a_name_do_not_make_a_picture_a_table(site: Site):
    picture = part(b'name="file"; filename="x.csv"\r\nContent-Type: text/csv', b"\x89PNG\r\n\x1a\n" + bytes(100))
    assert_refused(site, post_raw(site.signed_in(), picture), 422, "This is a PNG picture")


def test_the_pages_script_gets_the_same_sentence_as_json(site: Site):
    answer = post_by_script(site.signed_in(), b"")
    assert (answer.status_code, list(answer.json)) == (422, ["error"])
    assert answer.json["error"].startswith("The file is empty")
    assert_nothing_kept(site, answer)


def test_a_missing_field_is_refused(site: Site):
    browser = site.signed_in()
    answer = browser.post("/uploads", data={"csrf_token": csrf_of(browser, "/uploads")})
    assert_refused(site, answer, 422, "No file was chosen")


def test_a_form_sent_without_choosing_a_file_is_refused(site: Site):
    assert_refused(site, post_raw(site.signed_in(), part(b'name="file"; filename=""', b"")), 422, "No file was chosen")


def test_a_file_in_another_field_is_refused(site: Site):
    other = part(b'name="picture"; filename="a.csv"', TABLE)
    assert_refused(site, post_raw(site.signed_in(), other), 422, "No file was chosen")


# --- how it is sent ---------------------------------------------------------------------------------------

LARGE = b"name,amount\n" + b"ada,1\n" * (LIMIT // 6) + b"x" * 200_000


def test_a_file_that_says_it_is_too_large_is_not_read(site: Site):
    assert_refused(site, post(site.signed_in(), LARGE), 413, "at most 1 MB are taken")


def test_a_file_a_little_too_large_is_refused(site: Site):
    assert_refused(site, post(site.signed_in(), LARGE[: LIMIT + 1]), 422, "at most 1,000,000 are taken")


def test_a_large_file_without_a_length_is_stopped_at_the_limit(site: Site):
    sent = part(b'name="file"; filename="a.csv"', LARGE)
    answer = post_raw(site.signed_in(), sent, CONTENT_LENGTH="", **{"wsgi.input_terminated": True})
    assert_refused(site, answer, 413, "at most 1 MB are taken")


@pytest.mark.parametrize("length", ["300", "900000"])
def test_a_length_that_lies_is_refused(site: Site, length: str):
    sent = part(b'name="file"; filename="a.csv"', b"name,amount\n" + b"ada,1\n" * 1000)
    answer = post_raw(site.signed_in(), sent, CONTENT_LENGTH=length)
    assert 400 <= answer.status_code < 500
    assert_nothing_kept(site, answer)


def test_a_file_that_breaks_off_is_not_half_a_table(site: Site):
    script = site.script()
    answer = script.post(
        "/uploads",
        input_stream=io.BytesIO(part(b'name="file"; filename="a.csv"', TABLE)),
        content_type="multipart/form-data; boundary=cut",
        environ_overrides={"wsgi.input_terminated": True},
    )
    assert answer.status_code == 422
    assert_nothing_kept(site, answer)


def test_a_thousand_and_one_parts_are_refused_in_their_own_words(site: Site):
    many = [part(b'name="x%d"' % number, b"y") for number in range(1001)]
    sent = part(b'name="file"; filename="a.csv"', TABLE)
    assert_refused(site, post_raw(site.signed_in(), sent, *many), 413, "too many parts")


def test_only_the_first_of_many_files_is_kept(site: Site):
    sent = [part(b'name="file"; filename="%d.csv"' % number, TABLE) for number in range(5)]
    assert post_raw(site.signed_in(), *sent).status_code == 303
    assert site.only_upload().name == "0.csv"
    assert [path.name for path in site.files()] == [site.only_upload().id]


def test_a_file_without_the_forms_token_is_refused(site: Site):
    answer = site.signed_in().post("/uploads", data={"file": (io.BytesIO(TABLE), "a.csv")})
    assert answer.status_code == 400
    assert_nothing_kept(site, answer)


def test_nobody_uploads_without_an_account(site: Site):
    answer = site.browser().post("/uploads", data={"file": (io.BytesIO(TABLE), "a.csv")})
    assert (answer.status_code, answer.location) == (303, "/login")
    assert_nothing_kept(site, answer)


def test_a_view_that_takes_no_files_takes_none(site: Site):
    answer = site.signed_in().post("/uploads/sample", data={"file": (io.BytesIO(bytes(3_000_000)), "a.csv")})
    assert answer.status_code == 413
    assert_nothing_kept(site, answer)


def test_the_same_file_twice_is_two_tables(site: Site):
    first, second = site.load(TABLE), site.load(TABLE)
    assert first.digest == second.digest
    assert first.table_name != second.table_name
    assert {first.table_name, second.table_name} <= site.tables()


def test_the_bytes_are_written_once_and_renamed(site: Site, monkeypatch: pytest.MonkeyPatch):
    written: list[int] = []
    keep = IncomingFile.keep

    def look(incoming: IncomingFile, path: Path) -> None:
        written.append(incoming.path.stat().st_ino)
        keep(incoming, path)

    def no_second_copy(*_: Any, **__: Any) -> None:
        raise AssertionError("a temporary file was made")

    monkeypatch.setattr(IncomingFile, "keep", look)
    monkeypatch.setattr("werkzeug.formparser.default_stream_factory", no_second_copy)
    content = b"name,amount\n" + b"ada,1\n" * 130_000

    assert post(site.signed_in(), content).status_code == 303

    (kept,) = site.files()
    assert kept.stat().st_ino == written[0]
    assert kept.read_bytes() == content


# --- when something of ours fails -------------------------------------------------------------------------


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    write = IncomingFile.write

    def until_full(incoming: IncomingFile, block: bytes) -> int:
        if incoming.size + len(block) > 100_000:
            write(incoming, block[: len(block) // 2])
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(incoming, block)

    monkeypatch.setattr(IncomingFile, "write", until_full)


@pytest.mark.usefixtures("full_disk")
def test_a_disk_that_fills_half_way_keeps_nothing(site: Site):
    assert_refused(site, post(site.signed_in(), TABLE * 20_000), 507, "the disk may be full")
    answer = post_by_script(site.signed_in(), TABLE * 20_000)
    assert answer.status_code == 507
    assert "the disk may be full" in answer.json["error"]
    assert_nothing_kept(site, answer)


@pytest.mark.usefixtures("full_disk")
def test_a_full_disk_is_a_problem_to_a_script(site: Site):
    answer = site.script().post("/uploads", data={"file": (io.BytesIO(TABLE * 20_000), "a.csv")})
    assert (answer.status_code, answer.content_type) == (507, "application/problem+json")
    assert "the disk may be full" in answer.json["detail"]
    assert_nothing_kept(site, answer)


def test_a_disk_that_is_full_for_the_sample_keeps_nothing(site: Site, monkeypatch: pytest.MonkeyPatch):
    browser = site.signed_in()
    token = csrf_of(browser, "/uploads")

    def full(*_: Any) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(IncomingFile, "write", full)
    assert_refused(site, browser.post("/uploads/sample", data={"csrf_token": token}), 507, "the disk may be full")


@pytest.fixture
def no_commit(site: Site, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    def fail(_session: Any) -> None:
        raise sa.exc.OperationalError("COMMIT", {}, Exception("the database went away"))

    def start() -> None:
        monkeypatch.setattr(type(db.session()), "commit", fail)

    return start


@pytest.mark.parametrize("way", ["form", "sample", "script"])
def test_a_commit_that_fails_leaves_no_file(site: Site, no_commit: Callable[[], None], way: str):
    browser, script = site.signed_in(), site.script()
    token = csrf_of(browser, "/uploads")
    with site.app.app_context():
        no_commit()
    if way == "form":
        answer = browser.post("/uploads", data={"csrf_token": token, "file": (io.BytesIO(TABLE), "a.csv")})
    elif way == "sample":
        answer = browser.post("/uploads/sample", data={"csrf_token": token})
    else:
        answer = script.post("/uploads", data={"file": (io.BytesIO(TABLE), "a.csv")})
    assert answer.status_code in (500, 503)
    assert "the database went away" not in answer.text
    assert_nothing_kept(site, answer)


def test_a_job_that_cannot_be_written_leaves_no_file(site: Site, monkeypatch: pytest.MonkeyPatch):
    def fail(*_: Any, **__: Any) -> None:
        raise sa.exc.OperationalError("INSERT", {}, Exception("the database went away"))

    browser = site.signed_in()
    token = csrf_of(browser, "/uploads")
    monkeypatch.setattr(type(site.bench.celery), "send_task", fail)
    answer = browser.post("/uploads", data={"csrf_token": token, "file": (io.BytesIO(TABLE), "a.csv")})
    assert answer.status_code in (500, 503)
    assert_nothing_kept(site, answer)


# --- names ------------------------------------------------------------------------------------------------

NAMES = {
    "../../../etc/passwd": "passwd",
    "..": "table",
    "報告.csv": "報告.csv",
    "x" * 400 + ".csv": "x" * 195 + "….csv",
    "-rf.csv": "-rf.csv",
    "CON.txt": "CON.txt",
    "x.jpg.html": "x.jpg.html",
    "a\0b.csv": "ab.csv",
    "a.csv\r\nSet-Cookie: owned=1": "a.csvSet-Cookie: owned=1",
    "<img src=x onerror=alert(1)>.png": "<img src=x onerror=alert(1)>.png",
    'quote";filename="evil.exe.csv': 'quote";filename="evil.exe.csv',
    "\u202egpj.csv": "gpj.csv",
    "C:\\fakepath\\real.csv": "real.csv",
}
BAD_ROW = b"name,amount\nada,1\nbob,2\ncy,3\ndee,4\neve,5\nfay,6\ngus,7\nhal,8\nivy,9\njo,10\nkim\n"


@pytest.mark.parametrize("name", NAMES, ids=lambda name: ascii(name)[:30])
def test_a_name_is_shown_harmlessly_and_is_never_a_path(site: Site, name: str):
    browser = site.signed_in()
    # As browsers write it: quotes and line ends percent-encoded; the rest as it is.
    sent = name.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")
    assert post_raw(browser, part(f'name="file"; filename="{sent}"'.encode(), BAD_ROW)).status_code == 303
    site.bench.run()
    upload = site.only_upload()

    shown = NAMES[name]
    # Who percent-encodes and who decodes differs, as does a backslash before a letter; each is harmless.
    assert upload.name in (shown, sent, name.replace("\\", ""))
    assert [path.name for path in site.files()] == [upload.id]
    for address in ("/uploads", f"/uploads/{upload.id}", f"/jobs/{upload.job_id}"):
        page = browser.get(address)
        assert page.status_code == 200
        assert "<img src=x" not in page.text
    download = browser.get(f"/uploads/{upload.id}/bad-rows.csv")
    disposition = download.headers["Content-Disposition"]
    assert disposition.startswith("attachment; filename")
    assert not re.search(r'[\r\n\0/\\](?!")', disposition)
    assert "Set-Cookie" not in dict(download.headers)
    assert download.headers["X-Content-Type-Options"] == "nosniff"


def test_raw_line_ends_in_a_name_start_no_header(site: Site):
    sent = part(b'name="file"; filename="a\r\nX-Evil: 1.csv"', TABLE)
    answer = post_raw(site.signed_in(), sent)
    assert "X-Evil" not in dict(answer.headers)
    assert answer.status_code in (303, 400, 422)
    if answer.status_code != 303:
        assert_nothing_kept(site, answer)


# --- who sees it ------------------------------------------------------------------------------------------


def test_another_users_upload_is_not_there(site: Site):
    upload = site.load(BAD_ROW, by="ada")
    eve, script = site.signed_in("eve"), site.script("eve")
    for address in (f"/uploads/{upload.id}", f"/uploads/{upload.id}/bad-rows.csv", f"/jobs/{upload.job_id}"):
        assert eve.get(address).status_code == 404, address
    assert script.get(f"/uploads/{upload.id}").status_code == 404
    assert upload.name not in eve.get("/uploads").text
    assert site.signed_in("olga", "operator").get(f"/uploads/{upload.id}").status_code == 200


@pytest.mark.parametrize("upload_id", ["nothing", "0" * 36, "..%2F..", "' OR 1=1 --"])
def test_an_id_that_never_was_is_not_there(site: Site, upload_id: str):
    assert site.signed_in().get(f"/uploads/{upload_id}").status_code == 404


# --- what becomes of it -----------------------------------------------------------------------------------


def types_of(page: str) -> dict[str, str]:
    """Column name → type, as the profile on the page says."""
    table = page.split('class="profile"')[1].split("</table>")[0]
    rows = re.findall(r'<th scope="row"[^>]*>(.*?)</th>\s*<td[^>]*>(.*?)</td>', table, re.DOTALL)
    return {_text(name): _text(kind) for name, kind in rows}


def _text(html: str) -> str:
    return unescaped(re.sub(r"<svg.*?</svg>|<[^>]+>", "", html, flags=re.DOTALL)).strip()


REAL = {
    "airports": {"iata": "text", "name": "text", "latitude": "decimal", "longitude": "decimal"},
    "seattle_weather": {"date": "date", "precipitation": "decimal", "weather": "text"},
    "iowa_electricity": {"year": "date", "source": "text", "net_generation": "integer"},
    "us_employment": {"month": "date", "nonfarm": "integer", "nonfarm_change": "integer"},
    "la_riots": {"first_name": "text", "age": "integer", "latitude": "decimal"},
}


@pytest.mark.parametrize("name", REAL)
def test_a_real_table_is_loaded_with_its_types(site: Site, name: str):
    content = getattr(datasets, name).raw()
    expected = list(csv.reader(io.StringIO(content.decode())))
    upload = site.load(content, f"{name}.csv")

    assert upload.rows + upload.bad_rows == len(expected) - 1
    assert upload.bad_rows == 0
    page = site.signed_in().get(f"/uploads/{upload.id}").text
    found = types_of(page)
    assert list(found) == expected[0]
    assert found.items() >= REAL[name].items()
    assert "histogram" in page
    assert expected[1][-1] in page


def test_every_value_of_a_real_table_stands_in_its_table(site: Site):
    content = datasets.airports.raw()
    upload = site.load(content, "airports.csv")
    with site.bench.engine.connect() as connection:
        rows = connection.execute(sa.text(f"SELECT * FROM {upload.table_name} ORDER BY row_number")).all()
    expected = list(csv.DictReader(io.StringIO(content.decode())))
    assert [row.name for row in rows] == [row["name"].strip() or None for row in expected]
    assert [row.latitude for row in rows] == [float(row["latitude"]) for row in expected]


def test_the_jobs_page_names_the_table_and_shows_its_profile(site: Site):
    upload = site.load(datasets.airports.raw(), "airports.csv")
    page = site.signed_in().get(f"/jobs/{upload.job_id}").text
    assert "<title>Table airports.csv succeeded" in page
    assert types_of(page)["latitude"] == "decimal"
    assert "uploads.css" in page
    assert "uploads.css" not in site.signed_in().get("/jobs").text


def test_a_loaded_table_leads_to_a_question_about_it_and_to_mail_to_its_rows(site: Site):
    upload = site.load(TABLE, "Tall people.csv")
    browser = site.signed_in()
    page = browser.get(f"/uploads/{upload.id}").text
    ask, write = (html.unescape(found) for found in re.findall(r'<a class="btn btn-quiet" href="([^"]+)"', page))
    assert f"SELECT *\nFROM tall_people_{upload.id[:6]}\nLIMIT 100</textarea>" in browser.get(ask).text
    assert "Mail merge with Tall people.csv" in browser.get(write).text


def test_a_file_that_turns_out_bad_only_later_fails_its_job_with_a_sentence(site: Site):
    browser = site.signed_in()
    assert post(browser, TABLE).status_code == 303
    upload = site.only_upload()
    site.storage.path(upload.id).write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))
    site.bench.run()
    page = browser.get(f"/jobs/{upload.job_id}").text
    assert site.bench.state(upload.job_id) == JobState.FAILED
    assert "This is a PNG picture, not a text table" in page
    assert browser.get(f"/uploads/{upload.id}").location == f"/jobs/{upload.job_id}"


def test_bad_rows_are_listed_with_their_reasons_and_do_not_sink_the_rest(site: Site):
    upload = site.load(BAD_ROW)
    assert (upload.rows, upload.bad_rows) == (10, 1)
    page = site.signed_in().get(f"/uploads/{upload.id}").text
    assert f"/uploads/{upload.id}/bad-rows.csv" in page
    assert "1 row was left out" in page


def test_downloaded_bad_rows_run_nothing_in_a_spreadsheet(site: Site):
    formulas = ["=1+1", "+1+cmd|' /C calc'!A0", "-1+1", "@SUM(A1)", "\t=1"]
    content = BAD_ROW + "".join(f"{formula}\n" for formula in formulas).encode()
    upload = site.load(content)
    download = site.signed_in().get(f"/uploads/{upload.id}/bad-rows.csv")
    rows = list(csv.reader(io.StringIO(download.text.lstrip("\ufeff"))))[1:]
    assert download.mimetype == "text/csv"
    assert len(rows) == 1 + len(formulas)
    for row in rows:
        assert not re.match(r"[=+@\t\r-]", row[2]), row


def test_a_table_without_bad_rows_has_none_to_download(site: Site):
    upload = site.load(TABLE)
    assert site.signed_in().get(f"/uploads/{upload.id}/bad-rows.csv").status_code == 404


def test_the_sample_table_shows_what_there_is_to_see(site: Site):
    browser = site.signed_in()
    answer = browser.post("/uploads/sample", data={"csrf_token": csrf_of(browser, "/uploads")})
    site.bench.run()
    upload = site.only_upload()
    assert answer.location == f"/jobs/{upload.job_id}"
    assert (upload.rows, upload.bad_rows) == (1460, 3)


def test_html_in_cells_and_column_names_stays_text(site: Site):
    evil = "<script>alert(1)</script>"
    upload = site.load(f"{evil},b\n{evil},1\n{evil},2\n".encode())
    page = site.signed_in().get(f"/uploads/{upload.id}").text
    assert evil not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page


# --- sweeping ---------------------------------------------------------------------------------------------


def make_tables(site: Site, name: str) -> None:
    """As an attempt that was killed leaves them."""
    tables.create(site.bench.engine, tables.rows_table(name, ()), tables.bad_rows_table(name))


def sweep(site: Site) -> Any:
    job_id = site.bench.submit("uploads.sweep")
    site.bench.run()
    return site.bench.result(job_id).result


def test_tables_of_attempts_that_did_not_succeed_are_swept(site: Site):
    upload = site.load(BAD_ROW)
    stem = f"t_{upload.id.replace('-', '')}"
    kept = site.tables()
    for name in (f"{stem}_7", f"t_{'0' * 32}_1"):
        make_tables(site, name)
    assert sweep(site) == {"tables": 2, "files": 0}
    assert site.tables() == kept == {f"{stem}_1", f"{stem}_1_bad"}


def test_the_table_of_a_running_attempt_is_left_alone(site: Site):
    assert post(site.signed_in(), TABLE).status_code == 303
    upload = site.only_upload()
    staging = f"t_{upload.id.replace('-', '')}_3"
    make_tables(site, staging)
    site.bench.change(upload.job_id, state="running", attempt=3, worker="w1@host", started_at=site.bench.clock())
    assert sweep(site)["tables"] == 0
    assert site.tables() == {staging, f"{staging}_bad"}


def test_what_a_killed_drop_left_is_found_again(site: Site, monkeypatch: pytest.MonkeyPatch):
    name = f"t_{'0' * 32}_1"
    make_tables(site, name)
    drop = sa.Table.drop

    def killed_after_one(table: sa.Table, *args: Any, **more: Any) -> None:
        drop(table, *args, **more)
        monkeypatch.undo()
        raise KeyboardInterrupt

    monkeypatch.setattr(sa.Table, "drop", killed_after_one)
    with pytest.raises(KeyboardInterrupt):
        tables.drop(site.bench.engine, name)
    sweep(site)
    assert site.tables() == set()


def test_forgotten_files_are_swept_after_a_day_and_known_ones_never(site: Site):
    upload = site.load(TABLE)
    forgotten, fresh = site.storage.incoming / "forgotten", site.storage.incoming / "fresh"
    orphan = site.storage.path("orphan")
    for path in (forgotten, fresh, orphan):
        path.write_bytes(b"x")
    for path in (forgotten, orphan, site.storage.path(upload.id)):
        os.utime(path, (1, 1))
    assert sweep(site)["files"] == 2
    assert {path.name for path in site.files()} == {"fresh", upload.id}


# --- scripts ----------------------------------------------------------------------------------------------


def send(script: Script, content: bytes = TABLE, name: str = "table.csv", **headers: str) -> TestResponse:
    return script.post("/uploads", data={"file": (io.BytesIO(content), name)}, headers=headers)


def test_a_script_hands_over_a_table_and_sees_it_loaded(site: Site):
    script = site.script()
    answer = send(script, BAD_ROW)
    upload = answer.json
    assert (answer.status_code, answer.location) == (202, f"/api/v1/uploads/{upload['id']}")
    assert (upload["name"], upload["size"], upload["state"], upload["rows"]) == (
        "table.csv",
        len(BAD_ROW),
        "waiting",
        None,
    )
    site.bench.run()
    loaded = script.get(f"/uploads/{upload['id']}").json
    assert (loaded["state"], loaded["rows"], loaded["bad_rows"]) == ("succeeded", 10, 1)
    assert [column["name"] for column in loaded["report"]["columns"]] == ["name", "amount"]
    assert script.get(f"/jobs/{upload['job_id']}").json["result"]["rows"] == 10


@pytest.mark.parametrize("kind", ["empty", "png", "json", "no header"])
def test_a_script_gets_a_problem_for_what_is_no_table(site: Site, kind: str):
    content, sentence = REFUSED[kind]
    answer = send(site.script(), content)
    assert (answer.status_code, answer.content_type) == (422, "application/problem+json")
    assert sentence in answer.json["detail"]
    assert_nothing_kept(site, answer)


@pytest.mark.parametrize("body", [None, {"file": "a,b"}])
def test_a_script_that_sends_no_file_is_told(site: Site, body: Any):
    answer = site.script().post("/uploads", body)
    assert (answer.status_code, answer.content_type) == (422, "application/problem+json")
    assert "No file" in answer.json["detail"]


def test_a_script_that_sends_too_much_is_told(site: Site):
    answer = send(site.script(), LARGE)
    assert (answer.status_code, answer.content_type) == (413, "application/problem+json")
    assert "at most 1 MB are taken" in answer.json["detail"]
    assert_nothing_kept(site, answer)


def test_a_repeated_key_repeats_the_answer_and_keeps_one_file(site: Site):
    script = site.script()
    key = {"Idempotency-Key": "once"}
    first, second = send(script, **key), send(script, **key)
    assert (first.status_code, second.status_code) == (202, 202)
    assert first.json["id"] == second.json["id"]
    assert second.headers["Idempotency-Replayed"] == "true"
    assert [path.name for path in site.files()] == [site.only_upload().id]
    assert len(site.jobs()) == 1


def test_a_key_with_another_file_is_refused(site: Site):
    script = site.script()
    key = {"Idempotency-Key": "once"}
    assert send(script, **key).status_code == 202
    answer = send(script, BAD_ROW, **key)
    assert answer.status_code == 422
    assert len(site.files()) == 1


def test_a_refused_file_does_not_use_up_its_key(site: Site):
    script = site.script()
    key = {"Idempotency-Key": "once"}
    assert send(script, b"", **key).status_code == 422
    assert send(script, **key).status_code == 202


# --- whose table it is ------------------------------------------------------------------------------------


def test_another_job_cannot_load_an_upload_again(site: Site):
    upload = site.load(BAD_ROW)
    kept = site.tables()
    job_id = site.bench.submit("uploads.load_table", upload.id)
    site.bench.run()
    assert site.bench.result(job_id).state == "REVOKED"
    assert site.tables() == kept
