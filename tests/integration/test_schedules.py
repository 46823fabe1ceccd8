"""Schedules through the doors: API, page and command line, without a beat at hand."""

from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

import pytest
from sqlalchemy import insert, select, update

from flaskapp.accounts.models import AuditEntry
from flaskapp.jobs.models import Firing, Job, Schedule, Worker
from flaskapp.worker.schedules import Schedules
from tests.integration.windows_fixtures import Site, press

NAME = "reports/monthly & daily"
ENTRY = {"task": "diagnostics.echo", "schedule": 3600, "args": ("x",), "options": {"queue": "mail"}}


@pytest.fixture
def rhythm(site: Site) -> str:
    """The address of a schedule that a beat has seen; that beat is gone."""
    celery = site.app.extensions["celery"]
    celery.conf.beat_schedule = {NAME: ENTRY}
    with site.session() as session:
        Schedules(celery).fire_due(session)
    celery.conf.beat_schedule = {}
    return quote(NAME, safe="")


def change(site: Site, **values: Any) -> None:
    site.write(update(Schedule).values(values))


def shown(site: Site) -> dict[str, Any]:
    (item,) = site.script("olga", "operator").get("/schedules").json["items"]
    return item


def actions(site: Site) -> list[str]:
    with site.session() as session:
        return list(session.scalars(select(AuditEntry.action).where(AuditEntry.subject == NAME)))


def history(site: Site) -> None:
    """One time that became a job, and three that did not."""
    at = datetime.now(UTC) - timedelta(hours=4)
    reason = "no beat was running between 08:12 and 09:40 (missed = skip)"
    site.write(
        insert(Firing).values(schedule=NAME, due_at=at, outcome="fired", job_id="j"),
        insert(Firing).values(
            schedule=NAME,
            due_at=at + timedelta(hours=1),
            until_at=at + timedelta(hours=3),
            times=3,
            outcome="missed",
            reason=reason,
        ),
    )


# --- the API ----------------------------------------------------------------------------------------------


def test_a_schedule_shows_its_rhythm_its_policies_and_its_times(site: Site, rhythm: str) -> None:
    item = shown(site)
    assert item | {"next_due_at": "soon"} == {
        "name": NAME,
        "task": "diagnostics.echo",
        "rhythm": "every 3600 s",
        "timezone": "UTC",
        "missed": "latest",
        "overlap": "allow",
        "last_due_at": None,
        "next_due_at": "soon",
        "paused": False,
        "paused_at": None,
        "paused_by": None,
        "gone_at": None,
        "problem": None,
        "last_job_id": None,
        "last_job_state": None,
        "firings": [],
    }
    assert datetime.fromisoformat(item["next_due_at"]) > datetime.now(UTC)


def test_run_now_answers_the_job_and_moves_no_due_time(site: Site, rhythm: str) -> None:
    before = shown(site)
    answer = site.script("olga", "operator").post(f"/schedules/{rhythm}/run")

    job, after = answer.json, shown(site)
    assert answer.status_code == 202
    assert (job["schedule"], job["queue"], job["args"], job["owner"]) == (NAME, "mail", ["x"], "olga")
    assert abs((datetime.fromisoformat(job["run_at"]) - datetime.now(UTC)).total_seconds()) < 30
    assert (after["last_job_id"], after["last_job_state"]) == (job["id"], "waiting")
    assert (after["last_due_at"], after["next_due_at"]) == (before["last_due_at"], before["next_due_at"])
    assert [(one["outcome"], one["job_id"], one["due_at"]) for one in after["firings"]] == [("asked", job["id"], None)]
    assert actions(site) == ["schedule.run"]


def test_what_is_run_now_leaves_with_the_commit(site: Site, rhythm: str, monkeypatch: pytest.MonkeyPatch) -> None:
    nudges: list[int] = []
    monkeypatch.setattr(site.app.extensions["celery"].relay, "nudge", lambda: nudges.append(1))
    site.script("olga", "operator").post(f"/schedules/{rhythm}/run")
    assert nudges == [1]


def test_run_now_twice_with_one_key_makes_one_job(site: Site, rhythm: str) -> None:
    script = site.script("olga", "operator")
    ids = {script.post(f"/schedules/{rhythm}/run", headers={"Idempotency-Key": "k"}).json["id"] for _ in range(2)}
    assert len(ids) == 1


def test_a_schedule_is_paused_and_resumed_as_often_as_one_likes(site: Site, rhythm: str) -> None:
    script = site.script("olga", "operator")
    for _ in range(2):
        paused = script.post(f"/schedules/{rhythm}/pause").json
        assert (paused["paused"], paused["paused_by"], paused["next_due_at"]) == (True, "olga", None)
    for _ in range(2):
        assert script.post(f"/schedules/{rhythm}/resume").json["paused"] is False
    assert actions(site) == ["schedule.pause", "schedule.resume"]


def test_why_it_did_not_run_stands_in_the_list(site: Site, rhythm: str) -> None:
    history(site)
    missed, fired = shown(site)["firings"]
    assert (missed["outcome"], missed["times"], fired["outcome"], fired["job_id"]) == ("missed", 3, "fired", "j")
    assert missed["reason"].startswith("no beat was running between ")


