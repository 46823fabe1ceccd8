"""The API's contract: what scripts send, what they get, and who may see it."""

import json
import threading
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import func, select, update

from flaskapp.accounts.models import AuditEntry
from flaskapp.api.models import IdempotencyKey
from flaskapp.jobs import lifecycle
from flaskapp.jobs.models import Attempt, Job, Progress, Tally, Worker
from flaskapp.jobs.outcomes import Error, Failed, Hint, RetryLater, Succeeded
from flaskapp.mail import actions as mail
from flaskapp.mail.queries import lane_keys
from flaskapp.query.saved_views import SAFETY_KEY
from flaskapp.worker.testing import run_due_jobs
from tests.integration.doors_fixtures import Doors, Script, csrf_of

FIELDS = {
    *("id", "task", "queue", "state", "attempt", "args", "kwargs", "result", "error", "attempts", "progress"),
    *("run_at", "created_at", "queued_at", "started_at", "finished_at", "worker"),
}


def claim(doors: Doors, job_id: str):
    """By the road of a real message: sent, then claimed."""
    with doors.session() as session:
        (job,) = [job for job in lifecycle.take_to_send(session, "test", 10, 0) if job.id == job_id]
        claimed = lifecycle.claim(session, [Hint(job_id, job.sends)], "w1@host")[job_id]
        session.commit()
    return claimed


def settle(doors: Doors, outcome) -> None:
    with doors.session() as session:
        assert lifecycle.settle(session, [outcome])
        session.commit()


def jobs_in(doors: Doors) -> int:
    with doors.session() as session:
        return session.scalar(select(func.count()).select_from(Job))


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


# --- bodies -----------------------------------------------------------------------------------------------


def post_raw(script: Script, data: bytes, content_type: str = "application/json", path: str = "/jobs", **more):
    headers = {"Authorization": f"Bearer {script.token}"}
    return script.client.post(f"/api/v1{path}", data=data, content_type=content_type, headers=headers, **more)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"\xff\xfe\xfa", 400),
        (b'{"task": NaN}', 400),
        (b'{"task": "diagnostics.echo", "args": [Infinity]}', 400),
        (b'{"task": "diagnostics.echo", "args": [' + b"9" * 5000 + b"]}", 400),
        (b"[]", 422),
        (b'"text"', 422),
        (b"null", 422),
        (b'{"task": "diagnostics.echo", "args": ["\\ud800"]}', 422),
        (b"[" * 100_000, 422),
        (b'{"task": "diagnostics.echo", "args": [' + b"[" * 70 + b"]" * 70 + b"]}", 422),
        (b'{"a":' * 100_000, 422),
    ],
)
def test_what_is_no_json_object_is_refused_with_a_sentence(doors: Doors, body: bytes, status: int):
    answer = post_raw(doors.script(), body)
    assert answer.status_code == status, answer.text
    assert answer.content_type == "application/problem+json"
    assert answer.json["detail"].endswith(".")


def test_integers_beyond_64_bits_are_kept(doors: Doors):
    job = doors.script().submit(args=[2**200])
    assert job["args"] == [2**200]


def test_another_content_type_is_refused(doors: Doors):
    answer = post_raw(doors.script(), b'{"task": "diagnostics.echo"}', "text/plain")
    assert answer.status_code == 415
    assert "Content-Type: application/json" in answer.json["detail"]


class Endless:
    """A body that goes on; remembers how much of it was read."""

    def __init__(self, size: int) -> None:
        self.left = size
        self.was_read = 0

    def read(self, size: int = -1) -> bytes:
        piece = min(self.left, 65_536 if size < 0 else size)
        self.left -= piece
        self.was_read += piece
        return b" " * piece

    def close(self) -> None:
        return None


def test_a_hundred_megabytes_of_json_are_refused_unread(doors: Doors):
    script, body = doors.script(), Endless(100_000_000)
    answer = post_raw(script, b"", environ_overrides={"wsgi.input": body, "CONTENT_LENGTH": "100000000"})
    assert answer.status_code == 413
    assert body.was_read == 0


def test_a_body_without_an_honest_length_is_read_to_the_limit_only(doors: Doors):
    script, body = doors.script(), Endless(100_000_000)
    stream = {"wsgi.input": body, "wsgi.input_terminated": True, "HTTP_TRANSFER_ENCODING": "chunked"}
    assert post_raw(script, b"", environ_overrides=stream).status_code == 413
    assert body.was_read < 2_000_000


