"""A step that fails, however it ends, fails what follows it; run again, it lets the rest go on."""

from collections.abc import Callable
from typing import Any

import pytest
from celery import chain, chord, group
from celery.exceptions import ChordError, TaskRevokedError
from kombu.utils.json import dumps
from sqlalchemy import event, select, update

from flaskapp.diagnostics.models import Effect
from flaskapp.diagnostics.tasks import echo
from flaskapp.jobs import lifecycle
from flaskapp.jobs.clock import now, seconds_from_now
from flaskapp.jobs.models import Job, JobState, Join
from flaskapp.jobs.outcomes import Claimed, Crashed, Error, Failed, Hint, Ignored, Succeeded, Wish
from tests.helpers import Bench
from tests.tasks_for_tests import add, fail_first_body, fate, note_error

W, R, S, F, C = JobState.WAITING, JobState.RUNNING, JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED
GONE = Error("WorkerLost", "The process 1 that ran it was ended by SIGKILL.")


def the_join(bench: Bench, n: int = 0) -> Join:
    with bench.session() as session:
        return list(session.scalars(select(Join).order_by(Join.number)))[n]


def run_again(bench: Bench, job_id: str) -> bool:
    with bench.session() as session, session.begin():
        return lifecycle.run_again(session, job_id)


def cancel(bench: Bench, job_id: str) -> bool:
    with bench.session() as session, session.begin():
        return lifecycle.cancel(session, job_id, by="a person")


def claim(session: Any, job_id: str) -> Claimed:
    sends = session.scalars(select(Job.sends).where(Job.id == job_id)).one()
    return lifecycle.claim(session, [Hint(job_id, sends)], "a worker")[job_id]


def steps(bench: Bench) -> list[str]:
    """The jobs of a chain, in its order."""
    after = {job.parent_id: job.id for job in bench.jobs()}
    ids = [after[None]]
    while ids[-1] in after:
        ids.append(after[ids[-1]])
    return ids


# --- every way to end -------------------------------------------------------------------------------------


def by_failing(session: Any, job_id: str) -> None:
    lifecycle.settle(session, [Failed(claim(session, job_id), Error("TimeLimitExceeded", "too long"))])


def by_ignoring(session: Any, job_id: str) -> None:
    lifecycle.settle(session, [Ignored(claim(session, job_id), "nothing to do")])


def by_crashing(session: Any, job_id: str) -> None:
    session.execute(update(Job).where(Job.id == job_id).values(crashes=2))
    lifecycle.settle(session, [Crashed(claim(session, job_id), GONE)])


def by_losing_its_worker(session: Any, job_id: str) -> None:
    session.execute(update(Job).where(Job.id == job_id).values(crashes=2))
    claim(session, job_id)
    assert lifecycle.rescue(session, ["a worker"]) == [job_id]


def by_cancel_while_it_waits(session: Any, job_id: str) -> None:
    assert lifecycle.cancel(session, job_id, by="a person")


def by_cancel_while_it_runs(session: Any, job_id: str) -> None:
    claim(session, job_id)
    assert lifecycle.cancel(session, job_id, by="a person")


def by_expiring(session: Any, job_id: str) -> None:
    session.execute(update(Job).where(Job.id == job_id).values(expires_at=seconds_from_now(-1)))
    assert lifecycle.claim(session, [Hint(job_id)], "a worker") == {}


ENDS: list[Callable[..., None]] = [
    by_failing,
    by_ignoring,
    by_crashing,
    by_losing_its_worker,
    by_cancel_while_it_waits,
    by_cancel_while_it_runs,
    by_expiring,
]


@pytest.mark.parametrize("end", ENDS)
def test_however_a_step_ends_what_follows_it_fails_in_the_same_transaction(bench: Bench, end: Any) -> None:
    result = chord([chain(add.si(1), add.s(1)), add.si(2)])(chain(add.s(), add.s(1)))
    first = next(job.id for job in bench.jobs() if job.counts_for is None and not job.is_parked)

    with bench.session() as session, session.begin():
        end(session, first)

    rows = {job.id: job for job in bench.jobs()}
    assert rows[result.id].state == F
    assert first in (rows[result.id].error_message or "")
    assert sorted(job.state for job in rows.values() if job.id != first) == [F, F, F, W]
    with pytest.raises((ChordError, TaskRevokedError)):
        bench.result(result.id).get(timeout=1)
    assert bench.account().drift == 0


