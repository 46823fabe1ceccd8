"""Nothing stays of a table that could not be taken or loaded: no file, no row, no table."""

import errno
import io
import os
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa

from flaskapp.extensions import db
from flaskapp.uploads import tables
from flaskapp.uploads.storage import IncomingFile
from tests.integration.doors_fixtures import csrf_of
from tests.integration.upload_fixtures import (  # noqa: F401 -- fixtures
    BAD_ROW,
    TABLE,
    Site,
    assert_nothing_kept,
    assert_refused,
    post,
    post_by_script,
    site,
    uploads_bench,
)

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
