"""A dead letter becomes a job again, once, by every door: the API, the shell and the page; operators only."""

import json
from typing import Any

import pytest
from sqlalchemy import func, select, update

from flaskapp.accounts.models import AuditEntry
from flaskapp.broker.letters import letter_of
from flaskapp.jobs import letters
from flaskapp.jobs.letters import Letter
from flaskapp.jobs.models import DeadLetter, Job, JobState
from tests import makers
from tests.integration.doors_fixtures import Doors, csrf_of

GOOD = b'[["hello"], {"x": "\\u00e9"}, {"callbacks": null, "chain": null}]'
HEADERS = {"task": "diagnostics.echo", "id": "strange", "root_id": "root", "group": "g"}
HOSTILE = "<img src=x onerror=alert(1)>"


def write(doors: Doors, letter: Letter) -> int:
    with doors.session() as session, session.begin():
        letters.record(session, letter)
        return session.scalar(select(func.max(DeadLetter.id)))  # type: ignore[return-value]


def foreign(doors: Doors, body: bytes = GOOD, **headers: Any) -> int:
    return write(doors, letter_of({**HEADERS, **headers}, body, "application/json", reason="rejected", queue="default"))


def job(doors: Doors, job_id: str = "strange") -> Job | None:
    with doors.session() as session:
        return session.get(Job, job_id)


def ours(doors: Doors, state: str) -> tuple[int, str]:
    with doors.session() as session, session.begin():
        job_id = makers.in_state(session, state)
        # Of an older sending: by itself it changes nothing.
        letters.record(session, Letter("rejected", job_id=job_id, task="tests.fate", send=1000, body=GOOD))
        return session.scalar(select(func.max(DeadLetter.id))), job_id  # type: ignore[return-value]


def test_a_strangers_letter_becomes_its_job(doors: Doors):
    ada = doors.script("ada", "operator")
    letter_id = foreign(doors)

    answer = ada.post(f"/dead-letters/{letter_id}/replay")

    assert (answer.status_code, answer.headers["Location"]) == (202, "/api/v1/jobs/strange")
    assert (answer.json["job_id"], answer.json["replayed_by"]) == ("strange", "ada")
    found = job(doors)
    assert found is not None
    assert (found.state, found.task, found.queue, found.root_id) == (
        JobState.WAITING,
        "diagnostics.echo",
        "default",
        "root",
    )
    assert (json.loads(found.args), json.loads(found.kwargs)) == (["hello"], {"x": "é"})
    assert json.loads(found.options) == {"headers": {"group": "g"}, "embed": {}}


def test_pressed_twice_it_is_one_job(doors: Doors):
    ada = doors.script("ada", "operator")
    letter_id = foreign(doors)

    first, second = (ada.post(f"/dead-letters/{letter_id}/replay") for _ in range(2))

    assert (first.status_code, second.status_code) == (202, 409)
    assert "already, by ada" in second.json["detail"]
    with doors.session() as session:
        assert session.scalar(select(func.count()).select_from(Job)) == 1


def test_two_letters_of_one_message_are_one_job(doors: Doors):
    ada = doors.script("ada", "operator")
    first, second = foreign(doors), foreign(doors)

    assert ada.post(f"/dead-letters/{first}/replay").status_code == 202
    answer = ada.post(f"/dead-letters/{second}/replay")

    assert (answer.status_code, answer.json["detail"]) == (409, "There is a job strange already; it is waiting.")


@pytest.mark.parametrize(
    ("body", "headers", "words"),
    [
        (b"{", {}, "not JSON"),
        (b"[" * 100_000, {}, "too deep"),
        (b"[1, 2]", {}, "not a list of arguments"),
        (b"\x80\x04pickled", {}, "not JSON"),
        (b" " * 2**20 + GOOD, {}, "Only the first 1,048,576"),
        (GOOD, {"task": None}, "no task"),
        (GOOD, {"id": 5}, "no task and id"),
    ],
)
def test_what_can_be_no_job_is_refused_with_a_sentence(doors: Doors, body: bytes, headers: Any, words: str):
    letter_id = foreign(doors, body, **headers)

    answer = doors.script("ada", "operator").post(f"/dead-letters/{letter_id}/replay")

    assert answer.status_code == 409
    assert words in answer.json["detail"]
    assert job(doors) is None


@pytest.mark.parametrize("state", [JobState.QUEUED, JobState.WAITING])
def test_our_own_live_job_is_sent_again(doors: Doors, state: JobState):
    letter_id, job_id = ours(doors, state)

    answer = doors.script("ada", "operator").post(f"/dead-letters/{letter_id}/replay")

    found = job(doors, job_id)
    assert found is not None
    assert (answer.status_code, found.state) == (202, JobState.WAITING)


@pytest.mark.parametrize("state", [JobState.RUNNING, JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED])
def test_our_own_job_that_has_moved_on_is_not(doors: Doors, state: JobState):
    letter_id, job_id = ours(doors, state)

    answer = doors.script("ada", "operator").post(f"/dead-letters/{letter_id}/replay")

    found = job(doors, job_id)
    assert found is not None
    assert (answer.status_code, found.state) == (409, state)
    assert state in answer.json["detail"]


def test_a_pruned_job_of_ours_does_not_rise(doors: Doors):
    letter_id = write(doors, letter_of({**HEADERS, "offload_send": 1}, GOOD, None, reason="rejected"))

    answer = doors.script("ada", "operator").post(f"/dead-letters/{letter_id}/replay")

    assert (answer.status_code, job(doors)) == (409, None)
    assert "no row any more" in answer.json["detail"]