def test_a_stranger_does_not_get_a_body_read(doors: Doors):
    body = Endless(100_000)
    answer = doors.browser().post(
        "/api/v1/jobs",
        environ_overrides={"wsgi.input": body, "CONTENT_LENGTH": "100000"},
        content_type="application/json",
    )
    assert answer.status_code == 401
    assert body.was_read == 0


# --- look -------------------------------------------------------------------------------------------------


def test_a_job_shows_every_attempt_with_its_error(doors: Doors):
    script = doors.script()
    job_id = script.submit()["id"]
    settle(doors, RetryLater(claim(doors, job_id), Error("Timeout", "too slow", "Traceback …"), 0))
    waiting = script.get(f"/jobs/{job_id}").json
    assert [(one["number"], one["outcome"], one["error"]["type"]) for one in waiting["attempts"]] == [
        (1, "retried", "Timeout")
    ]
    claimed = claim(doors, job_id)
    running = script.get(f"/jobs/{job_id}").json
    assert [(one["number"], one["outcome"]) for one in running["attempts"]] == [(1, "retried"), (2, "running")]
    settle(doors, Succeeded(claimed, '{"rows": 3}'))
    done = script.get(f"/jobs/{job_id}").json
    assert (done["state"], done["attempt"], done["result"]) == ("succeeded", 2, {"rows": 3})
    assert set(done["attempts"][1]) == {"number", "worker", "started_at", "finished_at", "outcome", "error"}
    assert done["attempts"][1]["outcome"] == "succeeded"
    assert done["attempts"][1]["worker"] == "w1@host"


def test_a_failed_job_shows_type_message_and_traceback(doors: Doors):
    script = doors.script()
    job_id = script.submit()["id"]
    settle(doors, Failed(claim(doors, job_id), Error("ValueError", "no header", "Traceback …")))
    assert script.get(f"/jobs/{job_id}").json["error"] == {
        "type": "ValueError",
        "message": "no header",
        "traceback": "Traceback …",
    }


def test_progress_is_that_of_the_running_attempt(doors: Doors):
    script = doors.script()
    job_id = script.submit()["id"]
    claimed = claim(doors, job_id)
    with doors.session() as session:
        session.add(Progress(job_id=job_id, attempt=claimed.number, current=3, total=10, message="rows"))
        session.commit()
    assert script.get(f"/jobs/{job_id}").json["progress"] == {"current": 3, "total": 10, "message": "rows"}
    settle(doors, RetryLater(claimed, None, 0))
    claim(doors, job_id)
    assert script.get(f"/jobs/{job_id}").json["progress"] is None


@pytest.mark.parametrize(("stored", "shown"), [("{not json", "{not json"), ("NaN", "NaN"), ("[" * 100_000, None)])
def test_a_result_that_is_no_json_is_shown_as_text(doors: Doors, stored, shown):
    script = doors.script()
    job_id = script.submit()["id"]
    settle(doors, Succeeded(claim(doors, job_id), stored))
    assert script.get(f"/jobs/{job_id}").json["result"] == (shown or stored)


def test_secret_parameters_are_masked_by_place_and_name_and_in_texts(doors: Doors, monkeypatch):
    task = doors.app.extensions["celery"].tasks["diagnostics.echo"]
    monkeypatch.setattr(task, "secret_params", ("value",), raising=False)
    script = doors.script()
    assert script.submit(args=["hunter2"])["args"] == ["***"]
    job = script.submit(args=[], kwargs={"value": "hunter2"})
    assert job["kwargs"] == {"value": "***"}
    settle(doors, Failed(claim(doors, job["id"]), Error("E", "hunter2 is wrong", "line 1: hunter2")))
    for path in (f"/jobs/{job['id']}", "/jobs"):
        assert "hunter2" not in script.get(path).text


def test_pages_hold_every_job_once_newest_first(doors: Doors):
    script = doors.script()
    ids = [script.submit(args=[n])["id"] for n in range(7)]
    seen, cursor = [], ""
    while cursor is not None:
        page = script.get(f"/jobs?limit=3&cursor={cursor}").json
        seen += [job["id"] for job in page["items"]]
        cursor = page["next"]
    assert seen == ids[::-1]


