"""Schedules turn by turn: one job per due time, what is missed, what overlaps, pauses, and the reasons for each."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from celery.beat import BeatLazyFunc
from celery.schedules import crontab
from sqlalchemy import delete, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from flaskapp.jobs import schedules
from flaskapp.jobs.clock import seconds_from_now
from flaskapp.jobs.models import Firing, Job, Schedule
from flaskapp.jobs.outcomes import Wish
from flaskapp.jobs.schedules import Order
from flaskapp.worker import firing
from flaskapp.worker.rhythms import at
from flaskapp.worker.schedules import Schedules
from tests.helpers import Bench

ECHO = {"task": "diagnostics.echo", "schedule": 10, "args": ("x",)}


class Beat:
    """A beat whose turns a test takes, and the time that passes between them."""

    def __init__(self, bench: Bench, entries: dict[str, Any]) -> None:
        self.bench = bench
        self.entries = entries
        self.schedules = Schedules(bench.celery, is_beat=True)

    def turn(self) -> list[str]:
        with Session(self.bench.engine) as session:
            return self.schedules.fire_due(session)

    def passed(self, seconds: float, looked: float | None = None) -> None:
        """So long ago it was first seen; a beat last looked `looked` seconds ago."""
        now = self.bench.clock()
        then = now - timedelta(seconds=seconds)
        looked_at = then if looked is None else now - timedelta(seconds=looked)
        self.set(anchor_at=then, last_due_at=then, looked_at=looked_at)

    def set(self, **values: Any) -> None:
        with Session(self.bench.engine) as session, session.begin():
            session.execute(update(Schedule).values(values))

    def restart(self) -> None:
        self.schedules = Schedules(self.bench.celery, is_beat=True)

    def row(self, name: str = "one") -> Schedule:
        with Session(self.bench.engine) as session:
            row = schedules.schedule_by_name(session, name)
            assert row is not None, name
            return row

    def history(self, name: str = "one") -> list[Firing]:
        """Oldest first."""
        with Session(self.bench.engine) as session:
            return schedules.history(session, name, 2000)[::-1]

    def outcomes(self, name: str = "one") -> list[tuple[str, int | None]]:
        return [(firing.outcome, firing.times) for firing in self.history(name)]

    def due(self) -> list[datetime]:
        return sorted(job.run_at for job in self.bench.jobs())


@pytest.fixture
def beat(bench: Bench) -> Iterator[Beat]:
    before = bench.celery.conf.beat_schedule
    bench.celery.conf.beat_schedule = entries = {}
    yield Beat(bench, entries)
    bench.celery.conf.beat_schedule = before


def seen(beat: Beat, passed: float, **keys: Any) -> Beat:
    """Its only entry, `one`, was first seen so long ago."""
    beat.entries["one"] = ECHO | keys
    beat.turn()
    beat.passed(passed)
    return beat


# --- one job per due time ---------------------------------------------------------------------------------


def test_a_due_time_becomes_a_job_that_is_due_at_its_nominal_time(beat: Beat) -> None:
    (job_id,) = seen(beat, 11).turn()

    job, row, (fired,) = beat.bench.job(job_id), beat.row(), beat.history()
    assert (job.task, job.schedule, job.args, job.owner) == ("diagnostics.echo", "one", '["x"]', None)
    assert row.anchor_at is not None
    assert job.run_at == row.anchor_at + timedelta(seconds=10) == row.last_due_at == row.last_time
    assert row.next_due_at == job.run_at + timedelta(seconds=10)
    assert (row.last_job_id, fired.job_id, fired.due_at, fired.outcome) == (job_id, job_id, job.run_at, "fired")
    assert beat.turn() == []


def test_a_new_entry_begins_now(beat: Beat) -> None:
    beat.entries["one"] = ECHO
    assert (beat.turn(), beat.turn()) == ([], [])
    assert (beat.row().last_time, beat.row().next_due_at) == (None, beat.row().last_due_at + timedelta(seconds=10))


def test_all_times_between_two_turns_become_jobs(beat: Beat) -> None:
    assert len(seen(beat, 2.1, schedule=0.5).turn()) == 4


def test_of_two_beats_that_see_the_same_time_one_submits(beat: Beat, monkeypatch: pytest.MonkeyPatch) -> None:
    seen(beat, 11)
    other, swap = Beat(beat.bench, beat.entries), firing.Fire._swap
    jobs: list[str] = []

    def both(self: Any, *args: Any) -> bool:
        monkeypatch.setattr(firing.Fire, "_swap", swap)
        jobs.extend(other.turn())
        return swap(self, *args)

    monkeypatch.setattr(firing.Fire, "_swap", both)

    assert beat.turn() == []
    assert len(jobs) == len(beat.bench.jobs()) == 1


def test_a_beat_with_an_older_view_sets_no_last_due_time_back(beat: Beat, monkeypatch: pytest.MonkeyPatch) -> None:
    seen(beat, 11)
    later, swap = beat.bench.clock(), firing.Fire._swap

    def be_late(self: Any, *args: Any) -> bool:
        beat.set(last_due_at=later)
        return swap(self, *args)

    monkeypatch.setattr(firing.Fire, "_swap", be_late)

    assert (beat.turn(), beat.row().last_due_at) == ([], later)


def test_the_database_itself_refuses_a_second_firing_of_a_due_time(beat: Beat) -> None:
    seen(beat, 11).turn()
    (fired,) = beat.history()
    with Session(beat.bench.engine) as session, pytest.raises(IntegrityError):
        session.execute(insert(Firing).values(schedule="one", due_at=fired.due_at, outcome="fired"))


def test_a_last_due_time_set_back_by_hand_doubles_nothing(beat: Beat) -> None:
    seen(beat, 11).turn()
    beat.set(last_due_at=beat.row().anchor_at)
    assert beat.turn() == []
    # It goes on from there, instead of being refused by the database each second.
    assert [job.run_at for job in beat.bench.jobs()] == [beat.row().last_due_at]


def test_a_turn_that_dies_before_its_commit_leaves_nothing_and_the_next_makes_up_for_it(
    beat: Beat, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        """Nothing can catch it, as nothing catches a kill -9."""

    def dies(*_: Any, **__: Any) -> None:
        raise Killed

    seen(beat, 11)
    with monkeypatch.context() as patched:
        patched.setattr(firing.logger, "info", dies)
        with pytest.raises(Killed):
            beat.turn()
    assert (beat.bench.jobs(), beat.history(), beat.row().last_time) == ([], [], None)

    assert len(beat.turn()) == len(beat.history()) == 1


def test_an_interval_does_not_drift_over_restarts(beat: Beat) -> None:
    seen(beat, 12).turn()
    beat.restart()
    beat.turn()
    anchor, next_due = beat.row().anchor_at, beat.row().next_due_at
    assert anchor is not None
    assert next_due == anchor + timedelta(seconds=20)


def test_a_crontab_fires_at_its_minute(beat: Beat) -> None:
    beat.entries["one"] = ECHO | {"schedule": crontab(minute=0, hour=3), "timezone": "Europe/Berlin", "missed": "all"}
    beat.turn()
    beat.passed(3 * 86400)
    beat.turn()
    assert len(beat.due()) == 3
    assert {(job.run_at.minute, job.run_at.hour in (1, 2)) for job in beat.bench.jobs()} == {(0, True)}
    assert (beat.row().rhythm, beat.row().timezone) == ("0 3 * * *", "Europe/Berlin")


# --- one run at a date ------------------------------------------------------------------------------------


def test_one_run_at_a_date_makes_one_job_ever(beat: Beat) -> None:
    date = beat.bench.clock() - timedelta(seconds=1)
    beat.entries["one"] = ECHO | {"schedule": at(date)}
    with Session(beat.bench.engine) as session, session.begin():
        session.execute(insert(Schedule).values(name="one", task="", rhythm=""))
    beat.turn()
    beat.set(last_due_at=date - timedelta(hours=1), anchor_at=date - timedelta(hours=1))
    with Session(beat.bench.engine) as session, session.begin():
        session.execute(delete(Firing))

    assert len(beat.turn()) == 1
    beat.restart()
    assert (beat.turn(), beat.due(), beat.row().next_due_at) == ([], [date], None)


def test_a_date_that_was_past_at_first_sight_is_not_made_up_but_said(beat: Beat) -> None:
    beat.entries["one"] = ECHO | {"schedule": datetime(2020, 1, 1, tzinfo=UTC)}
    beat.turn()
    beat.turn()
    (missed,) = beat.history()
    assert (missed.outcome, missed.reason, beat.due()) == (
        "missed",
        "its date was past when a beat first saw the entry",
        [],
    )


# --- missed times -----------------------------------------------------------------------------------------


def test_missed_times_become_one_job_for_the_latest(beat: Beat) -> None:
    (job_id,) = seen(beat, 57).turn()
    missed, fired = beat.history()
    assert (missed.outcome, missed.times, fired.outcome, fired.job_id) == ("missed", 4, "fired", job_id)
    assert missed.reason is not None
    assert missed.reason.startswith("no beat was running between ")
    assert missed.reason.endswith(" (missed = latest)")
    assert beat.row().last_due_at == beat.bench.job(job_id).run_at


def test_missed_times_can_be_skipped(beat: Beat) -> None:
    assert seen(beat, 57, missed="skip").turn() == []
    assert beat.outcomes() == [("missed", 5)]
    assert beat.turn() == []


def test_a_time_that_comes_as_beat_comes_back_is_not_skipped(beat: Beat) -> None:
    assert len(seen(beat, 60.5, missed="skip").turn()) == 1
    assert beat.outcomes() == [("missed", 5), ("fired", 1)]


def test_a_time_seen_a_moment_late_is_not_missed(beat: Beat) -> None:
    assert len(seen(beat, 14, missed="skip").turn()) == 1


def test_missed_times_can_all_be_made_up(beat: Beat) -> None:
    assert len(seen(beat, 57, missed="all").turn()) == 5
    assert beat.outcomes() == [("fired", 1)] * 5
    assert len({job.run_at for job in beat.bench.jobs()}) == 5


def test_a_hundred_missed_times_are_made_up_and_the_rest_are_counted(beat: Beat) -> None:
    assert len(seen(beat, 1505, missed="all").turn()) == 100
    (rest, *fired) = beat.history()
    assert (rest.outcome, rest.times, len(fired)) == ("missed", 50, 100)


def test_too_many_to_count_are_one_row_from_the_first_to_the_last(beat: Beat) -> None:
    seen(beat, 86_400 * 365, schedule=1, missed="skip").turn()
    missed, anchor = beat.history()[0], beat.row().anchor_at
    assert anchor is not None
    assert (missed.due_at, missed.times) == (anchor + timedelta(seconds=1), None)


def test_a_beat_that_was_only_slow_is_not_called_away(beat: Beat) -> None:
    seen(beat, 16, missed="skip")
    beat.passed(16, looked=4)
    beat.turn()
    (missed,) = beat.history()
    assert missed.reason is not None
    assert missed.reason.startswith("beat came to it late, at ")


# --- overlap ----------------------------------------------------------------------------------------------


def test_a_time_is_skipped_while_the_job_before_is_not_final(beat: Beat) -> None:
    (first,) = seen(beat, 11, overlap="skip").turn()
    for _ in range(2):
        beat.passed(11)
        assert beat.turn() == []
    fired, skipped = beat.history()
    assert (fired.outcome, skipped.outcome, skipped.times, skipped.job_id) == ("fired", "skipped", 2, first)
    assert skipped.reason is not None
    assert skipped.reason.endswith(" was still waiting (overlap = skip)")

    beat.bench.run()
    beat.passed(11)
    assert len(beat.turn()) == 1


def test_times_may_overlap_by_default(beat: Beat) -> None:
    assert len(seen(beat, 2.1, schedule=1).turn()) == 2


def test_a_live_job_with_the_same_unique_key_is_not_doubled(beat: Beat) -> None:
    seen(beat, 11, options={"unique_key": "k"})
    live = beat.bench.fate("ok", unique_key="k")
    assert beat.turn() == []
    (skipped,) = beat.history()
    assert (skipped.outcome, skipped.job_id) == ("skipped", live)


# --- pauses -----------------------------------------------------------------------------------------------


def test_times_of_a_pause_make_no_jobs_and_are_not_missed(beat: Beat) -> None:
    seen(beat, 57, missed="all")
    with Session(beat.bench.engine) as session, session.begin():
        assert schedules.pause(session, "one", "olga")
        assert not schedules.pause(session, "one", "boss")
    assert (beat.turn(), beat.row().next_time, beat.row().paused_by) == ([], None, "olga")

    with Session(beat.bench.engine) as session, session.begin():
        assert schedules.resume(session, "one")
        assert not schedules.resume(session, "one")
    assert beat.turn() == []

    (paused,) = beat.history()
    assert (paused.outcome, paused.times) == ("paused", 5)
    assert paused.reason is not None
    assert paused.reason.startswith("the schedule was paused until ")


def test_a_pause_that_comes_in_the_middle_of_a_turn_holds(beat: Beat, monkeypatch: pytest.MonkeyPatch) -> None:
    seen(beat, 11)
    swap = firing.Fire._swap

    def pause_first(self: Any, *args: Any) -> bool:
        with Session(beat.bench.engine) as session, session.begin():
            schedules.pause(session, "one", "olga")
        return swap(self, *args)

    monkeypatch.setattr(firing.Fire, "_swap", pause_first)
    assert beat.turn() == []
    assert beat.bench.jobs() == []


def test_times_after_the_pause_are_due_again(beat: Beat) -> None:
    seen(beat, 24)
    beat.set(resumed_at=seconds_from_now(-9))
    assert len(beat.turn()) == 1
    assert beat.outcomes() == [("paused", 1), ("fired", 1)]


# --- now --------------------------------------------------------------------------------------------------


def test_run_now_submits_what_the_entry_says_and_moves_no_due_time(beat: Beat) -> None:
    options = {"queue": "mail", "priority": 3, "expires": 60, "countdown": 30}
    seen(beat, 3, options=options, kwargs={"extra": 1}, args=())
    before = beat.row()
    with Session(beat.bench.engine) as session, session.begin():
        job_id, is_new = schedules.run_now(session, before, "olga")

    job, after, (asked,) = beat.bench.job(job_id), beat.row(), beat.history()
    assert is_new
    assert (job.schedule, job.queue, job.priority, job.kwargs, job.owner) == ("one", "mail", 3, '{"extra": 1}', "olga")
    assert job.expires_at is not None
    assert abs((job.expires_at - job.run_at).total_seconds() - 60) < 2
    assert job.run_at <= beat.bench.clock()
    assert (after.last_due_at, after.next_due_at) == (before.last_due_at, before.next_due_at)
    assert (after.last_job_id, asked.outcome, asked.due_at, asked.reason) == (job_id, "asked", None, "asked by olga")


#: What a job has of its own: its id and times, and its place in a workflow. No entry can say these. (An expiry in
#: seconds is the order's own.)
OF_ONE_JOB = {"job_id", "run_at", "delay_seconds", "expires_seconds", "retries", "schedule", "parked"}
OF_ONE_JOB |= {"root_id", "parent_id", "group_id", "counts_for"}


@pytest.mark.parametrize("name", sorted(Wish.__dataclass_fields__.keys() - OF_ONE_JOB))
def test_run_now_keeps_whatever_an_entry_may_say(name: str) -> None:
    """A limit, say, also holds for the job that somebody asks for."""
    value = datetime(2027, 1, 31, 8, tzinfo=UTC) if name.endswith("_at") else "said"
    order = Order(Wish(**{"task": "diagnostics.echo", name: value}))

    assert Order.of_json(order.to_json()) == order


def test_a_job_that_was_asked_for_also_holds_up_the_next_one(beat: Beat) -> None:
    seen(beat, 11, overlap="skip")
    with Session(beat.bench.engine) as session, session.begin():
        schedules.run_now(session, beat.row(), None)
    assert beat.turn() == []


# --- entries that change, go wrong, go and come back -----------------------------------------------------


def test_a_changed_rhythm_begins_now(beat: Beat) -> None:
    seen(beat, 86_400)
    beat.entries["one"] = ECHO | {"schedule": 7}
    assert (beat.turn(), beat.row().rhythm, beat.history()) == ([], "every 7 s", [])
    assert abs((beat.row().last_due_at - beat.bench.clock()).total_seconds()) < 10


def test_changed_arguments_do_not_disturb_the_rhythm(beat: Beat) -> None:
    seen(beat, 11)
    beat.entries["one"] = ECHO | {"args": ("y",)}
    (job_id,) = beat.turn()
    assert beat.bench.job(job_id).args == '["y"]'
    assert '[\\"y\\"]' in str(beat.row().wish)


@pytest.mark.parametrize(
    "wrong",
    [
        {"task": "diagnostics.echo", "schedule": 0},
        {"schedule": 10},
        {"task": "diagnostics.echo", "schedule": 10, "args": [object()]},
        {"task": "diagnostics.echo", "schedule": 10, "missed": "never"},
        ["no", "dict"],
    ],
)
def test_a_wrong_entry_stops_no_other_and_says_why(beat: Beat, wrong: Any) -> None:
    beat.entries |= {"wrong": wrong, 7: ECHO, "n" * 300: ECHO, "one": ECHO}
    beat.turn()
    beat.passed(11)

    (job_id,) = beat.turn()

    assert beat.bench.job(job_id).schedule == "one"
    assert str(beat.row("wrong").problem).startswith("Schedule 'wrong': ")
    assert (beat.row().problem, beat.row("wrong").next_time) == (None, None)


def test_what_is_wrong_is_logged_once_by_each_beat(beat: Beat, caplog: pytest.LogCaptureFixture) -> None:
    beat.entries |= {"wrong": {"task": "diagnostics.echo", "schedule": 0}, 7: ECHO}
    for _ in range(3):
        beat.turn()
    beat.restart()
    beat.turn()
    said = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert [sentence.startswith("Schedule 'wrong': schedule must be") for sentence in said] == [True, False] * 2


def test_times_while_an_entry_was_wrong_are_missed(beat: Beat) -> None:
    seen(beat, 57)
    beat.entries["one"] = ECHO | {"missed": "never"}
    beat.turn()
    assert beat.row().problem is not None
    beat.entries["one"] = ECHO
    assert (len(beat.turn()), beat.row().problem) == (1, None)
    assert beat.outcomes() == [("missed", 4), ("fired", 1)]
    assert str(beat.history()[0].reason).startswith("its entry could not be used between ")


def test_a_schedule_whose_entry_is_gone_is_named_and_can_be_removed(beat: Beat) -> None:
    seen(beat, 57).turn()
    with Session(beat.bench.engine) as session, session.begin():
        assert not schedules.remove(session, "one")
    del beat.entries["one"]
    beat.restart()
    beat.turn()
    assert (beat.row().gone_at is not None, beat.row().next_time) == (True, None)

    with Session(beat.bench.engine) as session, session.begin():
        assert schedules.remove(session, "one")
    assert beat.history() == []


def test_a_worker_that_stands_in_takes_no_schedule_for_gone(beat: Beat) -> None:
    seen(beat, 57, missed="all")
    beat.entries.clear()
    with Session(beat.bench.engine) as session:
        Schedules(beat.bench.celery).fire_due(session)
    beat.entries["one"] = ECHO | {"missed": "all"}
    assert (len(beat.turn()), beat.outcomes()) == (5, [("fired", 1)] * 5)


def test_times_while_an_entry_was_gone_are_missed(beat: Beat) -> None:
    seen(beat, 57)
    beat.set(gone_at=seconds_from_now(-50))
    assert (len(beat.turn()), beat.row().gone_at, beat.outcomes()) == (1, None, [("missed", 4), ("fired", 1)])
    assert str(beat.history()[0].reason).startswith("no beat had its entry between ")


def test_a_beat_without_the_entry_takes_no_time_from_one_that_has_it(beat: Beat) -> None:
    seen(beat, 11)
    beat.passed(11, looked=3)
    beat.set(gone_at=seconds_from_now(-1))
    assert len(beat.turn()) == 1
    assert beat.row().gone_at is None


def test_a_removed_schedule_that_is_still_in_the_code_begins_again(beat: Beat) -> None:
    seen(beat, 11)
    with Session(beat.bench.engine) as session, session.begin():
        session.execute(delete(Schedule))
    assert beat.turn() == []
    assert beat.row().wish is not None


def test_a_lazy_argument_that_fails_for_a_moment_costs_no_due_time(beat: Beat) -> None:
    answers: list[Any] = [KeyError("not yet"), "first sight"]

    def answer() -> str:
        if isinstance(given := answers.pop(), Exception):
            raise given
        return str(given)

    seen(beat, 11, args=(BeatLazyFunc(answer),))
    assert (beat.turn(), beat.row().problem) == ([], "Schedule 'one': KeyError('not yet')")
    answers.append("now")

    (job_id,) = beat.turn()

    assert (beat.bench.job(job_id).args, beat.row().problem) == ('["now"]', None)


# --- options ----------------------------------------------------------------------------------------------


def test_an_entry_takes_celerys_options(beat: Beat) -> None:
    options = {"expires": 60, "priority": 3, "queue": "mail", "time_limit": 5}
    (job_id,) = seen(beat, 13, options=options).turn()

    job = beat.bench.job(job_id)
    assert (job.priority, job.queue, job.time_limit, job.owner) == (3, "mail", 5, None)
    # From the due time on, however late it was seen.
    assert job.expires_at == job.run_at + timedelta(seconds=60)


def test_a_countdown_counts_from_the_due_time(beat: Beat) -> None:
    (job_id,) = seen(beat, 11, options={"countdown": 30}).turn()
    assert beat.bench.job(job_id).run_at == beat.row().last_due_at + timedelta(seconds=30)


# --- history ----------------------------------------------------------------------------------------------


def test_the_newest_firings_of_each_schedule_are_kept(bench: Bench) -> None:
    with Session(bench.engine) as session, session.begin():
        rows = [{"schedule": name, "outcome": "fired", "reason": str(n)} for n in range(7) for name in ("a", "b")]
        session.execute(insert(Firing), [*rows, {"schedule": "c", "outcome": "fired", "reason": "0"}])
        assert schedules.prune_firings(session, keep=3) == 8
        kept = session.execute(select(Firing.schedule, Firing.reason).order_by(Firing.schedule, Firing.id)).all()
    assert [tuple(row) for row in kept] == [
        *(("a", str(n)) for n in (4, 5, 6)),
        *(("b", str(n)) for n in (4, 5, 6)),
        ("c", "0"),
    ]


def test_the_account_balances(beat: Beat) -> None:
    seen(beat, 57, missed="all", overlap="skip").turn()
    with Session(beat.bench.engine) as session:
        assert session.execute(select(Job.schedule)).scalars().all() == ["one"]
    assert beat.bench.account().drift == 0