@pytest.mark.parametrize("letter_id", ["0", "7", "x", "-1", "99999999999", "9" * 400, "1.0", "٣"])
def test_a_letter_that_is_not_there_is_not_found(doors: Doors, letter_id: str):
    assert doors.script("ada", "operator").post(f"/dead-letters/{letter_id}/replay").status_code == 404


def test_only_operators_see_and_replay(doors: Doors):
    letter_id = foreign(doors)
    viewer, browser = doors.script("vera"), doors.signed_in("vic")

    assert viewer.get("/dead-letters").status_code == 403
    assert viewer.post(f"/dead-letters/{letter_id}/replay").status_code == 403
    assert "Dead letters" not in browser.get("/queues").text
    form = {"csrf_token": csrf_of(browser, "/account")}
    assert browser.post(f"/queues/letters/{letter_id}/replay", data=form).status_code == 403
    assert job(doors) is None


def test_the_list_is_paged_newest_first(doors: Doors):
    ada = doors.script("ada", "operator")
    ids = [foreign(doors, id=f"s{number}") for number in range(5)]

    seen, cursor = [], ""
    while cursor is not None:
        page = ada.get(f"/dead-letters?limit=2&cursor={cursor}").json
        seen += [letter["id"] for letter in page["items"]]
        cursor = page["next"]

    assert seen == ids[::-1]


def test_a_cursor_of_another_list_is_refused(doors: Doors):
    ada = doors.script("ada", "operator")
    for _ in range(2):
        ada.submit()
    cursor = ada.get("/jobs?limit=1").json["next"]

    assert ada.get(f"/dead-letters?cursor={cursor}").status_code == 422


def test_a_letter_shows_what_it_was(doors: Doors):
    foreign(doors, b"\xff\x00bytes")

    (letter,) = doors.script("ada", "operator").get("/dead-letters").json["items"]

    assert (letter["payload"], letter["size"], letter["content_type"]) == ("\\xff\x00bytes", 7, "application/json")
    assert letter["headers"]["id"] == "strange"


def test_what_a_task_calls_secret_is_masked(doors: Doors, monkeypatch: pytest.MonkeyPatch):
    task = doors.app.extensions["celery"].tasks["diagnostics.echo"]
    monkeypatch.setattr(task, "secret_params", ("value",), raising=False)
    foreign(doors, b'[["hush-hush"], {}, {}]', argsrepr="('hush-hush',)")

    assert "hush-hush" not in doors.script("ada", "operator").get("/dead-letters").text
    assert "hush-hush" not in doors.run("jobs", "letters", "--json").output
    assert "hush-hush" not in doors.signed_in("olga", "operator").get("/queues").text


def test_a_replay_is_in_the_audit_log(doors: Doors):
    letter_id = foreign(doors)
    doors.script("ada", "operator").post(f"/dead-letters/{letter_id}/replay")

    with doors.session() as session:
        entry = session.scalars(select(AuditEntry).where(AuditEntry.action == "letter.replay")).one()
    assert (entry.account, entry.subject, entry.detail) == ("ada", str(letter_id), "job strange")


def test_an_idempotency_key_repeats_the_answer(doors: Doors):
    ada = doors.script("ada", "operator")
    letter_id = foreign(doors)

    answers = [ada.post(f"/dead-letters/{letter_id}/replay", headers={"Idempotency-Key": "k"}) for _ in range(2)]

    assert [answer.status_code for answer in answers] == [202, 202]


# --- from a shell ------------------------------------------------------------------------------------------


def test_the_shell_lists_and_replays(doors: Doors):
    letter_id = foreign(doors)

    assert "diagnostics.echo" in doors.run("jobs", "letters").output
    assert json.loads(doors.run("jobs", "letters", "--json").stdout)[0]["id"] == letter_id
    first, second = (doors.run("jobs", "replay", str(letter_id)) for _ in range(2))
    assert (first.exit_code, first.stdout) == (0, "strange\n")
    assert (second.exit_code, "already" in second.stderr) == (1, True)
    assert doors.run("jobs", "replay", "77").exit_code == 1


# --- on the page -------------------------------------------------------------------------------------------


def test_the_page_shows_hostile_letters_escaped(doors: Doors):
    foreign(doors, HOSTILE.encode(), task=HOSTILE, note=HOSTILE)

    page = doors.signed_in("olga", "operator").get("/queues").text

    assert HOSTILE not in page
    assert page.count("&lt;img src=x") >= 3


def test_the_button_makes_it_a_job_and_leads_there(doors: Doors):
    letter_id = foreign(doors)
    olga = doors.signed_in("olga", "operator")
    form = {"csrf_token": csrf_of(olga, "/queues")}

    assert olga.post(f"/queues/letters/{letter_id}/replay").status_code == 400
    answer = olga.post(f"/queues/letters/{letter_id}/replay", data=form)
    again = olga.post(f"/queues/letters/{letter_id}/replay", data=form)

    assert (answer.status_code, answer.location) == (303, "/jobs/strange")
    assert (again.status_code, again.location) == (303, "/queues#letters")
    assert olga.post("/queues/letters/99999999999/replay", data=form).status_code == 404


def test_old_letters_are_pruned_by_the_shell_too(doors: Doors):
    foreign(doors)
    with doors.session() as session, session.begin():
        session.execute(update(DeadLetter).values(at=letters.seconds_from_now(-91 * 86400)))

    assert doors.run("jobs", "prune").exit_code == 0
    with doors.session() as session:
        assert session.scalar(select(func.count()).select_from(DeadLetter)) == 0
