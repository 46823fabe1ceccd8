"""How work is handed over: in the caller's transaction or at once, with every option, and at no broker's mercy."""

import threading
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from celery import chain, group
from flask import Flask
from sqlalchemy import select
from werkzeug.exceptions import BadRequest

from flaskapp.accounts.protection import public
from flaskapp.diagnostics.models import Effect
from flaskapp.errors import BadArguments, UncommittedJobs
from flaskapp.extensions import db
from flaskapp.jobs.models import Job, JobState
from flaskapp.worker import sessions
from tests.helpers import Bench, make_app, make_current
from tests.services.processes import free_port
from tests.tasks_for_tests import add, fate


def count(bench: Bench) -> int:
    return len(bench.jobs())


# --- whose transaction ------------------------------------------------------------------------------------


def test_outside_a_context_a_job_is_committed_at_once(bench: Bench) -> None:
    job_id = fate.delay("ok").id

    assert bench.state(job_id) == JobState.WAITING
    assert bench.celery.relay.count == 1


def test_inside_a_context_the_callers_commit_decides(bench: Bench) -> None:
    with bench.app.app_context():
        fate.delay("ok")
        assert count(bench) == 0
        db.session.commit()
        assert count(bench) == 1


def test_a_rollback_takes_the_job_with_the_business_row(bench: Bench) -> None:
    with bench.app.app_context():
        db.session.add(Effect(key="order", job_id="-", attempt=0))
        fate.delay("ok")
        db.session.rollback()

    assert (count(bench), bench.effects("order"), bench.account().accepted) == (0, [], 0)


def test_a_commit_keeps_the_job_with_the_business_row(bench: Bench) -> None:
    with bench.app.app_context():
        db.session.add(Effect(key="order", job_id="-", attempt=0))
        fate.delay("ok")
        db.session.commit()

    assert (count(bench), len(bench.effects("order")), bench.account().accepted) == (1, 1, 1)


def test_a_business_row_that_is_refused_takes_the_job_along(bench: Bench) -> None:
    with bench.app.app_context():
        fate.delay("ok")
        db.session.add(Effect(key=None, job_id="-", attempt=0))
        with pytest.raises(Exception, match=r"(?i)null"):
            db.session.commit()

    assert count(bench) == 0


def test_every_thread_of_a_server_finds_the_application(bench: Bench) -> None:
    ids: list[str] = []
    thread = threading.Thread(target=lambda: ids.append(fate.delay("ok").id))
    thread.start()
    thread.join(10)

    assert bench.state(ids[0]) == JobState.WAITING


def test_a_chain_is_one_row_until_it_goes_on(bench: Bench) -> None:
    chain(add.s(1, 2), add.s(3))()

    assert count(bench) == 1


def test_a_group_in_a_context_is_the_callers_transaction(bench: Bench) -> None:
    with bench.app.app_context():
        group(add.s(n) for n in range(5))()
        db.session.rollback()
        group(add.s(n) for n in range(3))()
        db.session.commit()

    assert (count(bench), bench.account().drift) == (3, 0)


# --- options ----------------------------------------------------------------------------------------------


def lateness(job: Job) -> float:
    return (job.run_at - job.created_at).total_seconds()


def test_a_countdown_is_counted_by_the_databases_clock(bench: Bench) -> None:
    job = bench.job(fate.apply_async(("ok",), countdown=90).id)

    assert lateness(job) == pytest.approx(90, abs=1)
    assert bench.run() == []


@pytest.mark.parametrize(
    "eta",
    [
        datetime(2031, 5, 1, 8, 0, tzinfo=UTC),
        datetime(2031, 5, 1, 10, 0, tzinfo=datetime.strptime("+0200", "%z").tzinfo),
        datetime(2031, 5, 1, 8, 0),
        "2031-05-01T08:00:00+00:00",
        "2031-05-01T08:00:00Z",
    ],
)
def test_an_eta_is_a_moment_however_it_is_written(bench: Bench, eta: Any) -> None:
    assert bench.job(fate.apply_async(("ok",), eta=eta).id).run_at == datetime(2031, 5, 1, 8, 0, tzinfo=UTC)


