"""The API's contract: what scripts send, what they get, and who may see it."""

from datetime import UTC, datetime

import pytest
from sqlalchemy import update

from flaskapp.jobs import lifecycle
from flaskapp.jobs.models import Job, Progress
from flaskapp.jobs.outcomes import Error, Failed, Hint, RetryLater, Succeeded
from flaskapp.worker.testing import run_due_jobs
from tests.integration.doors_fixtures import Doors


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
