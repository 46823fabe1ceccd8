"""The pages of questions: ask, sort, chart, take home, keep, schedule."""

import io
import json
import re
from dataclasses import replace
from datetime import UTC, datetime
from email import message_from_bytes
from email.policy import SMTP
from html import unescape
from pathlib import Path
from typing import Any
from uuid import uuid4

import polars
import pytest
from flask import Flask
from flask.testing import FlaskClient
from markupsafe import escape

from beat_schedule import SCHEDULE
from flaskapp.extensions import db
from flaskapp.jobs import control
from flaskapp.jobs.clock import seconds_from_now
from flaskapp.jobs.models import Job
from flaskapp.query import saving
from flaskapp.query.attacks import ALL, ATTACKS, Attack
from flaskapp.query.models import QueryRun, SavedQuery
from flaskapp.query.showing import cell
from flaskapp.query.tasks import submit_due
from flaskapp.uploads.models import Upload
from flaskapp.worker.testing import run_due_jobs
from tests.helpers import make_current
from tests.integration.doors_fixtures import Doors, csrf_of, doors  # noqa: F401
from tests.integration.query_fixtures import run_all

MIXED = (
    "SELECT 1 AS id, '=1+1' AS \"<b>name\", 2.5 AS id UNION ALL SELECT 2, '-5', NULL UNION ALL SELECT 10, 'née', 7.0"
)


@pytest.fixture
def site(doors: Doors) -> Flask:
    make_current(doors.app)
    doors.app.extensions["celery"].loader.import_default_modules()
    return doors.app


def post(browser: FlaskClient, path: str, page: str = "/query", **fields: str) -> str:
    sent = browser.post(path, data={**fields, "csrf_token": csrf_of(browser, page)})
    assert sent.status_code == 303, sent.text
    return str(sent.headers["Location"])


def asked(site: Flask, browser: FlaskClient, sql: str, **fields: str) -> str:
    place = post(browser, "/query", sql=sql, keep="1", **fields)
    run_all(site)
    return place


def test_an_answer_is_a_table_that_sorts_by_number_and_escapes_what_it_shows(site: Flask, doors: Doors) -> None:
    browser = doors.signed_in()
    place = asked(site, browser, MIXED)
    page = browser.get(f"{place}?sort=-1").text
    assert "&lt;b&gt;name" in page
    assert "<b>name" not in page
    cells = re.findall(r'<td class="end"><bdi>(\d+)</bdi>', page)
    assert [cell for cell in cells if cell in ("1", "2", "10")] == ["10", "2", "1"]


def test_a_download_runs_in_no_spreadsheet_and_keeps_its_types(site: Flask, doors: Doors) -> None:
    browser = doors.signed_in()
    place = asked(site, browser, MIXED)
    lines = browser.get(f"{place}/answer.csv").text.splitlines()
    assert lines == ["\ufeffid,<b>name,id", "1,'=1+1,2.5", "2,-5,", "10,née,7.0"]
    answer = browser.get(f"{place}/answer.json").json
    assert answer["columns"] == ["id", "<b>name", "id"]
    assert answer["rows"][1] == [2, "-5", None]
    table = polars.read_parquet(io.BytesIO(browser.get(f"{place}/answer.parquet").data))
    assert table.columns == ["id", "<b>name", "id_2"]
    assert table.dtypes == [polars.Int64, polars.String, polars.Float64]
    assert browser.get(f"{place}/answer.exe").status_code == 404


def test_whoever_waits_for_a_download_holds_no_connection(
    site: Flask, doors: Doors, monkeypatch: pytest.MonkeyPatch
) -> None:
    browser = doors.signed_in()
    place = asked(site, browser, MIXED)
    held: list[int] = []
    with site.app_context():
        pool: Any = db.engine.pool
    monkeypatch.setattr("flaskapp.query.exporting.as_parquet", lambda *_: held.append(pool.checkedout()) or b"PAR1")
    assert browser.get(f"{place}/answer.parquet").data == b"PAR1"
    assert held == [0]