@pytest.mark.parametrize("end", [by_crashing, by_failing, by_losing_its_worker])
def test_errbacks_are_called_also_when_no_trace_saw_the_failure(bench: Bench, end: Any) -> None:
    job_id = fate.apply_async(("ok",), link_error=note_error.s()).id
    with bench.session() as session, session.begin():
        end(session, job_id)
    bench.run()

    with bench.session() as session:
        assert list(session.scalars(select(Effect.job_id))) == [job_id]


def test_a_cancelled_member_is_named_as_cancelled(bench: Bench) -> None:
    result = chord([add.si(1), add.si(2)])(add.s())
    cancel(bench, result.parent.results[0].id)

    body = bench.job(result.id)
    assert (body.state, body.error_type) == (F, "ChordError")
    assert "did not succeed: Cancelled." in (body.error_message or "")


def test_what_a_step_said_in_its_error_stands_in_its_own_row_only(bench: Bench) -> None:
    """It may hold what its task calls secret; there it is masked."""
    result = chain(fate.si("fail", "the password is tomato"), add.s(1))()
    bench.run()

    with pytest.raises(ValueError, match="tomato"):
        bench.result(result.id).get(timeout=1)
    assert "tomato" not in (bench.job(result.id).error_message or "")


def test_a_member_settled_twice_counts_once(bench: Bench) -> None:
    result = chord([add.si(1), add.si(2), add.si(3)])(echo.s())
    ids = [member.id for member in result.parent]
    with bench.session() as session, session.begin():
        claimed = claim(session, ids[0])
    outcome = Succeeded(claimed, "1")
    for settled in ({ids[0]}, set()):
        with bench.session() as session, session.begin():
            assert lifecycle.settle(session, [outcome, outcome]) == settled

    assert the_join(bench).missing == 2
    bench.run()
    assert result.get(timeout=1) == [1, 2, 3]


def test_counting_does_not_read_the_list_of_members(bench: Bench) -> None:
    """It may be long, and every member counts."""
    result = chord([add.si(n) for n in range(3)])(echo.s())
    read: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        read.append(statement)

    with bench.session() as session, session.begin():
        claimed = claim(session, result.parent.results[0].id)
    event.listen(bench.engine, "before_cursor_execute", note)
    with bench.session() as session, session.begin():
        lifecycle.settle(session, [Succeeded(claimed, "1")])
    event.remove(bench.engine, "before_cursor_execute", note)

    assert not [statement for statement in read if "members" in statement]
    # One more to see and lock the join, one to count.
    assert len([statement for statement in read if "job_join" in statement]) == 2


def test_a_join_that_counted_wrongly_looks_at_its_members(bench: Bench) -> None:
    """The counter says when to look; the rows say whether the body may run."""
    result = chord([add.si(1), add.si(2), add.si(3)])(echo.s())
    with bench.session() as session, session.begin():
        session.execute(update(Join).values(missing=1))
    with bench.session() as session, session.begin():
        lifecycle.settle(session, [Succeeded(claim(session, result.parent.results[0].id), "1")])

    assert (the_join(bench).missing, bench.job(result.id).is_parked) == (2, True)
    bench.run()
    assert result.get(timeout=1) == [1, 2, 3]


def test_members_settled_in_one_group_release_their_body_together_with_themselves(bench: Bench) -> None:
    result = chord([add.si(n) for n in range(5)])(echo.s())
    ids = [member.id for member in result.parent]
    with bench.session() as session, session.begin():
        outcomes = [Succeeded(claim(session, job_id), str(n)) for n, job_id in enumerate(ids)]
        lifecycle.settle(session, outcomes)
        assert bench.job(result.id).is_parked

    body = bench.job(result.id)
    assert (body.is_parked, body.args, body.parent_id) == (False, "[[0, 1, 2, 3, 4]]", ids[-1])


# --- run again --------------------------------------------------------------------------------------------


