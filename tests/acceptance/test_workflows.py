"""Workflows on real workers: killed between members, on both stacks; the body runs once, with every result."""

from typing import Any

import pytest
from celery import chain, chord, group

from flaskapp.diagnostics.tasks import echo
from flaskapp.jobs import lifecycle
from flaskapp.jobs.models import JobState
from tests.acceptance.conftest import Stack
from tests.helpers import kill, wait_until
from tests.tasks_for_tests import add, fate

S, F, R = JobState.SUCCEEDED, JobState.FAILED, JobState.RUNNING


def test_a_workflow_of_every_kind_runs_on_a_real_worker(calm: Stack) -> None:
    inner = chord([add.si(1), chain(add.si(2), add.s(3))], add.s())
    result = chain(add.si(0), chord([inner, add.si(4), fate.si("retry", 1)], add.s()), group(add.s(10), add.s(20)))()
    calm.bench.finished([one.id for one in wait_for_rows(calm, result)], 30)

    assert result.get(timeout=5) == [21, 31]
    assert "celery.chord_unlock" not in {job.task for job in calm.bench.jobs()}
    assert calm.bench.account().drift == 0


def wait_for_rows(stack: Stack, result: Any) -> list[Any]:
    def all_there() -> bool:
        return {one.id for one in result} <= {job.id for job in stack.bench.jobs()}

    wait_until(all_there, 30, "the last steps have rows")
    return list(result)


def test_a_member_that_outlives_its_time_limit_fails_the_body(calm: Stack) -> None:
    result = chord([fate.si("sleep", 30).set(time_limit=1), add.si(1)])(add.s())

    (body,) = calm.bench.finished([result.id], 30)

    assert (body.state, body.error_type) == (F, "ChordError")
    assert f"({result.parent.results[0].id}) failed: TimeLimitExceeded" in (body.error_message or "")


def test_a_chord_survives_its_worker_killed_between_members(stack: Stack) -> None:
    """Three members: one has succeeded, one is under way when the power goes, one has not begun."""
    stack.start_beat()
    worker = stack.start_worker(concurrency=1)
    header = [
        fate.si("write_then_ok", "first").set(priority=3),
        fate.si("sleep_in_first", "second", 60).set(priority=2),
        fate.si("write_then_ok", "third").set(priority=1),
    ]
    result = chord(header)(fate.si("write_then_ok", "body").set(link=[echo.s()]))
    first, second, third = [member.id for member in result.parent]
    wait_until(lambda: stack.bench.state(second) == R and stack.bench.state(first) == S, 30, "the second is running")

    kill(worker)
    stack.start_worker()

    jobs = stack.bench.finished([first, second, third, result.id], 60)
    assert {job.state for job in jobs} == {S}
    # The third may have stood claimed behind the second.
    assert [jobs[n].attempt for n in (0, 1, 3)] == [1, 2, 1]
    assert [len(stack.bench.effects(key)) for key in ("first", "second", "third", "body")] == [1, 1, 1, 1]
    assert stack.bench.account().drift == 0


def test_a_hundred_members_survive_a_worker_killed_again_and_again(stack: Stack) -> None:
    stack.start_beat()
    result = chord(fate.si("write_then_ok", f"member {n}") for n in range(100))(fate.si("write_then_ok", "body"))
    ids = [member.id for member in result.parent]
    for share in (10, 40, 70):
        worker = stack.start_worker()
        wait_until(lambda share=share: succeeded(stack, ids) >= share, 60, f"{share} members have succeeded")
        kill(worker)
    stack.start_worker()

    (body,) = stack.bench.finished([result.id], 90)
    assert (body.state, body.attempt, succeeded(stack, ids)) == (S, 1, 100)
    assert len(stack.bench.effects("body")) == 1
    assert [len(stack.bench.effects(f"member {n}")) for n in range(100)] == [1] * 100


def succeeded(stack: Stack, ids: list[str]) -> int:
    states = {job.id: job.state for job in stack.bench.jobs()}
    return sum(1 for job_id in ids if states.get(job_id) == S)


@pytest.mark.parametrize("how", ["cancel", "run again"])
def test_what_a_person_does_to_a_member_reaches_the_body(calm: Stack, how: str) -> None:
    bench = calm.bench
    if how == "cancel":
        result = chord([add.si(1).set(countdown=600), add.si(2)])(add.s())
        result.parent.results[0].revoke()
        (body,) = bench.finished([result.id], 30)
        assert (body.state, body.error_type) == (F, "ChordError")
    else:
        result = chord([fate.si("fail_in_first", 1), add.si(2)])(add.s())
        bench.finished([result.id], 30)
        with bench.session() as session, session.begin():
            assert lifecycle.run_again(session, result.parent.results[0].id)
        (body,) = bench.finished([result.id], 30)
        assert (body.state, body.result) == (S, "3")
