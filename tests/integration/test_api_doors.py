"""Who may ask the API and how; queues, schedules and workers; and what an error of ours shows."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import func, select

from flaskapp.accounts.models import AuditEntry
from flaskapp.api.models import IdempotencyKey
from flaskapp.jobs.models import Attempt, Job, Tally, Worker
from tests.integration.doors_fixtures import Doors, csrf_of

ECHO = {"task": "diagnostics.echo", "args": [1]}


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