def test_what_is_taken_home_of_a_truncated_answer_says_so(
    site: Flask, doors: Doors, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flaskapp.query.limits.MOST_ROWS", 2)
    browser = doors.signed_in()
    for sql, sign, word in ((MIXED, "-truncated", "true"), ("SELECT 1 AS a", "", "false")):
        place = asked(site, browser, sql)
        for kind in ("csv", "json", "parquet"):
            sent = browser.get(f"{place}/answer.{kind}")
            assert sent.headers["Content-Disposition"].endswith(f"{place[-36:][:8]}{sign}.{kind}")
        assert polars.read_parquet_metadata(io.BytesIO(sent.data))["truncated"] == word
        saved = post(browser, f"{place}/save", name=f"Truncated {word}")
        post(browser, f"{saved}/schedule", crontab="0 7 * * *", mail_to="bob@example.org")
        post(browser, f"{saved}/run")
        run_all(site)
    mails = {mail["Subject"]: mail for mail in all_mails(site)}
    for word in ("true", "false"):
        mail = mails[f"Truncated {word}"]
        attached = {part.get_filename() for part in mail.iter_attachments()}
        assert ("answer-truncated.csv" if word == "true" else "answer.csv") in attached
        texts = [mail.get_body((kind,)).get_content() for kind in ("plain", "html")]
        assert [("The answer was cut off" in text) for text in texts] == [word == "true"] * 2


def test_a_mail_that_shows_not_all_columns_says_so(site: Flask, doors: Doors) -> None:
    browser = doors.signed_in()
    wide = "SELECT " + ", ".join(f"{n} AS c{n}" for n in range(15))
    saved = post(browser, f"{asked(site, browser, wide)}/save", name="Wide")
    post(browser, f"{saved}/schedule", crontab="0 7 * * *", mail_to="bob@example.org")
    post(browser, f"{saved}/run")
    run_all(site)
    (mail,) = (mail for mail in all_mails(site) if mail["Subject"] == "Wide")
    assert "3 more columns are in answer.csv." in mail.get_body(("html",)).get_content()
    assert "… 3 more columns in answer.csv" in mail.get_body(("plain",)).get_content()


def test_an_answer_is_mailed_however_wide_it_is_and_whatever_its_texts_hold(site: Flask, doors: Doors) -> None:
    browser = doors.signed_in()
    columns = ", ".join(f"n.big AS c{n}" for n in range(300))
    texts = (
        "SELECT hex(zeroblob(200)) || char(0) AS big FROM json_each('[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18]')"
    )
    sql = f"SELECT 'a' || char(0) || 'b' AS odd, {columns} FROM ({texts}) AS n"
    saved = post(browser, f"{asked(site, browser, sql)}/save", name="Very wide")
    post(browser, f"{saved}/schedule", mail_to="bob@example.org")
    job_id = post(browser, f"{saved}/run").rpartition("/")[2]
    run_all(site)
    assert doors.script().get(f"/jobs/{job_id}").json["result"]["mail"] == "Mailed to 1."
    assert [mail["Subject"] for mail in all_mails(site)] == ["Very wide"]


def test_a_threshold_keeps_its_digits_however_often_its_form_is_sent(site: Flask, doors: Doors) -> None:
    browser = doors.signed_in()
    place = post(browser, f"{asked(site, browser, 'SELECT 1 AS jobs')}/save", name="Large")
    for number in ("1234567", "0.1234567891", "10"):
        post(browser, f"{place}/schedule", alert_column="jobs", alert_sign=">", alert_value=number)
        shown = re.search(r'name="alert_value"[^>]*value="([^"]*)"', browser.get(place).text)
        assert shown
        assert shown[1] == number


def test_another_threshold_is_not_crossed_before_anybody_looked(site: Flask, doors: Doors) -> None:
    browser = doors.signed_in()
    place = post(browser, f"{asked(site, browser, 'SELECT 20 AS jobs')}/save", name="Twenty")
    alert = {"alert_column": "jobs", "alert_sign": ">"}
    post(browser, f"{place}/schedule", **alert, alert_value="10")
    post(browser, f"{place}/run")
    run_all(site)
    post(browser, f"{place}/schedule", **alert, alert_value="10")
    assert "jobs &gt; 10 since" in browser.get(place).text
    post(browser, f"{place}/schedule", **alert, alert_value="1000")
    assert "jobs &gt; 1000 since" not in browser.get(place).text


def test_however_much_others_keep_hides_no_question_of_ones_own(site: Flask, doors: Doors) -> None:
    browser = doors.signed_in("ada")
    post(browser, f"{asked(site, browser, 'SELECT 1 AS one')}/save", name="Mine")
    assert "yours before those of others" not in browser.get("/query").text
    with site.app_context():
        for number in range(200):
            saving.save(db.session(), f"A {number}", "SELECT 1", {}, "eve")
        db.session.commit()
    page = browser.get("/query").text
    assert "<bdi>Mine</bdi>" in page
    assert "The first 200, yours before those of others." in page


def test_a_list_that_holds_not_all_tables_or_columns_says_so(site: Flask, doors: Doors) -> None:
    browser = doors.signed_in("ada")
    report = json.dumps({"columns": [{"name": f"c{n}", "type": "text"} for n in range(103)]})

    def upload(number: int) -> None:
        file = {"name": "a.csv", "size": 1, "digest": "0" * 64, "job_id": f"loads {number}"}
        db.session.add(Upload(id=str(uuid4()), owner="ada", **file, table_name=f"t_{number}", report=report))

    with site.app_context():
        for number in range(40):
            upload(number)
        db.session.commit()
        assert "The newest 40" not in browser.get("/query").text
        upload(40)
        db.session.commit()
    page = browser.get("/query").text
    assert "The newest 40 of 41 tables." in page
    assert page.count("3 more columns") == 40


def test_a_chart_has_no_style_no_script_and_no_markup_of_the_data(site: Flask, doors: Doors) -> None:
    browser = doors.signed_in()
    hostile = 'SELECT \'<script>alert(1)</script>\' AS "<img src=x>", 3 AS """><script>" UNION ALL SELECT \'b\', 4'
    place = asked(site, browser, hostile)
    for kind in ("bar", "line", "scatter", "histogram"):
        page = browser.get(f"{place}?chart={kind}&x={2 if kind == 'scatter' else 1}&y=2").text
        chart = re.search(r"<svg [^>]*pygal-chart.*?</svg>", page, re.DOTALL)
        assert chart, kind
        assert re.search(r"<script|<style|style=|<img|onload", chart[0]) is None
    assert browser.get(f"{place}?chart=bar&x=99&y=-1").status_code == 200


def test_sorting_keeps_the_chart_and_drawing_keeps_the_order(site: Flask, doors: Doors) -> None:
    browser = doors.signed_in()
    place = asked(site, browser, MIXED)
    sort = re.search(r'href="([^"]*[?&;]sort=1[^"]*)"', browser.get(f"{place}?chart=line&x=2&y=3").text)
    assert sort
    page = browser.get(unescape(sort[1])).text
    assert '<option value="line" selected>' in page
    assert '<option value="3" selected>' in page
    assert '<input type="hidden" name="sort" value="1">' in page


def test_a_chart_of_the_first_rows_says_so_on_the_page(site: Flask, doors: Doors) -> None:
    browser = doors.signed_in()
    many = "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t WHERE n < 61) SELECT n, n AS m FROM t"
    place = asked(site, browser, many)
    assert "Drawn are the first 60 of 61 rows." in browser.get(f"{place}?chart=bar&x=1&y=2").text


def test_a_link_fills_the_editor_and_runs_nothing(site: Flask, doors: Doors) -> None:
    browser = doors.signed_in()
    page = browser.get("/query?sql=SELECT+:who&p_who=ada").text
    assert "SELECT :who</textarea>" in page
    assert 'name="p_who" value="ada"' in page
    with site.app_context():
        assert db.session.scalar(db.select(db.func.count(QueryRun.id))) == 0


def test_a_link_that_no_server_would_take_is_not_offered(site: Flask, doors: Doors) -> None:
    browser = doors.signed_in()
    place = asked(site, browser, f"SELECT '{'x' * 5000}' AS long")
    assert "Copy a link to this question" not in browser.get(place).text
    saved = post(browser, f"{place}/save", place, name="Long")
    assert f'"http://localhost{saved}"' in browser.get(place).text
    assert "Copy a link to this question" in browser.get(asked(site, browser, "SELECT 1")).text


def test_a_question_without_its_parameter_gets_a_field_and_loses_nothing(site: Flask, doors: Doors) -> None:
    browser = doors.signed_in()
    sent = browser.post("/query", data={"sql": "SELECT :who", "csrf_token": csrf_of(browser, "/query")})
    assert sent.status_code == 422
    assert "SELECT :who</textarea>" in sent.text
    assert 'name="p_who"' in sent.text
    place = asked(site, browser, "SELECT :who", p_who="7")
    assert browser.get(f"{place}/answer.json").json["rows"] == [[7]]


def test_digits_that_are_no_number_of_64_bits_are_a_text(site: Flask, doors: Doors) -> None:
    browser = doors.signed_in()
    for typed, value in (("12345678901234567890", "12345678901234567890"), ("-7", -7), ("007", "007"), ("2.5", 2.5)):
        place = asked(site, browser, "SELECT :number AS number", p_number=typed)
        assert browser.get(f"{place}/answer.json").json["rows"] == [[value]]


def test_a_parameter_may_have_any_name(site: Flask, doors: Doors) -> None:
    browser = doors.signed_in()
    fields = {"p___type__": "uuid", "p___value__": "x"}
    place = asked(site, browser, "SELECT :__type__ AS a, :__value__ AS b", **fields)
    assert browser.get(f"{place}/answer.json").json["rows"] == [["uuid", "x"]]
    saved = post(browser, f"{place}/save", place, name="Any name")
    assert 'name="p___type__" value="uuid"' in browser.get(saved).text
    job = doors.script().submit("query.run_saved", [saved.rpartition("/")[2]])
    run_all(site)
    assert doors.script().get(f"/jobs/{job['id']}").json["state"] == "succeeded"


def test_a_question_with_far_too_many_parameters_does_not_become_a_page_of_fields(site: Flask, doors: Doors) -> None:
    browser = doors.signed_in()
    sql = "SELECT " + ", ".join(f":p{n}" for n in range(40_000))
    sent = browser.post("/query", data={"sql": sql, "csrf_token": csrf_of(browser, "/query")})
    assert sent.status_code == 422
    assert sent.text.count('name="p_') == 50


def test_a_saved_question_run_by_another_sees_what_that_other_may_see(site: Flask, doors: Doors) -> None:
    boss, viewer = doors.signed_in("boss", "operator"), doors.signed_in("vera")
    doors.script("boss", "operator").submit()
    doors.script("vera").submit()
    first = asked(site, boss, "SELECT DISTINCT owner FROM job WHERE task <> :not ORDER BY owner", p_not="x")
    assert len(boss.get(f"{first}/answer.json").json["rows"]) == 2
    place = post(boss, f"{first}/save", first, name="Who works")
    page = viewer.get(place).text
    saved_id = place.rpartition("/")[2]
    assert 'name="p_not" value="x"' in page
    sql = "SELECT DISTINCT owner FROM job WHERE task <> :not ORDER BY owner"
    answer = asked(site, viewer, sql, p_not="x", saved_id=saved_id)
    assert viewer.get(f"{answer}/answer.json").json["rows"] == [["vera"]]
    # Through the task too: whoever submits it asks with their own rights.
    job = doors.script("vera").submit("query.run_saved", [saved_id])
    run_all(site)
    with site.app_context():
        run = db.session.scalars(db.select(QueryRun).where(QueryRun.job_id == job["id"])).one()
        assert (run.owner, run.row_count) == ("vera", 1)
    refused = viewer.post(f"/query/saved/{saved_id}/delete", data={"csrf_token": csrf_of(viewer, place)})
    assert refused.status_code == 403


def test_a_saved_question_that_was_changed_is_another_one(site: Flask, doors: Doors) -> None:
    ada, eve = doors.signed_in("ada"), doors.signed_in("eve")
    place = post(ada, f"{asked(site, ada, 'SELECT 1 AS one')}/save", name="One")
    saved_id = place.rpartition("/")[2]
    assert "Name to keep it under" not in ada.get(asked(site, ada, "SELECT 1 AS one", saved_id=saved_id)).text
    changed = asked(site, ada, "SELECT 2 AS two", saved_id=saved_id)
    assert post(ada, f"{changed}/save", name="Two") != place
    # Nor does what somebody else makes of it decide which columns it has.
    asked(site, eve, "SELECT 3 AS three", saved_id=saved_id)
    post(ada, f"{place}/schedule", alert_column="one", alert_sign=">", alert_value="1")


def test_a_saved_question_goes_by_the_clock_of_the_installation(
    site: Flask, doors: Doors, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(site.config, "SETTINGS", replace(site.config["SETTINGS"], timezone="Asia/Tokyo"))
    browser = doors.signed_in()
    place = post(browser, f"{asked(site, browser, 'SELECT 1 AS one')}/save", name="By the clock")

    assert 'name="timezone" value="Asia/Tokyo"' in browser.get(place).text


def test_a_saved_question_runs_by_itself_and_says_when_a_threshold_is_crossed(site: Flask, doors: Doors) -> None:
    browser = doors.signed_in()
    place = post(browser, f"{asked(site, browser, 'SELECT count(*) AS jobs FROM job')}/save", name="How many")
    saved_id = place.rpartition("/")[2]
    settings = {"crontab": "0 7 * * *", "timezone": "Europe/Berlin", "alert_column": "jobs", "alert_sign": ">"}
    post(browser, f"/query/saved/{saved_id}/schedule", **settings, alert_value="0")
    with site.app_context():
        saved = db.session.get_one(SavedQuery, saved_id)
        assert saved.next_due_at is not None
        db.session.execute(db.update(SavedQuery).values(next_due_at=seconds_from_now(-1)))
        db.session.commit()
        for _ in range(2):  # the second beat finds nothing left to do
            sent = site.extensions["celery"].send_task("query.submit_due", **SCHEDULE["questions"]["options"])
            db.session.commit()
            assert db.session.get_one(Job, sent.id).queue == "default", "not behind the questions that are asked"
        run_due_jobs()
        assert db.session.scalar(db.select(db.func.count(Job.id)).where(Job.task == "query.run_saved")) == 1
        saved = db.session.get_one(SavedQuery, saved_id)
        assert saved.alert_since is not None
    assert "How many" in browser.get("/query").text
    assert "note-warning" in browser.get(place).text


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"crontab": "*/1" + ",*/1" * 60 + " * * * *"}, "rhythm"),
        ({"crontab": "0 0 30 2 *"}, "rhythm"),
        ({"timezone": "Nowhere/Here"}, "time zone"),
        ({"timezone": "a\0b"}, "time zone"),
        ({"crontab": "0 7 * * *", "timezone": "x" * 500}, "time zone"),
        ({"mail_to": "not an address"}, "not one address"),
        ({"mail_to": "ada@example.org\0"}, "control character"),
        ({"alert_column": "a\0b", "alert_sign": ">", "alert_value": "1"}, "column"),
        ({"alert_column": "jobs", "alert_sign": ">", "alert_value": "1e999"}, "number"),
        ({"alert_column": "job", "alert_sign": ">", "alert_value": "1"}, "no column job. It has: jobs."),
    ],
)
def test_settings_that_cannot_be_kept_are_refused_with_a_sentence(
    site: Flask, doors: Doors, fields: dict[str, str], word: str
) -> None:
    browser = doors.signed_in()
    place = post(browser, f"{asked(site, browser, 'SELECT 1 AS jobs')}/save", name="How many")
    post(browser, f"{place}/schedule", crontab="0 7 * * *", mail_to="ada@example.org")
    sent = browser.post(f"{place}/schedule", data={**fields, "csrf_token": csrf_of(browser, place)})
    assert sent.status_code == 422
    problem = re.search(r'class="note note-error" role="alert".*?</p>', sent.text, re.DOTALL)
    assert problem
    assert word in problem[0]
    for typed in fields.values():
        assert str(escape(typed)) in sent.text, "nothing that was typed is lost"
    with site.app_context():
        saved = db.session.scalars(db.select(SavedQuery)).one()
        assert (saved.crontab, saved.timezone, saved.mail_to) == ("0 7 * * *", "UTC", "ada@example.org")


