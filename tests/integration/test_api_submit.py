"""Jobs asked for over the API: what is taken, and what is refused with a sentence."""

from datetime import UTC, datetime

import pytest

from flaskapp.jobs.models import Job
from flaskapp.mail import actions as mail
from flaskapp.mail.queries import lane_keys
from flaskapp.query.saved_views import SAFETY_KEY
from tests.integration.doors_fixtures import Doors, jobs_in

FIELDS = {
    *("id", "task", "queue", "state", "attempt", "args", "kwargs", "result", "error", "attempts", "progress"),
    *("run_at", "created_at", "queued_at", "started_at", "finished_at", "worker"),
}


# --- submit -----------------------------------------------------------------------------------------------


def test_a_submitted_job_is_answered_with_every_field(doors: Doors):
    script = doors.script("ada")
    answer = script.post("/jobs", {"task": "diagnostics.echo", "args": ["hello"]})
    assert answer.status_code == 202
    job = answer.json
    assert set(job) >= FIELDS
    assert (job["task"], job["queue"], job["state"], job["args"], job["kwargs"]) == (
        "diagnostics.echo",
        "default",
        "waiting",
        ["hello"],
        {},
    )
    assert (job["attempt"], job["attempts"], job["error"], job["result"], job["owner"]) == (0, [], None, None, "ada")
    assert answer.location == f"/api/v1/jobs/{job['id']}"
    assert script.get(f"/jobs/{job['id']}").json == job


def test_every_field_of_a_wish_arrives(doors: Doors):
    due = datetime(2031, 1, 31, 8, tzinfo=UTC)
    job = doors.script().submit(
        "diagnostics.echo",
        [],
        kwargs={"value": {"deep": [1, None]}},
        queue="mail",
        run_at="2031-01-31T09:00:00+01:00",
        unique_key="one",
        max_attempts=3,
    )
    assert job["kwargs"] == {"value": {"deep": [1, None]}}
    assert job["queue"] == "mail"
    assert datetime.fromisoformat(job["run_at"]) == due
    with doors.session() as session:
        assert session.get_one(Job, job["id"]).max_retries == 2


def test_a_unique_key_answers_the_live_job(doors: Doors):
    script = doors.script()
    first = script.submit(unique_key="nightly")
    again = script.post("/jobs", {"task": "diagnostics.echo", "args": [2], "unique_key": "nightly"})
    assert again.status_code == 200
    assert again.json == first
    assert jobs_in(doors) == 1


def test_a_unique_key_is_free_once_its_job_is_final(doors: Doors):
    script = doors.script()
    first = script.submit(unique_key="nightly")
    script.post(f"/jobs/{first['id']}/cancel")
    assert script.submit(unique_key="nightly")["id"] != first["id"]


def test_a_key_of_the_application_itself_cannot_be_taken(doors: Doors):
    with doors.app.app_context():
        message = mail.write(["bob@example.org"], "Hello", "…", owner="ada")
        own_keys = [*lane_keys(message), SAFETY_KEY]
    for key in own_keys:
        answer = doors.script("eve").post("/jobs", {"task": "diagnostics.echo", "args": [1], "unique_key": key})
        assert (answer.status_code, "the application's own" in answer.json["detail"]) == (422, True)
    assert doors.script("eve").submit(unique_key="mail:monthly")


def test_a_viewers_unique_key_does_not_show_the_job_of_another(doors: Doors):
    doors.script("ada").submit(unique_key="k", args=["private"])
    answer = doors.script("eve").post("/jobs", {"task": "diagnostics.echo", "args": [1], "unique_key": "k"})
    assert answer.status_code == 409
    assert "private" not in answer.text


@pytest.mark.parametrize("task", ["celery.backend_cleanup", "celery.chain", "no.such.task", "os.system", ""])
def test_only_tasks_that_are_known_and_not_celerys_own_can_be_asked_for(doors: Doors, task: str):
    answer = doors.script("root", "admin").post("/jobs", {"task": task})
    assert answer.status_code == 422
    assert jobs_in(doors) == 0


def test_an_unknown_task_is_answered_with_the_known_ones(doors: Doors):
    detail = doors.script().post("/jobs", {"task": "diagnostics.ecco"}).json["detail"]
    assert "Did you mean diagnostics.echo?" in detail
    assert "diagnostics.sleep" in detail


