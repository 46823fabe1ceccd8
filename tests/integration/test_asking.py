"""Questions over HTTP, asked for real on each database: what is answered, what is refused, and who sees what."""

from io import BytesIO
from typing import Any
from uuid import uuid4

import pytest
from flask import Flask

from flaskapp.accounts.models import Account
from flaskapp.extensions import db
from flaskapp.mail import actions
from flaskapp.worker.testing import run_due_jobs
from tests.integration.doors_fixtures import Doors, Script
from tests.integration.query_fixtures import doors, run_all, site  # noqa: F401

TABLE = "name,height\nÅsa,170\nBob,180\n"


def ask(site: Flask, script: Script, sql: str, **parameters: Any) -> dict[str, Any]:
    asked = script.post("/queries", {"sql": sql, "parameters": parameters})
    assert asked.status_code == 202, asked.text
    assert set(asked.json) == {"id", "job_id"}
    run_all(site)
    return script.get(f"/queries/{asked.json['id']}").json  # type: ignore[no-any-return]


def rows(site: Flask, script: Script, sql: str, **parameters: Any) -> list[list[Any]]:
    answer = ask(site, script, sql, **parameters)
    assert answer["state"] == "succeeded", answer["error"]
    return answer["rows"]  # type: ignore[no-any-return]


def upload(site: Flask, script: Script, content: str = TABLE) -> str:
    sent = script.client.post(
        "/api/v1/uploads",
        data={"file": (BytesIO(content.encode()), "Tall people.csv")},
        headers={"Authorization": f"Bearer {script.token}"},
    )
    run_all(site)
    loaded = script.get(f"/uploads/{sent.json['id']}").json
    return str(loaded["table"])


def test_a_question_gets_its_answer(site: Flask, doors: Doors) -> None:
    ada = doors.script("ada")
    table = upload(site, ada)
    answer = ask(site, ada, f"SELECT name, height FROM {table} ORDER BY height DESC")
    assert (answer["state"], answer["columns"], answer["rows"], answer["truncated"], answer["error"]) == (
        "succeeded",
        ["name", "height"],
        [["Bob", 180], ["Åsa", 170]],
        False,
        None,
    )
    nice_name = f"tall_people_{table[2:8]}"
    assert rows(site, ada, f"SELECT count(*) FROM {nice_name};") == [[2]]


def test_many_questions_of_one_person_do_not_keep_the_first_of_another_waiting(site: Flask, doors: Doors) -> None:
    ada, bob = doors.script("ada"), doors.script("bob")
    asked = [who.post("/queries", {"sql": "SELECT 1"}).json["job_id"] for who in (ada, ada, ada, bob, bob)]
    with site.app_context():
        assert [asked.index(job_id) for job_id in run_due_jobs()] == [0, 3, 1, 4, 2]


