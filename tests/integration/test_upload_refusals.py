"""Tables that are refused, in which words, and however they are sent: nothing of them stays.

Every refusal is a sentence and leaves nothing: no file, no row, no job. On SQLite and PostgreSQL.
"""

import io
from pathlib import Path
from typing import Any

import pytest

from flaskapp.uploads.storage import IncomingFile
from tests.integration.doors_fixtures import csrf_of
from tests.integration.upload_fixtures import (  # noqa: F401 -- fixtures
    LARGE,
    LIMIT,
    REFUSED,
    TABLE,
    Site,
    assert_nothing_kept,
    assert_refused,
    part,
    post,
    post_by_script,
    post_raw,
    site,
    uploads_bench,
)

# --- what is no table -------------------------------------------------------------------------------------


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