def test_what_comes_due_while_its_last_run_waits_is_not_asked_twice(site: Flask, doors: Doors) -> None:
    """One question is asked at a time: a rhythm quicker than its answer would pile up without an end."""
    browser = doors.signed_in()
    place = post(browser, f"{asked(site, browser, 'SELECT 1 AS one')}/save", name="Each minute")
    post(browser, f"{place}/schedule", crontab="* * * * *")

    def come_due() -> int:
        with site.app_context():
            db.session.execute(db.update(SavedQuery).values(next_due_at=seconds_from_now(-1)))
            db.session.commit()
            submit_due()
            db.session.commit()
            return int(db.session.scalar(db.select(db.func.count(Job.id)).where(Job.task == "query.run_saved")) or 0)

    # Whoever else asks it, and only next year, keeps nobody waiting.
    doors.script("eve").submit("query.run_saved", [place.rpartition("/")[2]], run_at="2099-01-01T00:00:00Z")
    assert [come_due(), come_due(), come_due()] == [2, 2, 2]
    with site.app_context():
        assert db.session.scalars(db.select(SavedQuery)).one().next_due_at > datetime.now(UTC)
    run_all(site)
    assert come_due() == 3


def test_attacks_that_wait_for_their_turn_say_so(site: Flask, doors: Doors) -> None:
    boss = doors.signed_in("boss", "operator")
    post(boss, "/query/safety")
    with site.app_context():
        control.pause_queue(db.session(), "query")
        db.session.commit()
    page = boss.get("/query/safety").text
    assert "The queue query is paused: nothing of it starts." in page
    assert "are being tried" not in page


