"""A site that takes tables, a look behind it, and tables that it refuses."""

import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from flaskapp.api.models import IdempotencyKey
from flaskapp.jobs.models import Job
from flaskapp.uploads.models import Upload
from flaskapp.uploads.storage import Storage
from tests.helpers import Bench, make_app, make_current
from tests.integration.doors_fixtures import Doors, csrf_of

LIMIT = 1_000_000
TABLE = b"name,amount\nada,1\nbob,2\n"
BAD_ROW = b"name,amount\nada,1\nbob,2\ncy,3\ndee,4\neve,5\nfay,6\ngus,7\nhal,8\nivy,9\njo,10\nkim\n"
LARGE = b"name,amount\n" + b"ada,1\n" * (LIMIT // 6) + b"x" * 200_000

#: What is sent, and a part of the sentence that says why it is no table.
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