@pytest.mark.parametrize("expires", [60, "in a minute"])
def test_an_expiry_is_seconds_or_a_moment(bench: Bench, expires: Any) -> None:
    moment = datetime.now(UTC) + timedelta(seconds=60)
    job = bench.job(fate.apply_async(("ok",), expires=60 if expires == 60 else moment).id)

    assert job.expires_at is not None
    assert abs(job.expires_at - moment) < timedelta(seconds=5)


def test_a_job_past_its_expiry_does_not_run(bench: Bench) -> None:
    job_id = fate.apply_async(("write_then_ok", "k"), expires=datetime.now(UTC) - timedelta(seconds=1)).id
    bench.run()

    assert (bench.state(job_id), bench.effects("k")) == (JobState.CANCELLED, [])


def test_priority_queue_and_owner_stand_in_the_row(bench: Bench) -> None:
    job = bench.job(fate.apply_async(("ok",), priority=7, queue="mail", owner="ada").id)

    assert (job.priority, job.queue, job.owner) == (7, "mail", "ada")


def test_the_higher_priority_runs_first(bench: Bench) -> None:
    low, high = fate.apply_async(("ok",), priority=1).id, fate.apply_async(("ok",), priority=9).id

    assert bench.run() == [high, low]


def test_a_unique_key_answers_the_live_job(bench: Bench) -> None:
    first = fate.apply_async(("ok", 1), unique_key="k")
    second = fate.apply_async(("ok", 2), unique_key="k")

    assert second.id == first.id
    bench.run()
    assert second.get(timeout=1) == 1
    assert fate.apply_async(("ok", 2), unique_key="k").id != first.id


def test_a_taken_id_answers_the_job_that_has_it(bench: Bench) -> None:
    fate.apply_async(("ok", 1), task_id="mine")
    fate.apply_async(("ok", 2), task_id="mine")
    bench.run()

    assert bench.result("mine").get(timeout=1) == 1
    assert (count(bench), bench.account().drift) == (1, 0)


def test_max_attempts_is_the_callers_limit(bench: Bench) -> None:
    assert bench.job(fate.apply_async(("ok",), max_attempts=4).id).max_retries == 3


def test_the_signed_in_account_owns_the_job(bench: Bench) -> None:
    from flask import g

    with bench.app.test_request_context():
        g.job_owner = "ada"
        job_id = fate.delay("ok").id
        db.session.commit()

    assert bench.job(job_id).owner == "ada"


def test_a_name_that_nobody_registered_is_kept_for_a_worker_that_knows_it(bench: Bench) -> None:
    job = bench.job(bench.submit("another.project.task", 1))

    assert (job.task, job.queue, job.state) == ("another.project.task", "default", JobState.WAITING)