def test_a_list_is_shown_as_json_has_it() -> None:
    assert cell([1, None, "a", True]) == '[1, null, "a", true]'


@pytest.mark.parametrize(
    "typed",
    ["Ada <ada@example.org>, bob@example.org", "ada@example.org bob@example.org", "ada@example.org\nbob@example.org"],
)
def test_addresses_may_be_written_as_the_refusal_says(site: Flask, doors: Doors, typed: str) -> None:
    browser = doors.signed_in()
    place = post(browser, f"{asked(site, browser, 'SELECT 1 AS one')}/save", name="To two")
    post(browser, f"{place}/schedule", mail_to=typed)
    with site.app_context():
        assert db.session.scalars(db.select(SavedQuery.mail_to)).one() == "ada@example.org\nbob@example.org"


def test_a_name_is_taken_once(site: Flask, doors: Doors) -> None:
    """Else whoever saves another one by that name would stop what beat_schedule.py asks by it."""
    ada, eve = doors.signed_in("ada"), doors.signed_in("eve")
    post(ada, f"{asked(site, ada, 'SELECT 1')}/save", name="Failures of the week")
    other = asked(site, eve, "SELECT 2")
    assert post(eve, f"{other}/save", name=" Failures of the week ") == other
    assert "There is a saved question of that name" in eve.get(other).text
    with site.app_context():
        assert db.session.scalar(db.select(db.func.count(SavedQuery.id))) == 1