def test_pages_survive_many_jobs_of_one_moment(doors: Doors):
    script = doors.script()
    ids = script.post("/jobs/bulk", {"jobs": [{"task": "diagnostics.echo", "args": [1]}] * 9}).json["ids"]
    with doors.session() as session:
        session.execute(update(Job).values(created_at=datetime(2026, 1, 1, tzinfo=UTC)))
        session.commit()
    first = script.get("/jobs?limit=5").json
    second = script.get(f"/jobs?limit=5&cursor={first['next']}").json
    assert sorted(job["id"] for job in first["items"] + second["items"]) == sorted(ids)
    assert second["next"] is None


def test_filters_narrow_the_list(doors: Doors):
    script = doors.script()
    echo, sleep = script.submit(), script.submit("diagnostics.sleep", [1], queue="mail")
    script.post(f"/jobs/{echo['id']}/cancel")

    def ids(query):
        return [job["id"] for job in script.get(f"/jobs?{query}").json["items"]]

    assert ids("state=cancelled") == [echo["id"]]
    assert ids("state=waiting") == [sleep["id"]]
    assert ids("state=waiting&state=cancelled") == [sleep["id"], echo["id"]]
    assert ids("task=diagnostics.sleep") == [sleep["id"]]
    assert ids("queue=mail") == [sleep["id"]]
    assert ids("q=slee") == [sleep["id"]]
    assert ids(f"q={echo['id'][:30]}") == [echo["id"]]
    assert ids("q=%25") == []


@pytest.mark.parametrize(
    "query",
    [
        *("state=done", "limit=0", "limit=201", "limit=x", "limit=-1", "limit=%D9%A3", "task=%00", "q=a%00b"),
        *("cursor=x", "cursor=W10=", "cursor=bnVsbA==", "cursor=%FF", "cursor=WyIyMDI2LTAxLTAxIiwgIngiXQ=="),
        *("cursor=WyIyMDI2LTAxLTAxVDAwOjAwOjAwWiIsIDdd", "cursor=" + "A" * 5000, "queue=" + "q" * 70),
    ],
)
def test_a_query_that_cannot_be_answered_is_refused(doors: Doors, query: str):
    answer = doors.script().get(f"/jobs?{query}")
    assert answer.status_code == 422, answer.text
    assert answer.json["detail"].endswith(".")


# --- whose jobs -------------------------------------------------------------------------------------------


def test_a_viewer_sees_only_their_own_jobs_anywhere(doors: Doors):
    ada, eve = doors.script("ada"), doors.script("eve")
    job = ada.submit(args=["private"])
    settle(doors, Failed(claim(doors, job["id"]), Error("E", "private trouble")))
    for path in (f"/jobs/{job['id']}", "/jobs", "/jobs?q=private", f"/jobs?q={job['id']}", "/jobs?state=failed"):
        answer = eve.get(path)
        assert "private" not in answer.text, path
        assert answer.status_code == 404 or answer.json["items"] == []


@pytest.mark.parametrize("verb", ["cancel", "run-again"])
def test_a_viewer_cannot_steer_the_job_of_another(doors: Doors, verb: str):
    job = doors.script("ada").submit()
    assert doors.script("eve").post(f"/jobs/{job['id']}/{verb}").status_code == 404
    assert doors.script("ada").get(f"/jobs/{job['id']}").json["state"] == "waiting"


@pytest.mark.parametrize("role", ["operator", "admin"])
def test_operators_and_admins_see_and_steer_all(doors: Doors, role: str):
    job = doors.script("ada").submit(args=["x"])
    boss = doors.script("boss", role)
    assert boss.get(f"/jobs/{job['id']}").json["args"] == ["x"]
    assert boss.post(f"/jobs/{job['id']}/cancel").status_code == 202


@pytest.mark.parametrize("job_id", ["nope", "%00", "a" * 200, "' OR 1=1 --", "../stats", "%F0%9F%92%A9"])
def test_ids_of_no_job_are_not_found(doors: Doors, job_id: str):
    answer = doors.script("root", "admin").get(f"/jobs/{job_id}")
    assert answer.status_code == 404
    assert answer.content_type == "application/problem+json"


