"""Which `limit_key` a job has: its caller's, else its task's; and who keeps which priority through a retry."""

from typing import Any

import pytest
from celery import chain

from flaskapp.errors import BadArguments
from flaskapp.jobs import control
from flaskapp.jobs.limits import Rule
from flaskapp.jobs.models import JobState
from tests.helpers import Bench
from tests.tasks_for_tests import add, fate, of_the_mailhost


def key_of(bench: Bench, result: Any) -> str | None:
    return bench.job(result.id).limit_key


def test_a_caller_names_the_key_and_else_the_task_does(bench: Bench) -> None:
    assert key_of(bench, add.apply_async((1,), limit_key="customer-7")) == "customer-7"
    assert key_of(bench, of_the_mailhost.delay()) == "mailhost"
    assert key_of(bench, of_the_mailhost.apply_async(limit_key="another")) == "another"
    assert key_of(bench, add.delay(1)) is None


def test_a_step_of_a_chain_has_its_own_key(bench: Bench) -> None:
    chain(add.si(1), of_the_mailhost.si(2), add.si(3).set(limit_key="last"))()
    bench.run()

    assert [job.limit_key for job in bench.jobs()] == [None, "mailhost", "last"]


@pytest.mark.parametrize("key", ["x" * 256, "nul \0", "\ud800"])
def test_a_key_that_no_database_holds_is_refused(bench: Bench, key: str) -> None:
    with pytest.raises(BadArguments, match="limit_key must be a text"):
        add.apply_async((1,), limit_key=key)


def test_a_retry_keeps_its_callers_key_and_priority(bench: Bench) -> None:
    job_id = bench.fate("retry", 1, limit_key="customer-7", priority=9)
    bench.run()

    job = bench.job(job_id)
    assert (job.state, job.retries, job.limit_key, job.priority) == (JobState.SUCCEEDED, 1, "customer-7", 9)


def test_a_retry_may_ask_for_another_priority(bench: Bench) -> None:
    job_id = bench.fate("retry_at_priority", 7, priority=3)
    bench.run()

    assert (bench.job(job_id).retries, bench.job(job_id).priority) == (1, 7)


def test_a_task_that_takes_over_brings_its_own_key(bench: Bench) -> None:
    job_id = fate.apply_async(("replace_by_mailhost",), limit_key="customer-7").id
    bench.run()

    job = bench.job(job_id)
    assert (job.task, job.state, job.limit_key) == ("tests.of_the_mailhost", JobState.SUCCEEDED, "mailhost")


def test_in_a_users_own_test_a_rate_and_a_pause_hold_and_nothing_goes_round_in_circles(bench: Bench) -> None:
    with bench.session() as session, session.begin():
        control.set_limit(session, "mailhost", Rule(rate_count=2, rate_seconds=600))
        control.pause_queue(session, "mail")
    limited = [of_the_mailhost.delay().id for _ in range(4)]
    paused = bench.fate("ok", queue="mail")
    free = bench.fate("ok")

    assert sorted(bench.run()) == sorted([*limited[:2], free])

    assert [bench.state(each) for each in (*limited[2:], paused)] == [JobState.WAITING] * 3
