"""Limits by every door: the API, the command line and the page of queues; who may, what is refused, what is noted."""

from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import select

from flaskapp.accounts.models import AuditEntry
from flaskapp.jobs import control
from flaskapp.jobs.limits import Rule
from flaskapp.jobs.models import Job
from tests.integration.doors_fixtures import Doors, csrf_of
from tests.integration.windows_fixtures import Site

BOTH = {"max_running": 2, "rate": {"count": 10, "seconds": 60}}


def noted(doors: Doors) -> list[tuple[str, str, str]]:
    with doors.session() as session:
        rows = session.scalars(select(AuditEntry).order_by(AuditEntry.id))
        entries = [(row.action, row.subject, row.detail) for row in rows]
    return [entry for entry in entries if entry[0].startswith(("queue.", "limit.", "console."))]


# --- the API ----------------------------------------------------------------------------------------------


def test_a_limit_is_set_shown_listed_and_taken_away(doors: Doors):
    boss = doors.script("boss", "operator")
    boss.submit(limit_key="customer/7")

    set_ = boss.ask("put", "/limits/customer/7", BOTH)

    expected = {"key": "customer/7", **BOTH, "waiting": 1, "queued": 0, "running": 0}
    assert (set_.status_code, set_.json) == (200, expected)
    assert boss.get("/limits/customer/7").json == expected
    assert boss.get("/limits").json == {"items": [expected]}
    assert boss.ask("delete", "/limits/customer/7").json == expected | {"max_running": None, "rate": None}
    assert boss.get("/limits/customer/7").status_code == 404
    assert boss.ask("delete", "/limits/customer/7").status_code == 404
    words = "at most 2 at a time, 10 a minute"
    assert noted(doors) == [("limit.set", "customer/7", words), ("limit.remove", "customer/7", words)]


def test_setting_a_limit_sets_the_whole_of_it(doors: Doors):
    boss = doors.script("boss", "operator")
    boss.ask("put", "/limits/k", BOTH)

    assert boss.ask("put", "/limits/k", {"max_running": 3}).json["rate"] is None


def test_the_limits_of_a_queue_are_set_and_shown_with_it(doors: Doors):
    boss = doors.script("boss", "operator")

    answer = boss.post("/queues/mail/limits", BOTH)

    assert answer.status_code == 200
    assert {name: answer.json[name] for name in BOTH} == BOTH
    mail = next(queue for queue in boss.get("/queues").json["items"] if queue["name"] == "mail")
    assert {name: mail[name] for name in BOTH} == BOTH
    assert boss.post("/queues/mail/limits", {}).json["max_running"] is None
    assert boss.post("/queues/nope/limits", BOTH).status_code == 404
    assert noted(doors) == [
        ("queue.limits", "mail", "at most 2 at a time, 10 a minute"),
        ("queue.limits", "mail", "none"),
    ]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("get", "/limits"),
        ("get", "/limits/k"),
        ("put", "/limits/k"),
        ("delete", "/limits/k"),
        ("post", "/queues/mail/limits"),
    ],
)
def test_limits_are_for_operators(doors: Doors, method: str, path: str):
    assert doors.script().ask(method, path, None if method == "get" else BOTH).status_code == 403


@pytest.mark.parametrize("method", ["put", "delete"])
def test_a_session_needs_the_csrf_token_to_change_a_limit(doors: Doors, method: str):
    browser = doors.signed_in("boss", "operator")
    answer = browser.open("/api/v1/limits/k", method=method, json=BOTH)
    assert answer.status_code == 400
    assert "X-CSRFToken" in answer.json["detail"]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({}, "DELETE takes a limit away"),
        ({"max_running": 0}, "max_running must be a whole number from 1"),
        ({"max_running": True}, "max_running must be a whole number"),
        ({"rate": 10}, "rate must be an object"),
        ({"rate": {"count": 10}}, "rate.seconds must be a number"),
        ({"rate": {"seconds": 10}}, "rate.count is missing"),
        ({"rate": {"count": 1, "seconds": 0}}, "rate.seconds must be a number from 0.001"),
        ({"rate": {"count": 1, "seconds": 1, "burst": 2}}, "'burst' is not a field here"),
        ({"running": 1}, "'running' is not a field here"),
    ],
)
def test_what_cannot_be_a_limit_is_refused_with_a_sentence(doors: Doors, body: Any, words: str):
    answer = doors.script("boss", "operator").ask("put", "/limits/k", body)
    assert answer.status_code == 422
    assert words in answer.json["detail"]


def test_a_jobs_key_is_kept_and_shown(doors: Doors):
    script = doors.script()
    job = script.submit(limit_key="customer-7")
    assert script.get(f"/jobs/{job['id']}").json["limit_key"] == "customer-7"
    (one,) = script.post("/jobs/bulk", {"jobs": [{"task": "diagnostics.echo", "args": [1], "limit_key": "k"}]}).json[
        "ids"
    ]
    assert script.get(f"/jobs/{one}").json["limit_key"] == "k"
    assert script.post("/jobs", {"task": "diagnostics.echo", "limit_key": ""}).status_code == 422


