"""Tables handed over by scripts."""

import io
from typing import Any

import pytest
from werkzeug.test import TestResponse

from tests.integration.doors_fixtures import Script
from tests.integration.upload_fixtures import (  # noqa: F401 -- fixtures
    BAD_ROW,
    LARGE,
    REFUSED,
    TABLE,
    Site,
    assert_nothing_kept,
    site,
    uploads_bench,
)


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
