"""What AsyncResult answers for every outcome, what is seen while a job runs, revoke(), and ids of every length."""

import pytest
from celery import states
from celery.exceptions import TaskRevokedError, TimeoutError
from sqlalchemy.orm import Session

from flaskapp.errors import BadArguments, UncommittedJobs
from flaskapp.extensions import db
from flaskapp.jobs import lifecycle
from flaskapp.jobs.models import JobState
from flaskapp.jobs.outcomes import Hint
from tests.helpers import Bench
from tests.tasks_for_tests import fate, forgetful


def test_an_unknown_id_is_pending(bench: Bench) -> None:
    assert bench.result("nobody's").state == states.PENDING


def test_a_waiting_job_is_pending_and_get_times_out(bench: Bench) -> None:
    result = bench.result(bench.fate("ok"))

    assert (result.state, result.ready()) == (states.PENDING, False)
    with pytest.raises(TimeoutError):
        result.get(timeout=0.05)


def test_a_running_job_is_started(bench: Bench) -> None:
    job_id = bench.fate("ok")
    with bench.session() as session, session.begin():
        lifecycle.claim(session, [Hint(job_id)], "someone")

    assert bench.result(job_id).state == states.STARTED


def test_a_succeeded_job_answers_its_result(bench: Bench) -> None:
    result = bench.result(bench.fate("ok", [1, 2]))
    bench.run()

    assert (result.state, result.result, result.get(timeout=1)) == (states.SUCCESS, [1, 2], [1, 2])
    assert result.successful()
    assert result.name == "tests.fate"
    assert result.date_done is not None


def test_a_failed_job_raises_what_the_task_raised(bench: Bench) -> None:
    result = bench.result(bench.fate("fail", "boom"))
    bench.run()

    assert (result.state, result.failed()) == (states.FAILURE, True)
    assert "boom" in result.traceback
    assert isinstance(result.result, ValueError)
    with pytest.raises(ValueError, match="boom"):
        result.get(timeout=1)
    assert isinstance(result.get(timeout=1, propagate=False), ValueError)


def test_a_retrying_job_is_in_retry(bench: Bench) -> None:
    result = bench.result(bench.fate("retry", 1, 3, 60))
    bench.run()

    assert result.state == states.RETRY
    assert isinstance(result.result, ValueError)


def test_a_cancelled_job_is_revoked(bench: Bench) -> None:
    result = bench.result(bench.fate("ok"))

    result.revoke()

    assert result.state == states.REVOKED
    with pytest.raises(TaskRevokedError):
        result.get(timeout=1)
    assert bench.run() == []


def test_revoking_a_finished_job_changes_nothing(bench: Bench) -> None:
    result = bench.result(bench.fate("ok", 1))
    bench.run()

    result.revoke()

    assert result.get(timeout=1) == 1


def test_an_ignored_job_is_revoked(bench: Bench) -> None:
    result = bench.result(bench.fate("ignore"))
    bench.run()

    assert result.state == states.REVOKED


def test_a_job_that_ignores_its_result_keeps_no_value(bench: Bench) -> None:
    ids = [forgetful.delay().id, fate.apply_async(("ok", 5), ignore_result=True).id]
    bench.run()

    for job_id in ids:
        assert (bench.state(job_id), bench.job(job_id).result) == (JobState.SUCCEEDED, None)
        assert bench.result(job_id).get(timeout=1) is None


def test_a_failure_is_kept_even_if_the_result_is_ignored(bench: Bench) -> None:
    job_id = fate.apply_async(("fail", "boom"), ignore_result=True).id
    bench.run()

    assert (bench.state(job_id), bench.job(job_id).error_message) == (JobState.FAILED, "boom")


def test_a_parents_children_are_listed(bench: Bench) -> None:
    result = bench.result(bench.fate("submit_child", "ok", 7))
    bench.run()

    (child,) = result.children
    assert child.get(timeout=1) == 7


def test_forgetting_drops_the_value_and_keeps_the_row(bench: Bench) -> None:
    result = bench.result(bench.fate("ok", 1))
    bench.run()

    result.forget()

    assert bench.job(result.id).result is None
    assert bench.account().drift == 0


# --- while it runs ----------------------------------------------------------------------------------------


def test_a_running_job_is_seen_from_another_connection(bench: Bench) -> None:
    result = bench.result(bench.fate("look_at_oneself"))
    bench.run()

    assert result.get(timeout=1) == [states.STARTED, None]


def test_update_state_is_seen_while_it_runs_and_gone_after(bench: Bench) -> None:
    result = bench.result(bench.fate("look_at_oneself", "with a state"))
    bench.run()

    assert result.get(timeout=1) == ["READING", {"current": 3, "total": 10}]
    assert result.state == states.SUCCESS


def test_progress_is_seen_while_it_runs(bench: Bench) -> None:
    result = bench.result(bench.fate("tell_progress"))
    bench.run()

    assert result.get(timeout=1) == [3, 10, "three of ten", 1]


# --- ids, sessions ----------------------------------------------------------------------------------------


def test_an_id_of_155_characters_is_kept(bench: Bench) -> None:
    name = "é" + "x" * 154
    bench.fate("ok", 1, task_id=name)

    assert bench.run() == [name]
    assert bench.result(name).get(timeout=1) == 1


@pytest.mark.parametrize("name", ["x" * 156, ""])
def test_an_id_of_another_length_is_refused(bench: Bench, name: str) -> None:
    with pytest.raises(BadArguments, match="1 to 155 characters"):
        bench.fate("ok", task_id=name)


def test_get_on_an_uncommitted_job_raises_at_once(bench: Bench) -> None:
    with bench.app.app_context():
        result = fate.delay("ok")
        with pytest.raises(UncommittedJobs, match=result.id):
            result.get(timeout=5)
        db.session.rollback()


def test_a_result_is_read_although_the_callers_transaction_is_open(bench: Bench) -> None:
    job_id = bench.fate("ok", 1)
    with bench.app.app_context():
        db.session.execute(db.select(1))
        with Session(db.engine) as other, other.begin():
            lifecycle.cancel(other, job_id)

        assert bench.result(job_id).state == states.REVOKED