def test_running_a_failed_member_again_reopens_the_join(bench: Bench) -> None:
    result = chord([fate.si("fail_in_first", 1), add.si(2)])(echo.s())
    member = result.parent.results[0].id
    bench.run()
    assert bench.state(result.id) == F

    assert run_again(bench, member)

    body, join = bench.job(result.id), the_join(bench)
    assert (body.state, body.is_parked, body.error_message, body.finished_at) == (W, True, None, None)
    assert (join.broken_by, join.finished_at, join.missing) == (None, None, 1)
    bench.run()
    assert bench.result(result.id).get(timeout=1) == [1, 2]
    assert bench.job(result.id).attempt == 1
    assert [attempt.outcome for attempt in bench.attempts(member)] == ["failed"]
    assert bench.account().drift == 0


def test_a_cancelled_body_whose_join_is_broken_does_not_wait_for_ever(bench: Bench) -> None:
    result = chord([fate.si("fail"), fate.si("ok")])(add.si(1))
    assert cancel(bench, result.id)
    bench.run()

    assert not run_again(bench, result.id)
    assert bench.state(result.id) == JobState.CANCELLED


def test_a_join_with_two_failed_members_opens_when_both_run_again(bench: Bench) -> None:
    result = chord([fate.si("fail_in_first", 1), fate.si("fail_in_first", 2)])(echo.s())
    one, two = [member.id for member in result.parent]
    bench.run()

    run_again(bench, one)
    assert (bench.state(result.id), the_join(bench).broken_by) == (F, two)
    bench.run()
    assert bench.state(result.id) == F
    run_again(bench, two)
    assert bench.state(result.id) == W
    bench.run()

    assert bench.result(result.id).get(timeout=1) == [1, 2]


def test_a_member_that_fails_again_breaks_the_join_again(bench: Bench) -> None:
    result = chord([fate.si("fail", "boom"), add.si(2)])(echo.s().on_error(note_error.s()))
    bench.run()
    run_again(bench, result.parent.results[0].id)
    bench.run()

    assert bench.state(result.id) == F
    with bench.session() as session:
        assert list(session.scalars(select(Effect.job_id))) == [result.id] * 2


def test_running_a_failed_step_again_lets_the_chain_go_on(bench: Bench) -> None:
    result = chain(fate.si("fail_in_first", 1), add.s(10), add.s(100))()
    first = result.parent.parent.id
    bench.run()
    assert [job.state for job in bench.jobs()] == [F, F, F]

    run_again(bench, first)
    assert [job.state for job in bench.jobs()] == [W, W, W]
    assert bench.run() == [first, result.parent.id, result.id]

    assert bench.result(result.id).get(timeout=1) == 111
    assert bench.account().drift == 0


def test_running_a_step_of_a_deep_workflow_again_lets_all_of_it_go_on(bench: Bench) -> None:
    inner = chord([chain(fate.si("fail_in_first", 1), add.s(1)), add.si(2)], add.s())
    result = chain(add.si(0), chord([inner, add.si(3)], add.s()), add.s(10), group(add.s(100), add.s(200)))()
    bench.run()
    failed = next(job.id for job in bench.jobs() if job.state == F and job.attempt)
    assert {job.state for job in bench.jobs()} == {S, F}

    run_again(bench, failed)
    bench.run()

    assert [bench.result(one.id).get(timeout=1) for one in result] == [117, 217]
    assert {job.state for job in bench.jobs()} == {S}
    assert bench.account().drift == 0


def test_a_chord_after_a_failed_step_runs_once_the_step_does(bench: Bench) -> None:
    result = chain(fate.si("fail_in_first", 1), chord([add.s(1), add.s(2)], add.s()), add.s(10))()
    bench.run()
    run_again(bench, bench.jobs()[0].id)
    bench.run()

    assert bench.result(result.id).get(timeout=1) == 15


def test_a_replacing_chain_that_failed_goes_on_when_its_step_runs_again(bench: Bench) -> None:
    job_id = bench.fate("replace_by_failing_chain")
    bench.run()
    assert (bench.state(job_id), bench.job(job_id).error_type) == (F, "ValueError")
    assert not run_again(bench, job_id)

    run_again(bench, next(job.id for job in bench.jobs() if job.id != job_id))
    bench.run()

    assert bench.result(job_id).get(timeout=1) == 3


def test_a_body_that_could_not_run_is_not_run_again_by_itself(bench: Bench) -> None:
    result = chord([fate.si("fail"), add.si(2)])(echo.s())
    bench.run()

    assert not run_again(bench, result.id)