def test_numbers_that_nobody_can_draw_break_no_page(site: Flask, doors: Doors) -> None:
    browser = doors.signed_in()
    place = asked(site, browser, "SELECT 'x' AS a, '-nan' AS b, 1e300 AS c UNION ALL SELECT 'y', '-5', -1e300")
    for y in ("2", "3"):
        for kind in ("bar", "line", "scatter", "histogram"):
            assert browser.get(f"{place}?chart={kind}&x=1&y={y}").status_code == 200


def test_an_answer_that_came_by_itself_is_mailed_with_its_chart_and_never_anothers(site: Flask, doors: Doors) -> None:
    browser = doors.signed_in("ada")
    place = post(browser, f"{asked(site, browser, MIXED)}/save", name="Each morning")
    saved_id = place.rpartition("/")[2]
    settings = {"crontab": "0 7 * * *", "mail_to": "bob@example.org, eve@example.org"}
    alert = {"alert_column": "id", "alert_sign": ">=", "alert_value": "10"}
    post(browser, f"/query/saved/{saved_id}/schedule", **settings, **alert)
    site.extensions["celery"].send_task("query.run_saved", args=[saved_id], owner="ada")
    doors.script("eve").submit("query.run_saved", [saved_id])
    run_all(site)
    mails = all_mails(site)
    assert sorted(mail["To"] for mail in mails) == ["bob@example.org", "eve@example.org"]
    assert {mail["Subject"] for mail in mails} == {"Alert: Each morning"}
    html = mails[0].get_body(("html",))
    assert html is not None
    assert "&lt;b&gt;name" in html.get_content()
    attachments = {part.get_filename(): part.get_payload(decode=True) for part in mails[0].iter_attachments()}
    assert b"'=1+1" in attachments["answer.csv"]
    assert attachments["chart.svg"].startswith(b"<svg")
    assert b"<script" not in attachments["chart.svg"]
    # Its picture stands in the text, where mail programs show it.
    (picture,) = (part for part in mails[0].walk() if part.get_content_type() == "image/png")
    assert f'src="cid:{picture["Content-ID"][1:-1]}"' in html.get_content()


