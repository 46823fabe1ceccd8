"""Schedules with real beats: killed in the middle of a tick, away for a while, several at once."""

import random
import signal
from datetime import datetime, timedelta

import pytest
from sqlalchemy import select

from flaskapp.jobs import schedules
from flaskapp.jobs.models import Firing, Job, JobState, Schedule
from tests.acceptance.conftest import Stack
from tests.helpers import Process, kill, wait_until

EVERY = timedelta(seconds=0.5)
ALL = {"TEST_SCHEDULE_SECONDS": "0.5", "TEST_SCHEDULE_KEYS": '{"missed": "all"}'}


def due_times(stack: Stack) -> list[datetime]:
    with stack.bench.session() as session:
        query = select(Job.run_at).where(Job.schedule == "every-moment").order_by(Job.run_at)
        return list(session.scalars(query))


def start_doomed_beat(stack: Stack) -> Process:
    """It is killed in its first turn in which something is due: written, but not committed."""
    place = "a schedule fired, before COMMIT"
    return stack.start_beat(DIE_AT=place, DIE_PROOF=f"{stack.environment['INSTANCE_PATH']}/proof", **ALL)


def until_more(stack: Stack, count: int) -> list[datetime]:
    """Wait until so many more due times have become jobs; answers all of them, in order."""
    wanted = len(due_times(stack)) + count
    return wait_until(lambda: due if len(due := due_times(stack)) >= wanted else [], 60, f"{wanted} due times")


def row(stack: Stack, name: str = "every-moment") -> Schedule | None:
    with stack.bench.session() as session:
        return schedules.schedule_by_name(session, name)


def history(stack: Stack, name: str = "every-moment") -> list[Firing]:
    """Oldest first."""
    with stack.bench.session() as session:
        return schedules.history(session, name, 1000)[::-1]


def assert_each_once(due: list[datetime]) -> None:
    """No due time is missing, and none is there twice."""
    assert due == [due[0] + n * EVERY for n in range(len(due))]


def test_a_beat_killed_in_the_middle_of_a_tick_loses_and_doubles_nothing(stack: Stack) -> None:
    # Nobody else was there to be first.
    assert start_doomed_beat(stack).popen.wait(60) == -signal.SIGKILL
    assert (due_times(stack), history(stack)) == ([], [])
    seen = row(stack)
    assert seen is not None
    assert seen.last_time is None

    stack.start_beat(**ALL)

    due = until_more(stack, 6)
    assert due[0] == seen.last_due_at + EVERY
    assert_each_once(due)


def test_beats_that_come_and_are_killed_make_one_job_for_each_due_time(stack: Stack) -> None:
    stack.start_beat(**ALL)
    for _ in range(3):
        passing = stack.start_beat(**ALL)
        until_more(stack, random.randrange(2, 6))
        kill(passing)
    # It waits until it is the first of the two.
    assert start_doomed_beat(stack).popen.wait(60) == -signal.SIGKILL

    assert_each_once(until_more(stack, 6))


def test_what_was_due_while_no_beat_ran_becomes_one_job_and_a_reason(stack: Stack) -> None:
    first = stack.start_beat(TEST_SCHEDULE_SECONDS="0.5")
    before = until_more(stack, 3)
    kill(first)
    last = due_times(stack)[-1]
    wait_until(lambda: stack.bench.clock() - last > timedelta(seconds=15), 60, "beat has been away for a while")

    stack.start_beat(TEST_SCHEDULE_SECONDS="0.5")

    after = [due for due in until_more(stack, 3) if due > last]
    (missed,) = [firing for firing in history(stack) if firing.due_at == last + EVERY]
    assert missed.outcome == "missed"
    assert missed.until_at == after[0] - EVERY
    assert str(missed.reason).startswith("no beat was running between ")
    # Each due time since the first is accounted for.
    assert sum(firing.times or 0 for firing in history(stack)) >= (after[-1] - before[0]) / EVERY


def test_two_beats_make_one_job_of_one_date(stack: Stack) -> None:
    date = (stack.bench.clock() + timedelta(seconds=12)).replace(microsecond=0)
    for _ in range(2):
        stack.start_beat(TEST_SCHEDULE_AT=date.isoformat(), **ALL)
    until_more(stack, 1)

    fired = wait_until(lambda: history(stack, "once"), 60, "the date is there")

    until_more(stack, 4)
    assert [firing.due_at for firing in fired] == [firing.due_at for firing in history(stack, "once")] == [date]
    assert stack.bench.job(str(fired[0].job_id)).run_at == date
    once = row(stack, "once")
    assert once is not None
    assert once.next_time is None


def test_a_pause_holds_and_run_now_runs_with_remote_control_switched_off(stack: Stack) -> None:
    stack.start_beat(**ALL)
    until_more(stack, 2)
    with stack.bench.session() as session, session.begin():
        assert schedules.pause(session, "every-moment", "olga")
    paused = due_times(stack)
    stack.start_worker()

    found = row(stack)
    assert found is not None
    with stack.bench.session() as session, session.begin():
        job_id, _ = schedules.run_now(session, found, "olga")
    (job,) = stack.bench.finished([job_id], 60)

    assert (job.state, job.schedule) == (JobState.SUCCEEDED, "every-moment")
    assert due_times(stack) == sorted([*paused, job.run_at])
    with stack.bench.session() as session, session.begin():
        assert schedules.resume(session, "every-moment")
    until_more(stack, 2)
    assert [firing.outcome for firing in history(stack) if firing.outcome not in ("fired", "asked")] == ["paused"]


@pytest.mark.parametrize("stack", ["SQLite and folder"], indirect=True)
def test_beat_says_in_its_log_what_is_wrong_with_an_entry_and_runs_on(stack: Stack) -> None:
    wrong = stack.start_beat(TEST_SCHEDULE_SECONDS="0.5", TEST_SCHEDULE_KEYS='{"missed": "never"}')
    sentence = "Schedule 'every-moment': missed must be 'latest' or 'skip' or 'all', not 'never'."
    wait_until(lambda: sentence in wrong.says(), 30, "the sentence")
    found = wait_until(lambda: row(stack), 30, "its row")
    assert found.problem == sentence
    assert row(stack, "canary") is not None
