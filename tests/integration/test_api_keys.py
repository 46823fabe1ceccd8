"""Idempotency-Key: the same request twice is done once."""

import threading
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import update

from flaskapp.api.models import IdempotencyKey
from tests.integration.doors_fixtures import Doors, Script, jobs_in

ECHO = {"task": "diagnostics.echo", "args": [1]}


def test_the_same_key_and_body_give_the_same_answer_and_one_job(doors: Doors):
    script = doors.script()
    first = script.post("/jobs", ECHO, headers={"Idempotency-Key": "k1"})
    again = script.post("/jobs", ECHO, headers={"Idempotency-Key": "k1"})
    assert (again.status_code, again.json, again.location) == (202, first.json, first.location)
    assert again.headers["Idempotency-Replayed"] == "true"
    assert jobs_in(doors) == 1


def test_the_same_key_with_another_body_is_refused(doors: Doors):
    script = doors.script()
    script.post("/jobs", ECHO, headers={"Idempotency-Key": "k1"})
    answer = script.post("/jobs", {**ECHO, "args": [2]}, headers={"Idempotency-Key": "k1"})
    assert answer.status_code == 422
    assert jobs_in(doors) == 1


def test_the_same_key_for_another_address_is_refused(doors: Doors):
    script = doors.script()
    job = script.post("/jobs", ECHO, headers={"Idempotency-Key": "k1"}).json
    assert script.post(f"/jobs/{job['id']}/cancel", headers={"Idempotency-Key": "k1"}).status_code == 422


def test_two_accounts_may_use_the_same_key(doors: Doors):
    for name in ("ada", "eve"):
        assert doors.script(name).post("/jobs", ECHO, headers={"Idempotency-Key": "k1"}).status_code == 202
    assert jobs_in(doors) == 2


@pytest.mark.parametrize("verb", ["cancel", "run-again"])
def test_a_verb_repeated_under_its_key_answers_the_same(doors: Doors, verb: str):
    script = doors.script()
    job_id = script.submit()["id"]
    if verb == "run-again":
        script.post(f"/jobs/{job_id}/cancel")
    answers = [script.post(f"/jobs/{job_id}/{verb}", headers={"Idempotency-Key": "v"}) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [202, 202]
    assert answers[0].json == answers[1].json


def test_a_refusal_by_state_is_repeated_too(doors: Doors):
    script = doors.script()
    job_id = script.submit()["id"]
    first = script.post(f"/jobs/{job_id}/run-again", headers={"Idempotency-Key": "v"})
    script.post(f"/jobs/{job_id}/cancel")
    again = script.post(f"/jobs/{job_id}/run-again", headers={"Idempotency-Key": "v"})
    assert (first.status_code, again.status_code) == (409, 409)
    assert again.content_type == "application/problem+json"
    assert again.json == first.json


def test_a_wrong_request_does_not_use_up_its_key(doors: Doors):
    script = doors.script()
    assert script.post("/jobs", {"task": "nope"}, headers={"Idempotency-Key": "k"}).status_code == 422
    assert script.post("/jobs", ECHO, headers={"Idempotency-Key": "k"}).status_code == 202


def test_a_key_is_forgotten_after_a_day(doors: Doors):
    script = doors.script()
    script.post("/jobs", ECHO, headers={"Idempotency-Key": "k"})
    with doors.session() as session:
        session.execute(update(IdempotencyKey).values(created_at=datetime.now(UTC) - timedelta(hours=25)))
        session.commit()
    assert "Idempotency-Replayed" not in script.post("/jobs", ECHO, headers={"Idempotency-Key": "k"}).headers
    assert jobs_in(doors) == 2


@pytest.mark.parametrize("key", ["", "k" * 256, "\u00e4"])
def test_a_key_that_cannot_be_one_is_refused(doors: Doors, key: str):
    assert doors.script().post("/jobs", ECHO, headers={"Idempotency-Key": key}).status_code == 422


def test_the_same_request_twice_at_the_same_moment_makes_one_job(doors: Doors):
    token = doors.script().token
    start, answers = threading.Barrier(6), []

    def send() -> None:
        script = Script(doors.app.test_client(), token)
        start.wait()
        answers.append(script.post("/jobs", ECHO, headers={"Idempotency-Key": "k"}))

    threads = [threading.Thread(target=send) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [answer.status_code for answer in answers] == [202] * 6
    assert len({answer.json["id"] for answer in answers}) == 1
    assert jobs_in(doors) == 1