# --- cancel and run again ---------------------------------------------------------------------------------


def test_cancel_and_run_again_move_a_job_there_and_back(doors: Doors):
    script = doors.script("ada")
    job_id = script.submit()["id"]
    cancelled = script.post(f"/jobs/{job_id}/cancel")
    assert (cancelled.status_code, cancelled.json["state"]) == (202, "cancelled")
    assert cancelled.json["error"]["message"] == "Cancelled by ada."
    again = script.post(f"/jobs/{job_id}/run-again")
    assert (again.status_code, again.json["state"], again.json["error"]) == (202, "waiting", None)


def test_a_final_job_cannot_be_cancelled_and_says_its_state(doors: Doors):
    script = doors.script()
    job_id = script.submit()["id"]
    settle(doors, Succeeded(claim(doors, job_id), "1"))
    answer = script.post(f"/jobs/{job_id}/cancel")
    assert (answer.status_code, answer.json["state"]) == (409, "succeeded")


@pytest.mark.parametrize("state", ["waiting", "running", "succeeded"])
def test_only_failed_and_cancelled_jobs_run_again(doors: Doors, state: str):
    script = doors.script()
    job_id = script.submit()["id"]
    if state != "waiting":
        claimed = claim(doors, job_id)
    if state == "succeeded":
        settle(doors, Succeeded(claimed, "1"))
    answer = script.post(f"/jobs/{job_id}/run-again")
    assert (answer.status_code, answer.json["state"]) == (409, state)


def test_a_job_whose_key_is_held_by_another_says_so(doors: Doors):
    script = doors.script()
    first = script.submit(unique_key="k")
    script.post(f"/jobs/{first['id']}/cancel")
    script.submit(unique_key="k")
    answer = script.post(f"/jobs/{first['id']}/run-again")
    assert (answer.status_code, answer.json["state"]) == (409, "cancelled")
    assert "unique_key" in answer.json["detail"]


def test_what_was_submitted_really_runs(doors: Doors):
    script = doors.script()
    job_id = script.submit(args=[{"a": [1, 2]}])["id"]
    with doors.app.app_context():
        run_due_jobs()
    job = script.get(f"/jobs/{job_id}").json
    assert (job["state"], job["result"], job["attempt"]) == ("succeeded", {"a": [1, 2]}, 1)


# --- Idempotency-Key --------------------------------------------------------------------------------------

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


# --- queues, schedules, workers ---------------------------------------------------------------------------


def test_queues_show_what_stands_in_them(doors: Doors):
    script = doors.script()
    script.submit()
    queues = {queue["name"]: queue for queue in script.get("/queues").json["items"]}
    assert set(queues) == {"default", "uploads", "mail", "query"}
    assert (queues["default"]["waiting"], queues["mail"]["waiting"]) == (1, 0)
    assert queues["default"]["paused_at"] is None


def test_an_operator_pauses_and_resumes_a_queue(doors: Doors):
    boss = doors.script("boss", "operator")
    for _ in range(2):
        assert boss.post("/queues/mail/pause").json["paused_at"] is not None
    for _ in range(2):
        assert boss.post("/queues/mail/resume").json["paused_at"] is None
    with doors.session() as session:
        actions = session.scalars(select(AuditEntry.action).where(AuditEntry.subject == "mail")).all()
    assert actions == ["queue.pause", "queue.resume"]


def test_a_viewer_cannot_pause_a_queue(doors: Doors):
    answer = doors.script().post("/queues/mail/pause")
    assert answer.status_code == 403
    assert "needs the role operator" in answer.json["detail"]


def test_a_queue_that_does_not_exist_cannot_be_paused(doors: Doors):
    boss = doors.script("boss", "operator")
    for name in ("nope", "%00", "x" * 100):
        assert boss.post(f"/queues/{name}/pause").status_code == 404


def test_workers_are_those_whose_heart_beats(doors: Doors):
    script = doors.script()
    with doors.session() as session:
        session.add(Worker(id="w1", kind="worker", host="h", pid=7, queues="default,mail", holds='{"a": 1}'))
        long_ago = datetime.now(UTC) - timedelta(hours=1)
        session.add(Worker(id="w2", kind="worker", host="h", pid=8, heartbeat_at=long_ago))
        session.commit()
    (worker,) = script.get("/workers").json["items"]
    assert (worker["id"], worker["queues"], worker["jobs"]) == ("w1", ["default", "mail"], 1)


