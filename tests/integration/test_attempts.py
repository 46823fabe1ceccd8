"""Every way in which an attempt can end, run by run_due_jobs(): what its job's row, effects and history say then."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from celery import chain, chord, group, signals

from flaskapp.extensions import db
from flaskapp.jobs.models import JobState
from flaskapp.worker import celery_app
from tests.helpers import Bench
from tests.tasks_for_tests import add, fate, note_error, note_failed_id, write_nonsense

W, S, F, C = JobState.WAITING, JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED


def outcomes(bench: Bench, job_id: str) -> list[str]:
    return [attempt.outcome for attempt in bench.attempts(job_id)]


# --- return and raise -------------------------------------------------------------------------------------


def test_what_a_task_returns_is_its_result(bench: Bench) -> None:
    job_id = bench.fate("ok", {"rows": [1, 2.5, None, "é"]})

    assert bench.run() == [job_id]

    job = bench.job(job_id)
    assert (job.state, job.attempt, job.result) == (S, 1, '{"rows": [1, 2.5, null, "\\u00e9"]}')
    assert bench.result(job_id).get(timeout=1) == {"rows": [1, 2.5, None, "é"]}


def test_a_task_that_returns_nothing_succeeds_without_a_value(bench: Bench) -> None:
    job_id = bench.fate("ok")
    bench.run()

    assert (bench.state(job_id), bench.job(job_id).result, bench.result(job_id).get(timeout=1)) == (S, None, None)


def test_a_task_that_raises_fails_with_its_traceback(bench: Bench) -> None:
    job_id = bench.fate("fail", "the file has no header row")
    bench.run()

    job = bench.job(job_id)
    assert (job.state, job.error_type, job.error_message) == (F, "ValueError", "the file has no header row")
    assert "raise ValueError(message)" in (job.error_traceback or "")
    assert job.worker is not None


def test_a_job_whose_task_nobody_knows_here_waits_and_the_others_run(bench: Bench) -> None:
    unknown, job_id = bench.submit("tests.of_a_newer_release"), bench.fate("ok")

    assert bench.run() == [job_id]

    job = bench.job(unknown)
    assert (job.state, job.attempt) == (W, 0)


def test_an_exception_with_odd_arguments_fails_like_any_other(bench: Bench) -> None:
    job_id = bench.fate("fail_oddly")
    bench.run()

    assert (bench.state(job_id), bench.job(job_id).error_message) == (F, "odd")
    with pytest.raises(Exception):  # noqa: B017, PT011 -- its class cannot be made again, something of its kind is
        bench.result(job_id).get(timeout=1)


def test_an_exception_with_unspeakable_text_fails_like_any_other(bench: Bench) -> None:
    job_id = bench.fate("fail_unspeakably")
    bench.run()

    assert (bench.state(job_id), bench.job(job_id).error_type) == (F, "ValueError")
    assert "nul � and surrogate" in (bench.job(job_id).error_message or "")
    with pytest.raises(ValueError, match="nul"):
        bench.result(job_id).get(timeout=1)


def test_a_result_that_is_not_json_fails_the_job(bench: Bench) -> None:
    job_id = bench.fate("unencodable")
    bench.run()

    assert bench.state(job_id) == F
    assert "object" in (bench.job(job_id).error_message or "")


def test_wrong_arguments_fail_the_job(bench: Bench) -> None:
    job_id = bench.submit("diagnostics.echo", 1, 2, 3)
    bench.run()

    assert (bench.state(job_id), bench.job(job_id).error_type) == (F, "TypeError")


# --- what a task writes -----------------------------------------------------------------------------------


def test_what_a_task_writes_commits_with_its_success(bench: Bench) -> None:
    job_id = bench.fate("write_then_ok", "k")
    bench.run()

    (effect,) = bench.effects("k")
    assert (effect.job_id, effect.attempt) == (job_id, 1)


def test_what_a_failing_task_wrote_is_rolled_back(bench: Bench) -> None:
    job_id = bench.fate("write_then_fail", "k")
    bench.run()

    assert (bench.state(job_id), bench.effects("k")) == (F, [])


def test_a_commit_midway_is_a_checkpoint_that_stays(bench: Bench) -> None:
    job_id = bench.fate("write_and_commit_midway", "k")
    bench.run()

    assert bench.state(job_id) == F
    assert (len(bench.effects("k before")), len(bench.effects("k after"))) == (1, 0)


def test_a_task_that_leaves_a_broken_session_is_settled_all_the_same(bench: Bench) -> None:
    job_id = bench.fate("break_session")
    bench.run()

    # SQLite lets a transaction go on after a wrong statement; PostgreSQL gives it up.
    if bench.engine.dialect.name == "sqlite":
        assert (bench.state(job_id), len(bench.effects("broken"))) == (S, 1)
    else:
        assert (bench.state(job_id), len(bench.effects("broken"))) == (F, 0)


def test_a_row_that_cannot_be_flushed_is_the_tasks_failure(bench: Bench) -> None:
    job_id = bench.fate("leave_a_wrong_row")
    bench.run()

    assert (bench.state(job_id), bench.job(job_id).error_type) == (F, "IntegrityError")


def test_a_later_job_is_not_harmed_by_an_earlier_ones_broken_session(bench: Bench) -> None:
    bench.fate("break_session")
    bench.fate("leave_a_wrong_row")
    job_id = bench.fate("write_then_ok", "k")
    bench.run()

    assert (bench.state(job_id), len(bench.effects("k"))) == (S, 1)


# --- children ---------------------------------------------------------------------------------------------


def test_a_child_is_submitted_with_its_parents_success(bench: Bench) -> None:
    parent = bench.fate("submit_child", "ok", 1, owner="ada")

    done = bench.run()

    child = bench.job(bench.result(parent).get(timeout=1))
    assert done == [parent, child.id]
    assert (child.state, child.owner, child.parent_id, child.root_id) == (S, "ada", parent, parent)


def test_a_failing_tasks_child_never_was(bench: Bench) -> None:
    job_id = bench.fate("submit_child_then_fail")

    assert bench.run() == [job_id]

    assert [job.id for job in bench.jobs()] == [job_id]
    assert bench.account().drift == 0


def test_a_child_of_an_app_context_inside_the_task_is_not_lost_silently(bench: Bench) -> None:
    job_id = bench.fate("submit_child_in_a_context_of_its_own", False)
    sessions = db.session.registry.registry
    before = len(sessions)
    bench.run()

    job = bench.job(job_id)
    assert (job.state, job.error_type) == (F, "UncommittedJobs")
    assert "Call db.session.commit() in it" in (job.error_message or "")
    # The session is known by its context's number, which another context may get.
    assert len(sessions) == before


def test_a_child_committed_in_an_app_context_inside_the_task_runs(bench: Bench) -> None:
    job_id = bench.fate("submit_child_in_a_context_of_its_own", True)
    bench.run()

    assert bench.state(bench.result(job_id).get(timeout=1)) == S


# --- retries ----------------------------------------------------------------------------------------------


def test_a_retry_runs_again_until_it_succeeds(bench: Bench) -> None:
    job_id = bench.fate("retry", 2)

    assert bench.run() == [job_id] * 3

    job = bench.job(job_id)
    assert (job.state, job.attempt, job.retries, job.result, job.crashes) == (S, 3, 2, "2", 0)
    assert outcomes(bench, job_id) == ["retried", "retried"]
    assert bench.effects("retried") == []


def test_a_retry_waits_for_its_countdown(bench: Bench) -> None:
    job_id = bench.fate("retry", 1, 3, 60)

    assert bench.run() == [job_id]
    assert (bench.state(job_id), bench.result(job_id).state) == (W, "RETRY")
    bench.make_due(job_id)
    assert bench.run() == [job_id]
    assert bench.state(job_id) == S


def test_a_task_out_of_retries_fails_with_its_own_exception(bench: Bench) -> None:
    job_id = bench.fate("retry", 9, 2)
    bench.run()

    job = bench.job(job_id)
    assert (job.state, job.error_type, job.error_message, job.attempt) == (F, "ValueError", "try again", 3)


def test_a_retry_may_change_the_arguments(bench: Bench) -> None:
    job_id = bench.fate("retry_with_other_arguments", "first")
    bench.run()

    assert bench.result(job_id).get(timeout=1) == "second"


def test_a_retry_that_does_not_throw_keeps_what_was_written(bench: Bench) -> None:
    job_id = bench.fate("retry_nothrow")

    assert bench.run() == [job_id] * 2

    assert bench.result(job_id).get(timeout=1) == "second"
    assert len(bench.effects("before")) == 1


def test_autoretry_retries_by_itself(bench: Bench) -> None:
    job_id = bench.submit("tests.autoretry", 1)
    bench.run()
    assert (bench.state(job_id), bench.job(job_id).retries) == (W, 1)
    bench.make_due(job_id)
    bench.run()

    assert (bench.state(job_id), bench.job(job_id).result) == (S, "1")


def test_autoretry_ends_at_its_limit(bench: Bench) -> None:
    job_id = bench.submit("tests.autoretry", 9)
    for _ in range(3):
        bench.run()
        if bench.state(job_id) == W:
            bench.make_due(job_id)

    assert (bench.state(job_id), bench.job(job_id).attempt) == (F, 3)


def test_the_callers_limit_retries_a_plain_task(bench: Bench) -> None:
    job_id = bench.fate("fail", max_attempts=3)
    for _ in range(4):
        bench.run()
        if bench.state(job_id) == W:
            bench.make_due(job_id)

    job = bench.job(job_id)
    assert (job.state, job.attempt, job.retries) == (F, 3, 2)
    assert outcomes(bench, job_id) == ["retried", "retried"]


def test_the_callers_limit_goes_before_the_tasks_own(bench: Bench) -> None:
    job_id = bench.fate("retry", 9, 5, max_attempts=2)
    bench.run()

    assert (bench.state(job_id), bench.job(job_id).attempt) == (F, 2)


def test_one_attempt_means_no_retry(bench: Bench) -> None:
    job_id = bench.fate("fail", max_attempts=1)
    bench.run()

    assert bench.state(job_id) == F


def test_running_again_gives_every_retry_back(bench: Bench) -> None:
    from flaskapp.jobs import lifecycle

    job_id = bench.fate("retry", 9, 1)
    bench.run()
    with bench.session() as session, session.begin():
        assert lifecycle.run_again(session, job_id)
    bench.run()

    assert (bench.job(job_id).attempt, bench.state(job_id)) == (4, F)
    assert outcomes(bench, job_id) == ["retried", "failed", "retried"]


# --- replace, Ignore, Reject ------------------------------------------------------------------------------


def test_a_replaced_job_goes_on_as_the_other_task(bench: Bench) -> None:
    job_id = bench.fate("replace")

    assert bench.run() == [job_id] * 2

    job = bench.job(job_id)
    assert (job.state, job.task, job.result) == (S, "diagnostics.echo", '"the other"')
    assert len(bench.effects("replaced")) == 1


def test_a_job_replaced_by_a_chain_ends_with_the_chains_result(bench: Bench) -> None:
    job_id = bench.fate("replace_chain")
    bench.run()

    assert bench.result(job_id).get(timeout=1) == "two"
    assert {job.state for job in bench.jobs()} == {S}
    assert bench.account().drift == 0


def test_a_job_may_be_replaced_twice(bench: Bench) -> None:
    job_id = bench.fate("replace_twice")
    bench.run()

    assert bench.result(job_id).get(timeout=1) == "the other"


def test_ignore_cancels_and_keeps_nothing(bench: Bench) -> None:
    job_id = bench.fate("ignore")
    bench.run()

    job = bench.job(job_id)
    assert (job.state, job.error_type, job.error_message) == (C, "Ignore", "nothing to do")
    assert bench.effects("ignored") == []


def test_reject_fails_the_job(bench: Bench) -> None:
    job_id = bench.fate("reject")
    bench.run()

    job = bench.job(job_id)
    assert (job.state, job.error_type, job.error_message) == (F, "Reject", "not for us")
    assert bench.effects("rejected") == []


def test_reject_with_requeue_runs_again(bench: Bench) -> None:
    job_id = bench.fate("reject_requeue")
    bench.run()
    assert bench.state(job_id) == W
    bench.make_due(job_id)
    bench.run()

    assert bench.result(job_id).get(timeout=1) == "later"
    assert bench.effects("rejected") == []


# --- links, chains, groups, chords ------------------------------------------------------------------------


def test_a_link_runs_with_the_result(bench: Bench) -> None:
    job_id = fate.apply_async(("ok", 5), link=add.s(1)).id
    bench.run()

    (linked,) = [job for job in bench.jobs() if job.id != job_id]
    assert (linked.task, linked.state, linked.result) == ("tests.add", S, "6")


def test_a_failed_job_runs_no_link(bench: Bench) -> None:
    job_id = fate.apply_async(("fail",), link=add.s(1)).id
    bench.run()

    assert [job.id for job in bench.jobs()] == [job_id]


def test_an_errback_of_the_new_kind_is_called(bench: Bench) -> None:
    job_id = fate.apply_async(("fail", "boom"), link_error=note_error.s()).id
    bench.run()

    assert [effect.job_id for effect in bench.effects("errback boom")] == [job_id]


def test_an_errback_of_the_old_kind_is_a_job(bench: Bench) -> None:
    job_id = fate.apply_async(("fail", "boom"), link_error=note_failed_id.s()).id
    bench.run()

    assert len(bench.effects(f"errback of {job_id}")) == 1


def test_an_errback_waits_for_the_last_retry(bench: Bench) -> None:
    fate.apply_async(("retry", 9, 2), link_error=note_error.s())
    bench.run()

    assert len(bench.effects("errback try again")) == 1


def test_a_chain_hands_each_result_on(bench: Bench) -> None:
    result = chain(fate.s("ok", 1), add.s(10), add.s(100))()

    assert len(bench.run()) == 3

    assert result.get(timeout=1) == 111
    assert result.parent.parent.get(timeout=1) == 1


def test_a_chain_that_breaks_fails_every_later_step(bench: Bench) -> None:
    result = chain(fate.s("fail", "first step"), add.s(10), add.s(100))()
    bench.run()

    with pytest.raises(ValueError, match="first step"):
        result.get(timeout=1)
    assert {job.state for job in bench.jobs()} == {F}
    assert bench.account().drift == 0


def test_a_chain_survives_a_retry_in_the_middle(bench: Bench) -> None:
    result = chain(fate.s("retry", 1), add.s(10))()
    bench.run()

    assert result.get(timeout=1) == 11


def test_a_group_gives_every_result(bench: Bench) -> None:
    result = group(add.s(n, 1) for n in range(5))()
    bench.run()

    assert result.get(timeout=1) == [1, 2, 3, 4, 5]


def test_a_chord_gets_the_results_of_its_header(bench: Bench) -> None:
    result = chord([add.s(n, n) for n in range(4)])(add.s())
    for _ in range(5):
        bench.run()
        for job in bench.jobs():
            if job.state == W:
                bench.make_due(job.id)

    assert result.get(timeout=1) == 12


# --- callbacks and signals --------------------------------------------------------------------------------


def test_an_errback_that_writes_nonsense_does_not_unsettle_the_job(bench: Bench) -> None:
    job_id = fate.apply_async(("fail", "boom"), link_error=write_nonsense.s()).id
    bench.run()

    assert (bench.state(job_id), bench.job(job_id).error_message) == (F, "boom")


def test_signals_see_a_settled_job(bench: Bench) -> None:
    seen = []

    def look(sender: object = None, task_id: str = "", **_: object) -> None:
        seen.append(bench.state(task_id))

    signals.task_postrun.connect(look)
    try:
        bench.fate("ok")
        bench.fate("fail")
        bench.run()
    finally:
        signals.task_postrun.disconnect(look)

    assert seen == [S, F]


def test_a_retry_stays_in_the_queue_that_its_caller_chose(bench: Bench) -> None:
    job_id = bench.fate("retry", 1, queue="mail")

    bench.run()

    job = bench.job(job_id)
    assert (job.state, job.retries, job.queue) == (S, 1, "mail")


CHOSEN = {"queue": "mail", "expires": 3600, "priority": 7, "time_limit": 70.0}
OPTIONS = ("queue", "expires_at", "priority", "time_limit")


def options_of(bench: Bench, job_id: str) -> list[Any]:
    job = bench.job(job_id)
    return [getattr(job, name) for name in OPTIONS]


def test_a_retry_stays_as_its_caller_chose_whatever_its_task_says(bench: Bench) -> None:
    job_id = bench.submit("tests.with_own_options", **CHOSEN)
    before = options_of(bench, job_id)

    bench.run()

    assert (bench.state(job_id), bench.job(job_id).retries) == (S, 1)
    assert options_of(bench, job_id) == before


def test_a_retry_keeps_the_expiry_that_its_task_gave_it_first(bench: Bench) -> None:
    job_id = bench.submit("tests.with_own_options")
    before = options_of(bench, job_id)

    bench.run()

    assert (bench.state(job_id), options_of(bench, job_id)) == (S, before)
    assert before[0] == "uploads"


def test_a_retry_may_name_another_queue_and_expiry(bench: Bench) -> None:
    job_id = bench.celery.send_task("tests.with_own_options", kwargs={"queue": "query", "expires": 86400}, **CHOSEN).id
    _, expires, *rest = options_of(bench, job_id)

    bench.run()

    queue, later, *same = options_of(bench, job_id)
    assert (queue, later > expires, same) == ("query", True, rest)


def test_an_expiry_in_seconds_is_counted_by_the_databases_clock(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    class Slow(datetime):
        """The clock of a machine that is ten minutes behind."""

        @classmethod
        def now(cls, tz: Any = None) -> datetime:
            return datetime.now(tz) - timedelta(minutes=10)

    monkeypatch.setattr(celery_app, "datetime", Slow)
    job_id = bench.fate("ok", expires=60)

    bench.run()

    assert bench.state(job_id) == S


def test_what_a_task_knows_about_itself(bench: Bench) -> None:
    job_id = bench.fate("who_am_i", queue="mail")
    bench.run()

    assert bench.result(job_id).get(timeout=1) == [job_id, 0, job_id, None, "mail"]


def test_the_books_balance_after_everything(bench: Bench) -> None:
    for what in (
        "ok",
        "fail",
        "ignore",
        "reject",
        "retry_nothrow",
        "replace",
        "replace_chain",
        "submit_child_then_fail",
    ):
        bench.fate(what)
    chain(fate.s("fail"), add.s(1))()
    bench.run()

    assert bench.account().drift == 0


def test_the_failing_diagnostic_task_succeeds_after_its_failures(bench: Bench) -> None:
    job_id = bench.submit("diagnostics.fail", 1)
    bench.run()
    bench.make_due(job_id)
    bench.run()

    assert bench.state(job_id) == S