@pytest.mark.parametrize("verb", ["run", "pause", "resume", "remove"])
def test_a_viewer_may_look_but_not_touch(site: Site, rhythm: str, verb: str) -> None:
    script = site.script("vera", "viewer")
    assert script.get("/schedules").status_code == 200
    assert script.post(f"/schedules/{rhythm}/{verb}").status_code == 403
    assert press(site.signed_in("vera"), "/account", f"/schedules/{rhythm}/{verb}").status_code == 403
    assert shown(site)["paused"] is False


@pytest.mark.parametrize("verb", ["run", "pause", "resume", "remove"])
def test_a_schedule_that_is_not_there_is_not_found(site: Site, verb: str) -> None:
    assert site.script("olga", "operator").post(f"/schedules/nope/{verb}").status_code == 404


def test_what_cannot_run_says_why(site: Site, rhythm: str) -> None:
    script = site.script("olga", "operator")
    for values, sentence in (
        ({"wish": None}, "start a beat"),
        ({"problem": "Schedule 'x': missed must be 'skip'."}, "missed must be"),
        ({"gone_at": datetime.now(UTC)}, "its entry is gone from beat_schedule.py"),
    ):
        change(site, **values)
        answer = script.post(f"/schedules/{rhythm}/run")
        assert (answer.status_code, sentence in answer.json["detail"]) == (409, True)


def test_only_a_schedule_that_is_gone_can_be_removed(site: Site, rhythm: str) -> None:
    script = site.script("olga", "operator")
    refused = script.post(f"/schedules/{rhythm}/remove")
    assert (refused.status_code, "Take its entry out first" in refused.json["detail"]) == (409, True)
    change(site, gone_at=datetime.now(UTC))
    assert script.post(f"/schedules/{rhythm}/remove").status_code == 200
    assert script.get("/schedules").json["items"] == []


# --- the page ---------------------------------------------------------------------------------------------


def test_the_buttons_of_the_page_do_what_they_say(site: Site, rhythm: str) -> None:
    boss = site.signed_in("olga", "operator")
    assert "Paused: it makes no jobs." in press(boss, "/schedules", f"/schedules/{rhythm}/pause").text
    assert "Paused by olga: it makes no jobs." in boss.get("/schedules").text
    assert "Nothing to change" in press(boss, "/schedules", f"/schedules/{rhythm}/pause").text
    assert "Resumed, from now on" in press(boss, "/schedules", f"/schedules/{rhythm}/resume").text
    assert "diagnostics.echo" in press(boss, "/schedules", f"/schedules/{rhythm}/run").text
    with site.session() as session:
        assert [job.schedule for job in session.scalars(select(Job))] == [NAME]
    assert actions(site) == ["schedule.pause", "schedule.resume", "schedule.run"]


def test_the_page_says_why_it_did_not_run(site: Site, rhythm: str) -> None:
    history(site)
    text = site.signed_in("vera").get("/schedules").text
    assert "Not run 3 times: no beat was running between 08:12 and 09:40 (missed = skip)." in text
    assert "No beat and no worker is running" in text
    assert "Run now" not in text


def test_the_page_shows_what_is_wrong_and_what_is_gone(site: Site, rhythm: str) -> None:
    boss = site.signed_in("olga", "operator")
    site.write(insert(Worker).values(id="b", kind="beat", host="h", pid=1))
    assert "No beat" not in boss.get("/schedules").text
    change(site, problem="Schedule 'x': missed must be 'skip'.")
    assert "missed must be" in boss.get("/schedules?part=list").text
    change(site, gone_at=datetime.now(UTC))
    assert "Its entry is gone from beat_schedule.py" in boss.get("/schedules").text
    assert "Removed, with its history." in press(boss, "/schedules", f"/schedules/{rhythm}/remove").text


def test_a_button_without_its_token_does_nothing(site: Site, rhythm: str) -> None:
    boss = site.signed_in("olga", "operator")
    assert boss.post(f"/schedules/{rhythm}/pause").status_code == 400
    assert shown(site)["paused"] is False


# --- the command line -------------------------------------------------------------------------------------


def test_the_command_line_steers_a_schedule_and_says_why(site: Site, rhythm: str) -> None:
    history(site)
    assert "every 3600 s" in site.run("schedules", "list").output
    assert site.run("schedules", "pause", NAME).output == f"Schedule {NAME} is paused.\n"
    why = site.run("schedules", "why", NAME).output
    assert why.startswith("Paused by the command line: it makes no jobs.\n")
    assert "Not run 3 times: no beat was running" in why
    assert site.run("schedules", "resume", NAME).output == f"Schedule {NAME} runs.\n"
    job_id = site.run("schedules", "run", NAME).output.strip()
    with site.session() as session:
        assert [job.id for job in session.scalars(select(Job))] == [job_id]
    assert actions(site) == ["schedule.pause", "schedule.resume", "schedule.run"]


def test_the_command_line_refuses_in_a_sentence(site: Site, rhythm: str) -> None:
    for words, sentence in (
        (("pause", "nope"), "There is no schedule 'nope'"),
        (("why", "nope"), "There is no schedule 'nope'"),
        (("remove", NAME), "Take its entry out first"),
    ):
        refused = site.run("schedules", *words)
        assert (refused.exit_code, sentence in refused.output) == (1, True)
    change(site, gone_at=datetime.now(UTC))
    assert "its entry is gone" in site.run("schedules", "run", NAME).output
    assert site.run("schedules", "remove", NAME).output == f"Schedule {NAME} is removed.\n"