def test_schedules_are_listed(doors: Doors):
    assert isinstance(doors.script().get("/schedules").json["items"], list)


# --- who asks, and how ------------------------------------------------------------------------------------


def test_without_a_token_the_answer_is_a_problem_that_says_how(doors: Doors):
    answer = doors.browser().get("/api/v1/jobs")
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    assert answer.content_type == "application/problem+json"
    assert answer.json["title"] == "Unauthorized"


@pytest.mark.parametrize("header", ["Bearer", "Bearer ", "Bearer x y", "Basic YTpi", "Bearer \u00ff", "bearer nope"])
def test_a_header_that_is_no_token_is_refused(doors: Doors, header: str):
    assert doors.browser().get("/api/v1/jobs", headers={"Authorization": header}).status_code == 401


def test_a_browser_session_may_read_and_with_the_csrf_token_change(doors: Doors):
    browser = doors.signed_in()
    assert browser.get("/api/v1/jobs").status_code == 200
    refused = browser.post("/api/v1/jobs", json=ECHO)
    assert refused.status_code == 400
    assert "X-CSRFToken" in refused.json["detail"]
    headers = {"X-CSRFToken": csrf_of(browser, "/account")}
    assert browser.post("/api/v1/jobs", json=ECHO, headers=headers).status_code == 202


def test_what_is_not_there_and_what_is_not_allowed_are_problems(doors: Doors):
    script = doors.script()
    missing = script.get("/nothing")
    wrong = script.client.delete("/api/v1/jobs", headers={"Authorization": f"Bearer {script.token}"})
    assert (missing.status_code, missing.content_type) == (404, "application/problem+json")
    assert (wrong.status_code, wrong.content_type) == (405, "application/problem+json")
    assert "POST" in wrong.headers["Allow"]
    assert "POST" in wrong.json["detail"]


def test_an_error_of_our_own_is_a_problem_without_its_inside(doors: Doors, monkeypatch):
    doors.app.config["PROPAGATE_EXCEPTIONS"] = False
    monkeypatch.setattr("flaskapp.jobs.queries.account", lambda _: 1 / 0)
    answer = doors.script().get("/stats")
    assert (answer.status_code, answer.content_type) == (500, "application/problem+json")
    assert "Zero" not in answer.text


def test_a_database_that_does_not_answer_is_a_503_and_no_job(doors: Doors, monkeypatch):
    from sqlalchemy.exc import OperationalError

    def locked(*_args, **_kwargs):
        raise OperationalError("INSERT", {}, Exception("database is locked"))

    script = doors.script()
    monkeypatch.setattr("flaskapp.jobs.lifecycle.submit", locked)
    answer = script.post("/jobs", ECHO)
    assert answer.status_code == 503
    assert answer.headers["Retry-After"] == "5"
    assert "INSERT" not in answer.text


def test_changes_over_the_api_are_in_the_audit_log(doors: Doors):
    script = doors.script("ada")
    job_id = script.submit()["id"]
    script.post(f"/jobs/{job_id}/cancel")
    with doors.session() as session:
        written = session.execute(
            select(AuditEntry.account, AuditEntry.action, AuditEntry.address).where(AuditEntry.subject == job_id)
        ).all()
    assert written == [("ada", "job.submit", "127.0.0.1"), ("ada", "job.cancel", "127.0.0.1")]


def test_nothing_is_left_of_a_request_that_fails_half_way(doors: Doors, monkeypatch):
    monkeypatch.setattr("flaskapp.api.jobs._answer_job", lambda *_: 1 / 0)
    doors.app.config["PROPAGATE_EXCEPTIONS"] = False
    assert doors.script().post("/jobs", ECHO, headers={"Idempotency-Key": "k"}).status_code == 500
    with doors.session() as session:
        for table in (Job, Tally, Attempt, IdempotencyKey):
            assert session.scalar(select(func.count()).select_from(table)) == 0


def test_the_answer_is_plain_json(doors: Doors):
    answer = doors.script().get("/jobs")
    assert answer.content_type == "application/json"
    assert json.loads(answer.data) == {"items": [], "next": None}
