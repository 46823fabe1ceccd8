"""Steering a queue by every door: page, API and command; and the way from a job to its queue."""

import re

import pytest
from flask.testing import FlaskClient
from sqlalchemy import select

from flaskapp.accounts.models import AuditEntry
from tests.integration.doors_fixtures import csrf_of
from tests.integration.windows_fixtures import Site


def standing(site: Site, name: str = "mail") -> str:
    listed = site.run("queues", "list").stdout
    return next(line.split()[-1] for line in listed.splitlines() if line.startswith(name))


def noted(site: Site) -> list[tuple[str, str]]:
    with site.session() as session:
        rows = session.execute(select(AuditEntry.action, AuditEntry.subject).order_by(AuditEntry.id)).all()
    return [tuple(row) for row in rows if row[0].startswith("queue.")]


def press(browser: FlaskClient, queue: str, label: str) -> str:
    """Press a button of a queue's row, as a browser would: it names its form and its address."""
    page = browser.get("/queues").text
    button = re.search(rf'<button [^>]*formaction="([^"]+)"[^>]*value="(\w+)"[^>]*aria-label="{label}: {queue}"', page)
    assert button, f"there is no button {label} for {queue}"
    form = {"csrf_token": csrf_of(browser, "/queues"), "verb": button[2]}
    answer = browser.post(button[1].replace("&amp;", "&"), data=form, follow_redirects=True)
    assert answer.status_code == 200
    return answer.text


def test_the_buttons_of_a_row_pause_drain_and_resume(site: Site, operator: FlaskClient) -> None:
    site.job("queued", queue="mail")

    assert "is draining: what is at the broker finishes" in press(operator, "mail", "Drain")
    assert "draining, 1 left" in operator.get("/queues").text
    assert "is paused" in press(operator, "mail", "Pause")
    assert standing(site) == "paused"
    assert "goes on" in press(operator, "mail", "Resume")
    assert standing(site) == "running"
    assert noted(site) == [("queue.drain", "mail"), ("queue.pause", "mail"), ("queue.resume", "mail")]


def test_a_drained_queue_says_so(site: Site, operator: FlaskClient) -> None:
    site.job("waiting", queue="mail")
    press(operator, "mail", "Drain")

    assert "drained; new work waits" in operator.get("/queues").text
    assert standing(site) == "drained"


def test_the_live_part_holds_no_token_and_its_buttons_belong_to_a_form_outside(
    site: Site, operator: FlaskClient
) -> None:
    part, page = operator.get("/queues?part=list").text, operator.get("/queues").text

    assert "csrf_token" not in part
    assert 'form="queue-steer"' in part
    assert '<form id="queue-steer" method="post"' in page


def test_a_viewer_has_no_buttons(site: Site) -> None:
    viewer = site.signed_in("vera")

    assert "queue-steer" not in viewer.get("/queues").text
    form = {"csrf_token": csrf_of(viewer, "/account"), "verb": "drain"}
    assert viewer.post("/queues/steer?queue=mail", data=form).status_code == 403
    assert site.script("vera").post("/queues/mail/drain").status_code == 403


def test_the_api_drains_a_queue_once(site: Site) -> None:
    boss = site.script("olga", "operator")

    first = boss.post("/queues/mail/drain").json
    assert (first["draining_at"] is not None, first["drained"]) == (True, True)
    assert boss.post("/queues/mail/drain").json["draining_at"] == first["draining_at"]
    assert boss.post("/queues/mail/resume").json["draining_at"] is None
    assert noted(site) == [("queue.drain", "mail"), ("queue.resume", "mail")]
    assert boss.post("/queues/nope/drain").status_code == 404


def test_the_command_steers_and_lists(site: Site) -> None:
    site.job("waiting", queue="mail")
    for verb, said, then in (
        ("pause", "is paused", "paused"),
        ("drain", "is draining", "drained"),
        ("resume", "runs", "running"),
    ):
        assert site.run("queues", verb, "mail").stdout == f"Queue mail {said}.\n"
        assert standing(site) == then
    assert noted(site) == [("queue.pause", "mail"), ("queue.drain", "mail"), ("queue.resume", "mail")]
    listed = site.run("queues", "list").stdout.splitlines()
    assert listed[0].split() == ["NAME", "WAITING", "QUEUED", "RUNNING", "READY", "UNACKED", "CONSUMERS", "STANDING"]
    assert ["mail", "1", "0", "0", "-", "-", "-", "running"] in [line.split() for line in listed]


@pytest.mark.parametrize("verb", ["pause", "drain", "resume"])
def test_a_queue_that_does_not_exist_is_refused(site: Site, verb: str) -> None:
    refused = site.run("queues", verb, "nope")

    assert refused.exit_code == 1
    assert "There is no queue 'nope'" in refused.output


def test_a_job_leads_to_its_queue(site: Site, operator: FlaskClient) -> None:
    job_id = site.job("queued", queue="mail")

    assert 'href="/queues#queue-mail"' in operator.get(f"/jobs/{job_id}").text
    assert 'id="queue-mail"' in operator.get("/queues").text


def test_the_page_and_the_api_say_how_many_ended(site: Site, operator: FlaskClient) -> None:
    for _ in range(3):
        site.job("succeeded", age=5, queue="mail")
    site.job("succeeded", age=600, queue="mail")

    row = operator.get("/queues").text.split('id="queue-mail"')[1]
    assert "3 ended in the last minute" in row
    ended = {one["name"]: one["ended_last_minute"] for one in site.script().get("/queues").json["items"]}
    assert ended == {"default": 0, "mail": 3, "query": 0, "uploads": 0}