def test_a_refused_question_is_no_error_in_the_workers_log(
    site: Flask, doors: Doors, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO"):
        assert ask(site, doors.script("ada"), "SELECT nothing")["state"] == "failed"
    (told,) = [record for record in caplog.records if "QueryRefused" in record.getMessage()]
    assert (told.levelname, told.exc_info) == ("INFO", None)


def test_whoever_wrote_mail_counts_what_became_of_it(site: Flask, doors: Doors) -> None:
    ada, olga = doors.script("ada"), doors.script("olga", "operator")
    with site.app_context():
        actions.write(["one@example.org", "two@example.org"], "Hello", "…", owner="ada")
        actions.write(["three@example.org"], "Hello", "…", owner="eve")
        db.session.commit()
    run_all(site)
    sql = "SELECT state, count(*) FROM mail_recipient GROUP BY state"
    assert rows(site, ada, sql) == [["accepted", 2]]
    assert rows(site, olga, sql) == [["accepted", 3]]


def test_a_viewer_sees_what_is_theirs_and_an_operator_all(site: Flask, doors: Doors) -> None:
    viewer, other, operator = doors.script("vera"), doors.script("otto"), doors.script("olga", "operator")
    table = upload(site, other)
    mine, theirs = viewer.submit()["id"], other.submit()["id"]
    assert rows(site, viewer, "SELECT DISTINCT owner FROM job") == [["vera"]]
    seen = {row[0] for row in rows(site, operator, "SELECT id FROM job")}
    assert {mine, theirs} <= seen
    assert rows(site, viewer, "SELECT count(*) FROM upload WHERE owner <> 'vera'") == [[0]]
    refused = ask(site, viewer, f"SELECT * FROM {table}")
    if site.config["SETTINGS"].database_url.get_backend_name() == "sqlite":
        assert refused["state"] == "failed"
        assert "Refused" in refused["error"]
    else:
        assert refused["rows"] == []
    assert rows(site, operator, f"SELECT count(*) FROM {table}") == [[2]]


def test_no_condition_is_tried_on_rows_that_are_not_theirs(site: Flask, doors: Doors) -> None:
    viewer, other = doors.script("victor"), doors.script("oscar")
    viewer.submit()
    theirs = other.submit()["id"]
    tricks = {
        "sqlite": "SELECT id FROM job WHERE json_extract(CASE WHEN owner = 'oscar' THEN '{{' ELSE '1' END, '$') = 1",
        "postgresql": "SELECT id FROM job WHERE CASE WHEN owner = 'oscar' THEN id::int ELSE 1 END = 1",
        "mariadb": "SELECT id FROM job WHERE IF(owner = 'oscar', 9223372036854775807 + retries + 1, 1) = 1",
    }
    trick = tricks[site.config["SETTINGS"].database_url.get_backend_name()]
    answer = ask(site, viewer, trick)
    assert ask(site, doors.script("olga", "operator"), trick)["state"] == "failed"
    assert answer["state"] == "succeeded", answer["error"]
    assert theirs not in str(answer["rows"])


def test_no_condition_is_tried_on_a_row_that_an_index_finds(site: Flask, doors: Doors) -> None:
    theirs = doors.script("oscar").submit()["id"]
    tricks = {
        "sqlite": "json_extract(CASE WHEN j.id > '0' THEN '{{' ELSE '1' END, '$') = 1",
        "postgresql": "j.id::int = 1",
        "mariadb": "9223372036854775807 + (j.id > '0') = 1",
    }
    trick = tricks[site.config["SETTINGS"].database_url.get_backend_name()]
    sql = f"SELECT 1 FROM (SELECT '{theirs}' AS id) AS wanted CROSS JOIN job j WHERE j.id = wanted.id AND {trick}"
    assert rows(site, doors.script("victor"), sql) == []
    assert ask(site, doors.script("olga", "operator"), sql)["state"] == "failed"


def test_a_question_runs_with_the_rights_of_the_moment(site: Flask, doors: Doors) -> None:
    doors.script("other").submit()
    script = doors.script("falls", "operator")
    asked = script.post("/queries", {"sql": "SELECT DISTINCT owner FROM job"}).json
    with site.app_context():
        db.session.execute(db.update(Account).where(Account.name == "falls").values(role="viewer"))
        db.session.commit()
    run_all(site)
    assert script.get(f"/queries/{asked['id']}").json["rows"] == [["falls"]]


def test_a_parameter_is_bound_and_never_spliced(site: Flask, doors: Doors) -> None:
    ada = doors.script("ada")
    table = upload(site, ada)
    for hostile in ("' OR 1=1 --", "Bob'; DELETE FROM job; --", '"', "\\", "\\' OR 1=1 -- ", "$1 ? %s :name"):
        assert rows(site, ada, f"SELECT * FROM {table} WHERE name = :name", name=hostile) == []
    found = rows(site, ada, f"SELECT name FROM {table} WHERE name = :name AND height > :least", name="Bob", least=100)
    assert found == [["Bob"]]
    assert rows(site, ada, f"SELECT count(*) FROM {table} WHERE name <> ':no' AND height > :n /* :x */", n=175) == [[1]]
    assert rows(site, ada, f"SELECT count(*) FROM {table} WHERE name = :äöü", äöü="Åsa") == [[1]]
    missing = ada.post("/queries", {"sql": "SELECT :who"})
    assert missing.status_code == 422
    assert ":who" in missing.json["detail"]


@pytest.mark.parametrize(
    ("sqlite", "postgresql", "mariadb", "wanted"),
    [
        ("9007199254740993", "9007199254740993", "9007199254740993", "9007199254740993"),
        ("9007199254740992", "9007199254740992", "9007199254740992", 9007199254740992),
        ("1e999", "'Infinity'::float8", "NULL", "Infinity"),
        ("NULL", "'NaN'::float8", "NULL", "NaN"),
        ("x'00ff'", "'\\x00ff'::bytea", "x'00ff'", "\\x00ff"),
        ("1.5", "1.5", "1.5", 1.5),
        ("0.1", "0.1234567890123456789", "0.1234567890123456789", "0.1234567890123456789"),
        ("'2026-11-24'", "date '2026-11-24'", "date '2026-11-24'", "2026-11-24"),
        ("'<b>'", "'<b>'", "'<b>'", "<b>"),
    ],
)
def test_every_value_has_a_form_in_json(
    site: Flask,
    doors: Doors,
    sqlite: str,
    postgresql: str,
    mariadb: str,
    wanted: Any,
) -> None:
    backend = site.config["SETTINGS"].database_url.get_backend_name()
    expression = {"sqlite": sqlite, "postgresql": postgresql, "mariadb": mariadb}[backend]
    [[value]] = rows(site, doors.script("ada"), f"SELECT {expression}")
    assert value == (wanted if expression not in ("NULL", "0.1") else {"NULL": None, "0.1": 0.1}[expression])


def test_columns_may_have_one_name_and_rows_be_none(site: Flask, doors: Doors) -> None:
    answer = ask(
        site,
        doors.script("ada"),
        "SELECT id, id, state AS \"<b>\" FROM job WHERE id = 'none'".replace(
            '"', "`" if "mariadb" in site.config["SETTINGS"].database_url.drivername else '"'
        ),
    )
    assert answer["columns"] == ["id", "id", "<b>"]
    assert answer["rows"] == []
    assert answer["state"] == "succeeded"


@pytest.mark.parametrize(
    "sql", ["SELECT '; -- a';", "SELECT '; -- a'; -- b", "SELECT '; -- a';\n/* b; */\n-- c;\n", "SELECT '; -- a' -- b"]
)
def test_what_stands_behind_a_question_is_no_part_of_it(site: Flask, doors: Doors, sql: str) -> None:
    assert rows(site, doors.script("ada"), sql) == [["; -- a"]]


def test_a_second_question_behind_the_first_is_refused(site: Flask, doors: Doors) -> None:
    for sql in ("SELECT 1; -- a\nSELECT 2", "SELECT 1; /* a */ DELETE FROM job", "SELECT 1 /*! ; DELETE FROM job */"):
        answer = ask(site, doors.script("ada"), sql)
        expected = [[1]] if "/*!" in sql and "mariadb" not in str(site.config["SETTINGS"].database_url) else []
        assert answer["rows"] == expected


def test_a_recursion_is_answered_as_a_whole_or_not(site: Flask, doors: Doors) -> None:
    sql = (
        "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t WHERE n < :most) SELECT count(*), max(n) FROM t"
    )
    assert rows(site, doors.script("ada"), sql, most=900) == [[900, 900]]
    answer = ask(site, doors.script("ada"), sql, most=5000)
    if "mariadb" in str(site.config["SETTINGS"].database_url):
        assert "max_recursive_iterations" in answer["error"]
    else:
        assert answer["rows"] == [[5000, 5000]]


def test_what_is_too_much_is_cut_off_and_said(site: Flask, doors: Doors) -> None:
    ada = doors.script("ada")
    table = upload(site, ada, "n,m\n" + "".join(f"{n},1\n" for n in range(200)))
    answer = ask(site, ada, f"SELECT a.n FROM {table} a, {table} b")
    assert (len(answer["rows"]), answer["truncated"]) == (10_000, True)


def test_a_refusal_says_what_and_why(site: Flask, doors: Doors) -> None:
    answer = ask(site, doors.script("ada"), "SELECT * FROM account")
    assert answer["state"] == "failed"
    assert "account" in answer["error"]
    assert answer["rows"] == []
    wrong = ask(site, doors.script("ada"), "SELECT nothing FROM job")
    assert "nothing" in wrong["error"]
    late = doors.script("ada").post(f"/queries/{wrong['id']}/cancel")
    assert late.status_code == 409


@pytest.mark.parametrize("sql", ["SELECT * FROM account", "SELECT * FROM no_such_table", "DELETE FROM job"])
def test_whoever_reaches_for_more_is_told_what_there_is(site: Flask, doors: Doors, sql: str) -> None:
    error = ask(site, doors.script("ada"), sql)["error"]
    assert error.startswith("Refused")
    assert "A question reads the tables that are listed" in error or "Write one" in error


def test_what_runs_for_too_long_is_stopped(site: Flask, doors: Doors) -> None:
    endless = (
        "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t WHERE n < 900) "
        "SELECT count(*) FROM t a, t b, t c, t d"
    )
    answer = ask(site, doors.script("ada"), endless)
    assert answer["state"] == "failed"
    assert "too long" in answer["error"] or "longer than" in answer["error"]


def test_a_stranger_learns_nothing_of_a_question(site: Flask, doors: Doors) -> None:
    mine = doors.script("ada").post("/queries", {"sql": "SELECT 1"}).json
    assert doors.script("eve").get(f"/queries/{mine['id']}").status_code == 404
    assert doors.script("eve").post(f"/queries/{mine['id']}/cancel").status_code == 404
    assert doors.script("olga", "operator").get(f"/queries/{mine['id']}").status_code == 200
    assert doors.script("eve").get(f"/queries/{uuid4()}").status_code == 404


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"sql": ""},
        {"sql": 5},
        {"sql": "SELECT 1\0"},
        {"sql": "x" * 30_000},
        {"sql": "SELECT :a", "parameters": {"a": []}},
    ],
)
def test_what_cannot_be_a_question_is_refused_at_once(site: Flask, doors: Doors, body: dict[str, Any]) -> None:
    assert doors.script("ada").post("/queries", body).status_code == 422


def test_a_number_without_an_end_is_no_parameter(site: Flask, doors: Doors) -> None:
    ada = doors.script("ada")
    sent = ada.post(
        "/queries", data='{"sql": "SELECT :a", "parameters": {"a": 1e999}}', content_type="application/json"
    )
    assert sent.status_code == 422
    assert "parameter a" in sent.json["detail"]