# --- wrong wishes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"args": "text"}, "must be a list, not str"),
        ({"args": 5}, "must be a list, not int"),
        ({"kwargs": [1]}, "must be a mapping, not list"),
        ({"countdown": "soon"}, "A countdown is a number of seconds, not 'soon'"),
        ({"eta": "tomorrow"}, "'tomorrow' is not a time. Write e.g. 2027"),
        ({"eta": object()}, "is not a time"),
        ({"expires": "whenever"}, "'whenever' is not a time"),
        ({"task_id": "x" * 156}, "A job id has 1 to 155 characters"),
        ({"task_id": "a\x00b"}, "A job id has 1 to 155 characters"),
        ({"countdown": float("nan")}, "within a hundred years"),
        ({"countdown": 1e13}, "within a hundred years"),
        ({"expires": float("inf")}, "within a hundred years"),
        ({"unique_key": "k" * 256}, "unique_key must be a text of at most 255"),
        ({"unique_key": "a\x00"}, "unique_key must be a text of at most 255"),
        ({"owner": "\ud800"}, "owner must be a text of at most 80"),
        ({"queue": "q" * 65}, "queue must be a text of at most 64"),
        ({"group_id": "g" * 156}, "group_id must be a text of at most 155"),
        ({"priority": "high"}, "priority must be a whole number, not 'high'"),
        ({"priority": 2**40}, "priority must lie between"),
        ({"max_attempts": 0}, "max_attempts must lie between 1 and"),
        ({"max_attempts": "some"}, "max_attempts must be a whole number"),
        ({"time_limit": "long"}, "time_limit must be a number of seconds above 0"),
        ({"time_limit": -1}, "time_limit must be a number of seconds above 0"),
        ({"args": [{1, 2}]}, "The arguments of tests.fate cannot be written as JSON"),
    ],
)
def test_a_wish_that_cannot_be_a_job_gets_a_sentence(bench: Bench, options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(BadArguments, match=sentence):
        bench.celery.send_task("tests.fate", **options)

    assert count(bench) == 0


def test_arguments_that_are_not_json_are_refused_before_anything_is_written(bench: Bench) -> None:
    with pytest.raises(BadArguments, match="cannot be written as JSON"):
        fate.delay(object())

    assert count(bench) == 0


# --- the nudge --------------------------------------------------------------------------------------------


def test_the_nudge_comes_with_the_outermost_commit_only(bench: Bench) -> None:
    with bench.app.app_context():
        with db.session.begin_nested():
            fate.delay("ok")
        assert bench.celery.relay.count == 0
        db.session.commit()
        assert bench.celery.relay.count == 1


def test_a_unique_keys_savepoint_does_not_nudge(bench: Bench) -> None:
    with bench.app.app_context():
        fate.apply_async(("ok",), unique_key="k")
        fate.apply_async(("ok",), unique_key="k")
        assert bench.celery.relay.count == 0
        db.session.rollback()
        db.session.commit()
        assert bench.celery.relay.count == 0


def test_a_commit_without_jobs_nudges_nobody(bench: Bench) -> None:
    with bench.app.app_context():
        db.session.add(Effect(key="k", job_id="-", attempt=0))
        db.session.commit()

    assert bench.celery.relay.count == 0


# --- requests ---------------------------------------------------------------------------------------------


@pytest.fixture
def site(installation: Bench) -> Flask:
    """The application with three views that differ in how they end."""
    app = installation.app
    if "tests.commits" not in app.view_functions:
        app._got_first_request = False

        @public
        def commits() -> str:
            fate.delay("ok")
            db.session.commit()
            return "accepted"

        @public
        def forgets() -> str:
            fate.delay("ok")
            return "accepted"

        @public
        def refuses() -> str:
            fate.delay("ok")
            raise BadRequest("no")

        for view in (commits, forgets, refuses):
            app.add_url_rule(f"/{view.__name__}", f"tests.{view.__name__}", view)
    app.testing = True
    return app


def test_a_request_that_commits_its_job_is_fine(bench: Bench, site: Flask) -> None:
    assert site.test_client().get("/commits").status_code == 200

    assert count(bench) == 1


def test_a_savepoint_that_is_undone_forgets_its_own_jobs_only(bench: Bench) -> None:
    with bench.app.app_context():
        before = bench.fate("ok")
        with suppress(ValueError), db.session.begin_nested():
            bench.fate("ok")
            raise ValueError
        assert sessions.uncommitted_jobs() == [before]
        db.session.commit()
    assert [job.id for job in bench.jobs()] == [before]
    assert bench.celery.relay.count == 1


def test_a_request_that_ends_well_with_an_uncommitted_job_is_an_error_that_names_it(bench: Bench, site: Flask) -> None:
    with pytest.raises(UncommittedJobs, match=r"1 submitted job.*db\.session\.commit\(\)"):
        site.test_client().get("/forgets")

    assert count(bench) == 0


def test_a_request_that_fails_may_leave_its_job_behind(bench: Bench, site: Flask) -> None:
    assert site.test_client().get("/refuses").status_code == 400

    assert count(bench) == 0


# --- no broker --------------------------------------------------------------------------------------------


def test_submitting_does_not_wait_for_a_broker_that_is_down(database: str, tmp_path: Path, bench: Bench) -> None:
    nobody_listens = f"amqp://guest:guest@127.0.0.1:{free_port()}//"
    app = make_app(database, nobody_listens, tmp_path)
    celery = app.extensions["celery"]
    celery.relay = celery.make_relay()
    try:
        started = time.monotonic()
        ids = [fate.delay("ok").id for _ in range(5)]
        with app.app_context():
            ids.append(fate.delay("ok").id)
            db.session.commit()
        took = time.monotonic() - started
        with app.app_context():
            stored = db.session.scalars(select(Job.id)).all()
    finally:
        celery.relay.stop(10)
        make_current(bench.app)

    assert sorted(stored) == sorted(ids)
    assert took < 3