def test_a_saved_question_runs_now_as_its_rhythm_would(site: Flask, doors: Doors) -> None:
    ada, eve = doors.signed_in("ada"), doors.signed_in("eve")
    boss = doors.signed_in("boss", "operator")
    place = post(ada, f"{asked(site, ada, 'SELECT count(*) AS mine FROM job')}/save", name="My jobs")
    refused = eve.post(f"{place}/run", data={"csrf_token": csrf_of(eve, "/query")})
    assert refused.status_code == 403
    job_id = post(boss, f"{place}/run").rpartition("/")[2]
    run_all(site)
    with site.app_context():
        # Whoever presses: with the rights of whoever saved it.
        run = db.session.scalars(db.select(QueryRun).where(QueryRun.job_id == job_id)).one()
        assert (run.owner, run.error) == ("ada", None)
    assert '<h1 dir="auto">Query “My jobs”</h1>' in ada.get(f"/jobs/{job_id}").text


def all_mails(site: Flask) -> list[Any]:
    return [message_from_bytes(path.read_bytes(), policy=SMTP) for path in mails_of(site)]


def mails_of(site: Flask) -> list[Path]:
    return sorted((site.config["SETTINGS"].instance_path / "mail").glob("**/*.eml"))


def test_a_question_whose_page_was_closed_is_not_asked(site: Flask, doors: Doors) -> None:
    browser = doors.signed_in()
    place = post(browser, "/query", sql="SELECT 1")
    browser.post(f"{place}/left", data={"csrf_token": csrf_of(browser, "/query")})
    with site.app_context():
        db.session.execute(db.update(QueryRun).values(left_at=seconds_from_now(-60)))
        db.session.commit()
    run_all(site)
    with site.app_context():
        assert db.session.scalar(db.select(Job.state).where(Job.task == "query.run")) == "cancelled"
    kept = post(browser, "/query", sql="SELECT 1", keep="1")
    browser.post(f"{kept}/left", data={"csrf_token": csrf_of(browser, "/query")})
    run_all(site)
    assert browser.get(f"{kept}/answer.json").json["rows"] == [[1]]