def test_an_internal_task_cannot_be_asked_for(doors: Doors, monkeypatch):
    monkeypatch.setattr(doors.app.extensions["celery"].tasks["diagnostics.echo"], "internal", True, raising=False)
    assert doors.script().post("/jobs", {"task": "diagnostics.echo", "args": [1]}).status_code == 422


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({}, "task is missing"),
        ({"task": 7}, "task must be a text"),
        ({"task": "diagnostics.echo", "args": "x"}, "args must be a list"),
        ({"task": "diagnostics.echo", "args": {"value": 1}}, "args must be a list"),
        ({"task": "diagnostics.echo", "kwargs": [1]}, "kwargs must be an object"),
        ({"task": "diagnostics.echo"}, "cannot be called with these arguments"),
        ({"task": "diagnostics.echo", "args": [1, 2]}, "cannot be called with these arguments"),
        ({"task": "diagnostics.echo", "args": [1], "queue": "nope"}, "queue 'nope' does not exist"),
        ({"task": "diagnostics.echo", "args": [1], "queue": ["mail"]}, "queue must be a text"),
        ({"task": "diagnostics.echo", "args": [1], "run_at": "tomorrow"}, "cannot be read as a time"),
        ({"task": "diagnostics.echo", "args": [1], "run_at": "2031-01-31T08:00:00"}, "has no zone"),
        ({"task": "diagnostics.echo", "args": [1], "run_at": "0001-01-01T00:00:00+14:00"}, "between the years"),
        ({"task": "diagnostics.echo", "args": [1], "run_at": "9999-12-31T23:59:59-14:00"}, "between the years"),
        ({"task": "diagnostics.echo", "args": [1], "run_at": 5}, "run_at must be a text"),
        ({"task": "diagnostics.echo", "args": [1], "unique_key": "a\u0000b"}, "printable"),
        ({"task": "diagnostics.echo", "args": [1], "unique_key": "k" * 256}, "1 to 255"),
        ({"task": "diagnostics.echo", "args": [1], "max_attempts": 0}, "from 1 to 1000"),
        ({"task": "diagnostics.echo", "args": [1], "max_attempts": 1001}, "from 1 to 1000"),
        ({"task": "diagnostics.echo", "args": [1], "max_attempts": True}, "whole number"),
        ({"task": "diagnostics.echo", "args": [1], "max_attempts": 1.5}, "whole number"),
        ({"task": "diagnostics.echo", "args": [{"__type__": "uuid", "__value__": "zz"}]}, "__type__"),
    ],
)
def test_a_wrong_field_gets_a_sentence_and_no_job(doors: Doors, fields, sentence):
    answer = doors.script().post("/jobs", fields)
    assert answer.status_code == 422
    assert sentence in answer.json["detail"]
    assert jobs_in(doors) == 0


@pytest.mark.parametrize("field", ["id", "owner", "state", "attempt", "result", "role", "task_id", "priority"])
def test_fields_that_are_not_the_callers_are_refused(doors: Doors, field: str):
    answer = doors.script().post("/jobs", {"task": "diagnostics.echo", "args": [1], field: "root"})
    assert answer.status_code == 422
    assert f"'{field}' is not a field here" in answer.json["detail"]


def test_a_thousand_jobs_go_in_together_in_order(doors: Doors):
    script = doors.script()
    wanted = [{"task": "diagnostics.echo", "args": [n]} for n in range(1000)]
    answer = script.post("/jobs/bulk", {"jobs": wanted})
    assert answer.status_code == 202
    ids = answer.json["ids"]
    assert len(set(ids)) == 1000
    assert script.get(f"/jobs/{ids[7]}").json["args"] == [7]


@pytest.mark.parametrize("count", [0, 1001])
def test_a_bulk_has_one_to_a_thousand_jobs(doors: Doors, count: int):
    wanted = [{"task": "diagnostics.echo", "args": [1]}] * count
    assert doors.script().post("/jobs/bulk", {"jobs": wanted}).status_code == 422
    assert jobs_in(doors) == 0


def test_one_bad_job_keeps_a_whole_bulk_out_and_is_named(doors: Doors):
    wanted = [{"task": "diagnostics.echo", "args": [1]}] * 5
    answer = doors.script().post("/jobs/bulk", {"jobs": [*wanted, {"task": "nope"}]})
    assert answer.status_code == 422
    assert answer.json["detail"].startswith("jobs[5].task 'nope' is not known")
    assert jobs_in(doors) == 0


def test_submitting_over_the_api_balances_the_account(doors: Doors):
    script = doors.script()
    job = script.submit()
    script.post("/jobs/bulk", {"jobs": [{"task": "diagnostics.echo", "args": [1]}] * 3})
    script.post(f"/jobs/{job['id']}/cancel")
    stats = script.get("/stats").json
    assert stats == {
        "states": {"waiting": 3, "queued": 0, "running": 0, "succeeded": 0, "failed": 0, "cancelled": 1},
        "accepted": 4,
        "pruned": 0,
        "drift": 0,
        "broker": [],
    }
