"""`flask users` and `flask jobs`: what a shell script can rely on."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select, update

from flaskapp.accounts.models import Account, Role
from flaskapp.jobs.models import Job
from tests.integration.doors_fixtures import Doors, sign_in

# --- flask users ------------------------------------------------------------------------------------------


def test_a_piped_password_is_the_password(doors: Doors):
    done = doors.run("users", "add", "ada", "--role", "operator", stdin="from the pipe\n")
    assert done.exit_code == 0
    assert "from the pipe" not in done.output
    assert sign_in(doors.browser(), "ada", "from the pipe").status_code == 303


def test_without_a_password_one_is_made_up_and_shown(doors: Doors):
    done = doors.run("users", "add", "ada")
    shown = done.stdout.split("Password: ")[1].split(" ")[0]
    assert sign_in(doors.browser(), "ada", shown).status_code == 303


def test_an_account_is_a_viewer_unless_said_otherwise(doors: Doors):
    doors.run("users", "add", "ada", stdin="long enough\n")
    with doors.session() as session:
        assert session.scalar(select(Account.role)) == Role.VIEWER


def test_passwords_are_kept_as_scrypt(doors: Doors):
    doors.run("users", "add", "ada", stdin="long enough\n")
    with doors.session() as session:
        assert session.scalar(select(Account.password_hash)).startswith("scrypt:")


def test_a_token_stands_alone_on_standard_output(doors: Doors):
    doors.account("ada")
    done = doors.run("users", "token", "ada")
    assert done.stdout.count("\n") == 1
    headers = {"Authorization": f"Bearer {done.stdout.strip()}"}
    assert doors.browser().get("/api/v1/stats", headers=headers).status_code == 200


def test_a_new_password_replaces_the_old_one(doors: Doors):
    browser = doors.signed_in("ada")
    assert doors.run("users", "password", "ada", stdin="the newer one\n").exit_code == 0
    assert browser.get("/account").status_code == 303
    assert sign_in(doors.browser(), "ada", "the newer one").status_code == 303


def test_the_list_names_everybody(doors: Doors):
    doors.account("ada", "admin")
    doors.account("bob")
    lines = doors.run("users", "list").stdout.splitlines()
    assert [line.split()[:3] for line in lines] == [["ada", "admin", "active"], ["bob", "viewer", "active"]]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["add", "ada"], "The name ada is taken."),
        (["add", "a b"], "cannot be a name"),
        (["add", "x" * 81], "cannot be a name"),
        (["token", "nobody"], "There is no account 'nobody'."),
        (["password", "nobody"], "There is no account 'nobody'."),
        (["deactivate", "nobody"], "There is no account 'nobody'."),
    ],
)
def test_a_refused_users_command_says_why(doors: Doors, words, sentence):
    doors.account("ada")
    done = doors.run("users", *words, stdin="long enough\n")
    assert done.exit_code == 1
    assert sentence in done.stderr
    assert done.stdout == ""


def test_an_unknown_role_is_refused(doors: Doors):
    assert doors.run("users", "add", "ada", "--role", "god").exit_code == 2


def test_the_first_admin_gets_a_made_up_password_shown_in_one_line(doors: Doors):
    done = doors.run("users", "first-admin")
    (line,) = done.stdout.splitlines()
    password = line.split("password: ")[1].split(" ")[0]
    assert sign_in(doors.browser(), "admin", password).status_code == 303


def test_the_first_admin_takes_the_password_of_the_environment(doors: Doors):
    doors.app.config["SETTINGS"] = replace(doors.app.config["SETTINGS"], admin_password="from the environment")
    assert "from the environment" not in doors.run("users", "first-admin").output
    assert sign_in(doors.browser(), "admin", "from the environment").status_code == 303


def test_there_is_no_second_first_admin(doors: Doors):
    doors.account("ada")
    done = doors.run("users", "first-admin")
    assert (done.exit_code, done.output) == (0, "")
    assert doors.run("users", "list").stdout.count("\n") == 1


# --- flask jobs -------------------------------------------------------------------------------------------


def submit(doors: Doors, *words: str) -> str:
    done = doors.run("jobs", "submit", "diagnostics.echo", "--args", '["x"]', *words)
    assert done.exit_code == 0, done.output
    return done.stdout.strip()


def test_submit_prints_the_id_alone(doors: Doors):
    job_id = submit(doors)
    with doors.session() as session:
        job = session.get_one(Job, job_id)
        assert (job.task, json.loads(job.args), job.owner) == ("diagnostics.echo", ["x"], None)


def test_submit_takes_everything_that_the_api_takes(doors: Doors):
    options = ["--queue", "mail", "--run-at", "2031-01-01T00:00:00Z", "--unique-key", "k", "--max-attempts", "4"]
    job_id = submit(doors, *options)
    with doors.session() as session:
        job = session.get_one(Job, job_id)
        assert (job.queue, job.run_at.year, job.unique_key, job.max_retries) == ("mail", 2031, "k", 3)
    assert submit(doors, "--unique-key", "k") == job_id


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["no.such.task"], "is not known"),
        (["celery.backend_cleanup"], "is not known"),
        (["diagnostics.echo", "--args", "{"], "--args: This is not JSON"),
        (["diagnostics.echo", "--args", "7"], "args must be a list"),
        (["diagnostics.echo", "--args", "[1]", "--queue", "nope"], "does not exist"),
        (["diagnostics.echo", "--args", "[1]", "--run-at", "tomorrow"], "cannot be read as a time"),
        (["diagnostics.echo", "--args", "[1]", "--max-attempts", "0"], "from 1 to 1000"),
    ],
)
def test_a_refused_submit_says_why_and_prints_no_id(doors: Doors, words, sentence):
    done = doors.run("jobs", "submit", *words)
    assert done.exit_code == 1
    assert sentence in done.stderr
    assert done.stdout == ""


def test_the_list_shows_a_line_for_each_job(doors: Doors):
    first, second = submit(doors), submit(doors, "--queue", "mail")
    lines = doors.run("jobs", "list").stdout.splitlines()
    assert lines[0].split() == ["ID", "STATE", "TASK", "QUEUE", "ATTEMPT", "CREATED"]
    assert [line.split()[0] for line in lines[1:]] == [second, first]
    assert doors.run("jobs", "list", "--queue", "mail").stdout.count("\n") == 2
    assert doors.run("jobs", "list", "--limit", "1").stdout.count("\n") == 2


def test_the_list_as_json_is_what_the_api_shows(doors: Doors):
    job_id = submit(doors)
    listed = json.loads(doors.run("jobs", "list", "--state", "waiting", "--json").stdout)
    shown = doors.script("boss", "operator").get(f"/jobs/{job_id}").json
    assert [job | {"children": []} for job in listed] == [shown]


def test_show_tells_about_one_job(doors: Doors):
    job_id = submit(doors)
    assert f"id:           {job_id}" in doors.run("jobs", "show", job_id).stdout
    assert json.loads(doors.run("jobs", "show", job_id, "--json").stdout)["args"] == ["x"]


def test_cancel_and_run_again(doors: Doors):
    job_id = submit(doors)
    assert doors.run("jobs", "cancel", job_id).exit_code == 0
    assert json.loads(doors.run("jobs", "show", job_id, "--json").stdout)["state"] == "cancelled"
    assert doors.run("jobs", "run-again", job_id).exit_code == 0
    assert json.loads(doors.run("jobs", "show", job_id, "--json").stdout)["state"] == "waiting"


@pytest.mark.parametrize("verb", ["show", "cancel", "run-again"])
def test_a_job_that_does_not_exist_is_named(doors: Doors, verb: str):
    done = doors.run("jobs", verb, "nope")
    assert done.exit_code == 1
    assert "There is no job nope." in done.stderr


def test_a_forbidden_verb_names_the_state(doors: Doors):
    job_id = submit(doors)
    done = doors.run("jobs", "run-again", job_id)
    assert done.exit_code == 1
    assert f"Job {job_id} is waiting" in done.stderr


def test_prune_deletes_what_is_old_and_final(doors: Doors):
    old, kept = submit(doors), submit(doors)
    doors.run("jobs", "cancel", old)
    with doors.session() as session:
        long_ago = datetime.now(UTC) - timedelta(days=91)
        session.execute(update(Job).where(Job.id == old).values(finished_at=long_ago))
        session.commit()
    assert doors.run("jobs", "prune").stdout == "1 jobs are pruned.\n"
    with doors.session() as session:
        assert session.scalars(select(Job.id)).all() == [kept]