def test_a_stranger_finds_no_page_of_a_question(site: Flask, doors: Doors) -> None:
    place = asked(site, doors.signed_in("ada"), "SELECT 1")
    eve = doors.signed_in("eve")
    for path in ("", "/answer.csv", "?part=run"):
        assert eve.get(f"{place}{path}").status_code == 404
    for path in ("/cancel", "/left", "/save"):
        assert eve.post(f"{place}{path}", data={"csrf_token": csrf_of(eve, "/query"), "name": "x"}).status_code == 404


def test_every_attack_is_shown_with_what_came_of_it(site: Flask, doors: Doors, tmp_path: Path) -> None:
    viewer, boss = doors.signed_in("vera"), doors.signed_in("boss", "operator")
    assert "none was tried here yet" in viewer.get("/query/safety").text
    refused = viewer.post("/query/safety", data={"csrf_token": csrf_of(viewer, "/query")})
    assert refused.status_code == 403
    post(boss, "/query/safety")
    run_all(site)
    page = viewer.get("/query/safety").text
    held = re.search(r"<b>(\d+)</b> of (\d+) held off", page)
    assert held
    assert held[1] == held[2]


def test_attacks_that_came_with_an_upgrade_count_as_tried_only_once_they_are(
    site: Flask, doors: Doors, monkeypatch: pytest.MonkeyPatch
) -> None:
    boss = doors.signed_in("boss", "operator")
    post(boss, "/query/safety")
    old = [Attack("old", "DELETE FROM job"), Attack("gone", "SELECT 1")]
    monkeypatch.setattr("flaskapp.query.safety.ATTACKS", old)
    run_all(site)
    assert "<b>1</b> of 2 held off" in boss.get("/query/safety").text
    monkeypatch.setattr("flaskapp.query.safety.ATTACKS", [Attack("new", "SELECT 2"), old[0]])
    assert "<b>1</b> of 1 held off" in boss.get("/query/safety").text
    monkeypatch.setattr("flaskapp.query.safety.ATTACKS", [Attack("new", "SELECT 2")])
    assert "the attacks have changed" in boss.get("/query/safety").text


def test_each_attack_has_a_name_of_its_own() -> None:
    for backend in ALL:
        names = [attack.name for attack in ATTACKS if backend in attack.on]
        assert len(names) == len(set(names))
