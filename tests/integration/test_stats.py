"""The account for people and scripts: the books, and SQL against the broker."""

import json
import re
from typing import Any

from flask.testing import FlaskClient
from sqlalchemy import delete, insert
from sqlalchemy.orm import Session

from flaskapp.jobs import comparing, lost
from flaskapp.jobs.clock import now, seconds_from_now
from flaskapp.jobs.models import Job, Probe, Worker
from tests.helpers import wait_until
from tests.integration.windows_fixtures import Site
from tests.makers import queued


def gauge(client: FlaskClient, name: str) -> str:
    """The text of one gauge of the home page."""
    found = re.search(rf"<h2>{name}</h2>(.*?)</div>", client.get("/").text, re.DOTALL)
    assert found is not None, f"no gauge {name}"
    return re.sub(r"\s+", " ", found[1])


def probe(site: Site, **values: Any) -> None:
    site.write(insert(Probe).values({"queue": "default", **values}))


# --- the books --------------------------------------------------------------------------------------------


def test_a_row_deleted_by_hand_raises_the_alarm(site: Site, operator: FlaskClient) -> None:
    kept, gone = site.job("succeeded"), site.job("succeeded")
    script = site.script("olga", "operator")
    assert script.get("/stats").json["drift"] == 0
    assert "good" in gauge(operator, "Drift")

    site.write(delete(Job).where(Job.id == gone))

    assert script.get("/stats").json["drift"] == 1
    alarm = gauge(operator, "Drift")
    assert 'gauge-figure bad">1<' in alarm
    assert "deleted by hand" in alarm
    assert "Compare with the last backup" in alarm
    assert kept


def test_a_row_added_by_hand_raises_it_too(site: Site, operator: FlaskClient) -> None:
    site.write(insert(Job).values(id="by hand", task="diagnostics.echo", queue="default"))
    assert site.script("olga", "operator").get("/stats").json["drift"] == -1
    assert "added by hand" in gauge(operator, "Drift")


# --- SQL against the broker -------------------------------------------------------------------------------


def test_both_counts_are_told_apart(session: Session) -> None:
    held, *_ = [queued(session) for _ in range(5)]
    queued(session, queue="mail")
    row = {"id": "w", "kind": "worker", "host": "h", "pid": 1, "unclaimed": json.dumps([held, "not a job"])}
    session.execute(insert(Worker).values(row))

    comparing.note_counts(session, {"default": 3, "query": None})

    found = {queue.queue: (queue.queued, queue.messages, queue.gap) for queue in comparing.compare(session)}
    assert found == {"default": (5, 3, 1), "mail": (1, None, None), "query": (0, None, None)}


def test_a_probe_in_line_is_no_spare_message(session: Session) -> None:
    queued(session)
    number = lost.begin(session, "default")
    comparing.note_counts(session, {"default": 2})
    assert [queue.gap for queue in comparing.compare(session)] == [0]
    lost.see(session, "default", number or 0)
    comparing.note_counts(session, {"default": 1})
    assert [queue.gap for queue in comparing.compare(session)] == [0]


def test_a_script_reads_what_was_lost_and_when(site: Site) -> None:
    probe(site, messages=3, gap=2, answered_at=now(), lost=1, lost_ids='["abc"]', looked_at=now())
    (found,) = site.script("olga", "operator").get("/stats").json["broker"]
    assert {name: found[name] for name in ("queue", "queued", "messages", "gap", "lost", "lost_ids")} == {
        "queue": "default",
        "queued": 0,
        "messages": 3,
        "gap": 2,
        "lost": 1,
        "lost_ids": ["abc"],
    }
    assert found["answered_at"]
    assert found["looked_at"]


def test_a_viewer_sees_numbers_and_no_ids_of_others(site: Site) -> None:
    probe(site, lost=1, lost_ids='["abc"]', looked_at=now())
    (found,) = site.script("vera").get("/stats").json["broker"]
    assert (found["lost"], found["lost_ids"]) == (1, [])


def test_the_home_page_says_how_the_broker_is(site: Site, operator: FlaskClient) -> None:
    assert "No beat has asked" in gauge(operator, "Lost messages")
    probe(site, messages=1234, answered_at=now())
    assert "0 queued in SQL, 1,234 at the broker" in gauge(operator, "Lost messages")


def test_the_home_page_names_what_was_lost(site: Site, operator: FlaskClient) -> None:
    job_id = site.job("queued")
    probe(site, answered_at=now(), lost=7, lost_ids=json.dumps([job_id]), looked_at=now())
    alarm = gauge(operator, "Lost messages")
    assert 'bad">7<' in alarm
    assert f"/jobs/{job_id}" in alarm
    assert "sent again" in alarm


def test_a_loss_of_yesterday_is_no_alarm(site: Site, operator: FlaskClient) -> None:
    probe(site, answered_at=now(), lost=7, lost_ids='["abc"]', looked_at=seconds_from_now(-86400))
    assert 'good">0<' in gauge(operator, "Lost messages")


def test_a_broker_that_does_not_answer_is_an_alarm_with_its_age(site: Site, operator: FlaskClient) -> None:
    probe(site, messages=3, answered_at=seconds_from_now(-300))
    assert "5 min ago" in wait_until(lambda: gauge(operator, "Lost messages"), 5, "the gauge")


def test_a_viewer_has_no_such_gauges(site: Site) -> None:
    page = site.signed_in("vera").get("/").text
    assert "Drift" not in page
    assert "Lost messages" not in page