def test_a_body_that_ran_and_failed_is_run_again_with_the_same_results(bench: Bench) -> None:
    result = chord([add.si(1), add.si(2)])(fail_first_body.s())
    bench.run()
    assert bench.state(result.id) == F

    run_again(bench, result.id)
    bench.run()

    assert bench.result(result.id).get(timeout=1) == [1, 2]


# --- cancel what has not come yet -------------------------------------------------------------------------


def test_a_cancelled_body_does_not_run_when_its_join_is_done(bench: Bench) -> None:
    result = chord([add.si(1), add.si(2)])(echo.s())
    assert cancel(bench, result.id)
    bench.run()
    assert (bench.state(result.id), bench.job(result.id).attempt) == (C, 0)

    assert run_again(bench, result.id)
    bench.run()

    assert bench.result(result.id).get(timeout=1) == [1, 2]


def test_a_cancelled_body_run_again_waits_for_its_join(bench: Bench) -> None:
    result = chord([add.si(1), add.si(2)])(echo.s())
    cancel(bench, result.id)
    assert run_again(bench, result.id)
    assert bench.job(result.id).is_parked
    bench.run()

    assert bench.result(result.id).get(timeout=1) == [1, 2]


def test_a_step_cancelled_before_it_came_stays_cancelled_and_ends_its_chain(bench: Bench) -> None:
    result = chain(fate.si("fail_in_first", 1), add.s(10), add.s(100), add.s(1000))()
    bench.run()
    first, second, third, fourth = steps(bench)
    run_again(bench, first)
    cancel(bench, third)
    assert bench.state(fourth) == F
    bench.run()

    assert [bench.state(job_id) for job_id in (first, second, third, fourth)] == [S, S, C, F]
    run_again(bench, third)
    bench.run()
    assert bench.result(result.id).get(timeout=1) == 1111


def test_a_revoked_step_that_has_not_come_never_runs(bench: Bench) -> None:
    result = chain(add.si(1), add.s(10), add.s(100), add.s(1000))()
    third, second = result.parent, result.parent.parent

    third.revoke()

    bench.run()
    first = second.parent
    assert [bench.state(each.id) for each in (first, second, third, result)] == [S, S, C, F]
    with pytest.raises(TaskRevokedError):
        third.get(timeout=1)
    with pytest.raises(TaskRevokedError):
        result.get(timeout=1)
    assert bench.account().drift == 0
    assert run_again(bench, third.id)
    bench.run()
    assert bench.result(result.id).get(timeout=1) == 1111


def test_revoking_a_chain_ends_the_chord_that_it_is_a_member_of(bench: Bench) -> None:
    body = chord([chain(add.si(1), add.s(10)), add.si(5)])(echo.s())

    body.parent.results[0].revoke()

    bench.run()
    assert [job.state for job in bench.jobs() if job.task == "tests.add"].count(S) == 2
    job = bench.job(body.id)
    assert (job.state, job.error_type) == (F, "ChordError")
    assert bench.account().drift == 0


def test_revoking_what_nobody_knows_writes_nothing(bench: Bench) -> None:
    add.delay(1)
    bench.result("unknown").revoke()

    assert len(bench.jobs()) == 1


def test_a_chain_of_a_thousand_steps_fails_and_waits_again_as_a_whole(bench: Bench) -> None:
    chain(fate.si("fail_in_first", 1), *(add.si(n) for n in range(1000)))()
    bench.run()
    first = bench.jobs()[0].id
    assert {job.state for job in bench.jobs()} == {F}

    run_again(bench, first)
    assert {job.state for job in bench.jobs()} == {W}
    following = next(job.id for job in bench.jobs() if job.parent_id == first)
    cancel(bench, following)

    states = [job.state for job in bench.jobs() if job.id not in (first, following)]
    assert states == [F] * 999
    assert bench.account().drift == 0