def test_the_relay_is_woken_when_there_may_be_room(doors: Doors):
    nudges = []
    doors.app.extensions["celery"].relay.nudge = lambda: nudges.append(1)
    boss = doors.script("boss", "operator")
    job_id = boss.submit()["id"]
    for act in (
        lambda: boss.post("/queues/mail/limits", {"max_running": 9}),
        lambda: boss.ask("put", "/limits/k", BOTH),
        lambda: boss.ask("delete", "/limits/k"),
        lambda: boss.post(f"/jobs/{job_id}/cancel"),
        lambda: boss.post(f"/jobs/{job_id}/run-again"),
        lambda: (boss.post("/queues/mail/pause"), boss.post("/queues/mail/resume")),
    ):
        nudges.clear()
        act()
        assert nudges == [1]


# --- the command line -------------------------------------------------------------------------------------


def test_limits_are_set_from_a_shell(doors: Doors):
    assert doors.run("jobs", "limit", "customer-7", "--running", "2", "--rate", "10/60").stdout == (
        "customer-7: at most 2 at a time, 10 a minute\n"
    )
    assert doors.run("jobs", "limit", "--queue", "mail", "--running", "1").stdout == "mail: at most 1 at a time\n"
    assert doors.run("jobs", "limit").stdout == (
        "queue mail: at most 1 at a time\ncustomer-7: at most 2 at a time, 10 a minute\n"
    )
    assert doors.run("jobs", "limit", "customer-7", "--remove").stdout == "customer-7: no limit\n"
    assert doors.run("jobs", "limit", "--queue", "mail", "--remove").stdout == "mail: no limit\n"
    assert [entry[:2] for entry in noted(doors)] == [
        ("limit.set", "customer-7"),
        ("queue.limits", "mail"),
        ("limit.set", "customer-7"),
        ("queue.limits", "mail"),
    ]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["k", "--rate", "ten"], "A rate is written COUNT/SECONDS"),
        (["k", "--rate", "10/nan"], "rate.seconds must be a number"),
        (["k", "--running", "0"], "max_running must be a whole number"),
        (["--running", "1"], "Name a key or a queue"),
        (["k", "--queue", "mail", "--running", "1"], "Name a key or a queue"),
        (["k", "--remove", "--running", "1"], "--remove takes the whole limit away"),
    ],
)
def test_a_refused_limit_says_why(doors: Doors, words: list[str], sentence: str):
    done = doors.run("jobs", "limit", *words)
    assert (done.exit_code, done.stdout) == (1, "")
    assert sentence in done.stderr


def test_a_job_with_a_limit_key_is_submitted_from_a_shell(doors: Doors):
    done = doors.run("jobs", "submit", "diagnostics.echo", "--args", "[1]", "--limit-key", "k")
    with doors.session() as session:
        assert session.get_one(Job, done.stdout.strip()).limit_key == "k"


# --- the page ---------------------------------------------------------------------------------------------


def steer(browser: FlaskClient, **fields: str) -> str:
    fields["csrf_token"] = csrf_of(browser, "/queues")
    return browser.post("/queues/steer", data=fields, follow_redirects=True).text


def test_an_operator_steers_a_queue_on_its_page(site: Site, operator: FlaskClient):
    page = steer(operator, queue="mail", verb="limits", max_running="2", count="10", seconds="60")
    assert "The queue mail: at most 2 at a time, 10 a minute." in page
    assert '<span class="limit">at most 2 at a time, 10 a minute</span>' in operator.get("/queues").text
    assert "is paused" in steer(operator, queue="mail", verb="pause")
    assert "goes on" in steer(operator, queue="mail", verb="resume")
    assert "no limit" in steer(operator, queue="mail", verb="limits")
    assert noted(site) == [
        ("queue.limits", "mail", "at most 2 at a time, 10 a minute"),
        ("queue.pause", "mail", ""),
        ("queue.resume", "mail", ""),
        ("queue.limits", "mail", "none"),
    ]


@pytest.mark.parametrize("max_running", ["0", "two", "1.5", "[]"])
def test_the_page_says_what_cannot_be_a_limit(site: Site, operator: FlaskClient, max_running: str):
    page = steer(operator, queue="mail", verb="limits", max_running=max_running)
    assert "max_running must be a whole number" in page
    assert noted(site) == []


def test_a_viewer_is_offered_no_steering(site: Site):
    viewer = site.signed_in("vera")
    assert "Steer a queue" not in viewer.get("/queues").text
    token = csrf_of(viewer, "/account")
    assert viewer.post("/queues/steer", data={"queue": "mail", "verb": "pause", "csrf_token": token}).status_code == 403


def test_steering_needs_the_token_of_its_page_and_a_queue_that_exists(site: Site, operator: FlaskClient):
    assert operator.post("/queues/steer", data={"queue": "mail", "verb": "pause"}).status_code == 400
    token = csrf_of(operator, "/queues")
    for fields in ({"queue": "nope", "verb": "pause"}, {"queue": "mail", "verb": "burn"}):
        assert operator.post("/queues/steer", data={**fields, "csrf_token": token}).status_code == 404


def test_the_page_lists_the_limits_of_keys_for_operators(site: Site, operator: FlaskClient):
    with site.session() as session, session.begin():
        control.set_limit(session, "<b>customer</b>", Rule(max_running=2))
    assert "<code>&lt;b&gt;customer&lt;/b&gt;</code> at most 2 at a time" in operator.get("/queues").text
    assert "customer" not in site.signed_in("vera").get("/queues").text


def test_a_jobs_page_names_its_limit_key(site: Site, operator: FlaskClient):
    job_id = site.job(limit_key="customer-7")
    assert "<code>customer-7</code>" in operator.get(f"/jobs/{job_id}").text