def test_a_parked_job_is_neither_sent_nor_claimed_nor_overdue(bench: Bench) -> None:
    result = chord([add.si(1)])(echo.s())
    with bench.session() as session, session.begin():
        assert [job.id for job in lifecycle.take_to_send(session, "me", 10, 30)] == [result.parent.results[0].id]
        assert lifecycle.claim(session, [Hint(result.id)], "me") == {}
        # Not even looked at: a thousand of them stand in nobody's way.
        due = select(Job.id).where(Job.state == W, Job.run_at <= now())
        assert result.id not in session.scalars(due).all()
        # And if somebody made it due by hand: its arguments are not there yet.
        session.execute(update(Job).where(Job.id == result.id).values(run_at=now()))
        assert lifecycle.claim(session, [Hint(result.id)], "me") == {}


def _step(**odd: Any) -> dict[str, Any]:
    usual = {"task": "tests.add", "args": [1], "kwargs": {}, "options": {"task_id": "odd"}, "subtask_type": None}
    return {**usual, **odd}


@pytest.mark.parametrize(
    "odd",
    [
        7,
        None,
        _step(options=None),
        _step(options=[1]),
        _step(options={}),
        _step(options={"task_id": 7}),
        _step(options={"task_id": "x" * 156}),
        _step(options={"task_id": "nul \x00"}),
        _step(options={"task_id": "odd", "group_id": 7}),
        _step(options={"task_id": "odd", "group_id": {"a": "mapping"}}),
        _step(options={"task_id": "odd", "group_id": "surrogate \ud800"}),
        _step(task=7),
        _step(task="t" * 256),
        _step(subtask_type="group", kwargs={"tasks": 7}),
        _step(subtask_type="chord", kwargs=["body"]),
        _step(subtask_type={"an": "object"}, task=None),
    ],
    ids=repr,
)
def test_what_cannot_be_a_row_in_a_strangers_chain_is_left_out(bench: Bench, odd: Any) -> None:
    # Celery keeps a chain's rest with the next step at its end.
    rest = [_step(options={"task_id": "last"}), odd, _step(options={"task_id": "next"})]
    first = _with_chain(bench, rest)

    bench.run()

    assert {job.id: job.state for job in bench.jobs()} == {first: F, "next": F, "last": F}


@pytest.mark.parametrize("group_id", [None, "", [], 0])
def test_a_step_of_a_strangers_chain_may_have_an_empty_group(bench: Bench, group_id: Any) -> None:
    _with_chain(bench, [_step(options={"task_id": "next", "group_id": group_id, "chord": {"task": "tests.add"}})])

    bench.run()

    step = bench.job("next")
    assert (step.state, step.group_id, step.counts_for) == (F, None, None)


def _with_chain(bench: Bench, rest: list[Any]) -> str:
    """A failing job as a stranger's message leaves it, with what should have run after it."""
    options = dumps({"headers": {}, "embed": {"chain": rest}})
    with bench.session() as session, session.begin():
        (first,) = lifecycle.submit(session, [Wish("tests.fate", dumps(["fail"]), options=options)])
    return first


# --- a step with a unique key -----------------------------------------------------------------------------


def chain_through_a_unique_step(bench: Bench) -> list[str]:
    """Its first step has failed, and would not again."""
    last = chain(fate.si("fail"), add.si(1, 2).set(unique_key="k"), add.s(4)).apply_async()
    bench.run()
    first = last.parent.parent.id
    bench.change(first, args='["ok"]')
    return [first, last.parent.id, last.id]


def test_a_step_whose_key_is_held_as_it_comes_fails_and_can_be_run_again(bench: Bench) -> None:
    first, second, third = chain_through_a_unique_step(bench)
    other = bench.submit("tests.add", 5, unique_key="k", countdown=600)
    assert run_again(bench, first)
    bench.run()
    assert [bench.state(each) for each in (first, second, third, other)] == [S, F, F, W]
    assert bench.job(second).error_type == "KeyHeld"

    assert not run_again(bench, second)
    assert cancel(bench, other)
    assert run_again(bench, second)
    bench.run()
    assert (bench.result(second).get(timeout=1), bench.result(third).get(timeout=1)) == (3, 7)
    assert bench.account().drift == 0


def test_a_cancelled_step_holds_no_key_when_it_comes(bench: Bench) -> None:
    first, second, _ = chain_through_a_unique_step(bench)
    assert run_again(bench, first)
    bench.celery.control.revoke(second)
    bench.run()
    assert (bench.state(first), bench.state(second)) == (S, C)

    other = bench.submit("tests.add", 5, unique_key="k")

    assert (other != second, bench.state(other)) == (True, W)
