"""What the recorder answers the broker: no message is spent before its job is safe, and nothing ends its thread."""

import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import Engine, event, select
from sqlalchemy.exc import DataError, OperationalError
from sqlalchemy.orm import Session

from flaskapp.jobs import control, lifecycle, lost
from flaskapp.jobs.joining import NewJoin
from flaskapp.jobs.letters import Letter
from flaskapp.jobs.limits import Rule
from flaskapp.jobs.models import DeadLetter, JobState, Probe
from flaskapp.jobs.outcomes import Claimed, Hint, RetryLater, Stopped, Succeeded, Wish
from flaskapp.jobs.unknown import UNKNOWN
from flaskapp.worker import prefetch, refused, slots
from flaskapp.worker import recorder as recorder_module
from flaskapp.worker.recorder import Recorder
from tests.helpers import wait_until
from tests.makers import queued, row_of, send, state_of, waiting

WORKER = "recorder@here/1"


class Message:
    """As much of a request as the recorder knows."""

    def __init__(self, job_id: str, send: int | None, recorder: Recorder | None = None, **wish: Any) -> None:
        self.recorder = recorder
        self.id, self.hint, self.answer = job_id, Hint(job_id, send), ""
        self.wish = Wish("tests.fate", job_id=job_id, **wish)
        self.arrived, self.is_suspect = time.monotonic(), False
        self.queue = "default"
        self.claimed: Claimed | None = None
        self.finished, self.taken_away, self.worker_pid = False, False, None
        self.was_handed_over = False
        self.message = self

    def acknowledge(self) -> None:
        self.answer = "acknowledged"

    def reject(self, requeue: bool = False) -> None:
        self.answer = "rejected"

    def give_back(self, reason: str) -> None:
        assert self.claimed is not None
        self.finished = True
        self.recorder.ended(self, Stopped(self.claimed, reason), None)


class Pool:
    """Stands for the consumer and its pool."""

    hub = qos = task_consumer = None

    def __init__(self) -> None:
        self.taken: list[Message] = []
        self.on_task_message: set[Any] = set()
        self.broken = False
        self.nudges = 0

    def nudged(self) -> None:
        self.nudges += 1

    def bury(self, message: Message, reason: str, detail: str = "") -> None:
        message.reject()

    def on_task_request(self, request: Message) -> None:
        if self.broken:
            raise RuntimeError("no pool")
        self.taken.append(request)


@pytest.fixture
def pool() -> Pool:
    return Pool()


@pytest.fixture
def recorder(engine: Engine, pool: Pool, monkeypatch: pytest.MonkeyPatch) -> Iterator[Recorder]:
    monkeypatch.setattr(slots, "task_reserved", lambda request: None)
    recorder = Recorder(engine, WORKER, 2, pool.nudged)
    recorder.attach(pool)
    yield recorder
    if recorder._thread.ident is None:
        recorder.start()
    recorder.finish()
    assert not recorder._thread.is_alive()


def started(recorder: Recorder) -> Recorder:
    recorder.start()
    return recorder


def answered(*messages: Message) -> list[str]:
    wait_until(lambda: all(message.answer for message in messages), 5, "every message has an answer")
    return [message.answer for message in messages]


def test_of_two_messages_the_older_does_not_spend_the_newer(recorder: Recorder, session: Session, pool: Pool) -> None:
    job_id = queued(session)
    lifecycle.requeue_lost(session, [job_id])
    send(session, job_id)
    session.commit()
    older, newer = Message(job_id, 1), Message(job_id, 2)
    recorder.offer(older)
    recorder.offer(newer)

    started(recorder)

    answered(older, newer)
    wait_until(lambda: pool.taken == [newer], 5, "the newer message runs")


def test_a_body_made_due_by_a_member_that_the_parent_records_leaves_at_once(
    recorder: Recorder, session: Session, pool: Pool
) -> None:
    """A success alone makes nothing due; this one does."""
    nudges: list[int] = []
    recorder._recording._nudge = lambda: nudges.append(1)  # type: ignore[method-assign]
    member, other = queued(session, counts_for="join"), queued(session)
    body = waiting(session, parked=True)
    lifecycle.open_joins(session, [NewJoin("join", [member], [body])])
    session.commit()
    started(recorder)
    for job_id, expected in ((other, []), (member, [1])):
        message = Message(job_id, 1)
        recorder.offer(message)
        wait_until(lambda message=message: message in pool.taken, 10, "it runs")
        assert message.claimed is not None
        recorder.ended(message, Succeeded(message.claimed, "1"), 0.1)  # type: ignore[arg-type]
        wait_until(lambda: not recorder.holds(), 10, "its success is recorded")
        assert nudges == expected
    assert row_of(session, body)["sender"] is None


def test_a_message_that_overtakes_the_end_of_the_attempt_before_it_is_kept(
    recorder: Recorder, session: Session, pool: Pool
) -> None:
    job_id = queued(session)
    session.commit()
    first = Message(job_id, 1)
    started(recorder).offer(first)
    wait_until(lambda: pool.taken == [first], 5, "the first attempt runs")
    # The child retries at once; the new message is here before we hear of it.
    assert first.claimed is not None
    lifecycle.settle(session, [RetryLater(first.claimed, None)])
    send(session, job_id)
    session.commit()
    second = Message(job_id, row_of(session, job_id)["sends"])
    session.rollback()
    recorder.offer(second)
    duplicate = Message(job_id, 1)
    recorder.offer(duplicate)
    assert answered(duplicate) == ["acknowledged"]
    assert second.answer == ""

    recorder.ended(first, None, 0.1)

    wait_until(lambda: pool.taken == [first, second], 5, "the second attempt runs")


def test_a_strangers_job_for_later_is_no_dead_letter(recorder: Recorder, session: Session) -> None:
    job_id = waiting(session, delay_seconds=3600)
    later = row_of(session, job_id)["run_at"]
    session.commit()
    message = Message("a-strangers", None, run_at=later)

    started(recorder).offer(message)

    assert answered(message) == ["acknowledged"]
    assert state_of(session, "a-strangers") == JobState.WAITING


def test_a_message_whose_job_was_pruned_is_a_dead_letter(recorder: Recorder) -> None:
    message = Message("gone", 1)

    started(recorder).offer(message)

    assert answered(message) == ["rejected"]


@pytest.mark.parametrize(
    "trouble",
    [
        ValueError("nonsense"),
        DataError("UPDATE", {}, Exception("too long")),
        OperationalError("UPDATE", {}, Exception("this one never")),
    ],
)
def test_one_message_that_cannot_be_claimed_stops_no_other(
    recorder: Recorder, session: Session, pool: Pool, monkeypatch: pytest.MonkeyPatch, trouble: Exception
) -> None:
    monkeypatch.setattr(refused, "MOST_OUTAGES", 1)
    bad, good = Message(queued(session), 1), Message(queued(session), 1)
    session.commit()
    claim = lifecycle.claim

    def refuse_the_bad(session: Session, hints: Any, worker: str) -> Any:
        hints = list(hints)
        if bad.hint in hints:
            raise trouble
        return claim(session, hints, worker)

    monkeypatch.setattr(lifecycle, "claim", refuse_the_bad)
    recorder.offer(bad)
    recorder.offer(good)

    started(recorder)

    assert answered(bad, good) == ["rejected", "acknowledged"]
    wait_until(lambda: pool.taken == [good], 5, "the good one runs")


def test_a_claim_that_was_refused_is_tried_again_and_meanwhile_in_our_hands(
    recorder: Recorder, session: Session, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    message = Message(queued(session), 1)
    session.commit()
    claim = lifecycle.claim
    in_hands: list[Any] = []

    def refuse_for_a_while(session: Session, hints: Any, worker: str) -> Any:
        hints = list(hints)
        if hints and len(in_hands) < 4:
            in_hands.append(recorder.unclaimed())
            raise OperationalError("UPDATE", {}, Exception("not now"))
        return claim(session, hints, worker)

    monkeypatch.setattr(lifecycle, "claim", refuse_for_a_while)
    started(recorder).offer(message)

    wait_until(lambda: pool.taken == [message], 10, "it runs")
    assert in_hands == [[message.id]] * 4
    assert message.answer == "acknowledged"


def test_an_outcome_that_cannot_be_written_fails_its_job_only(recorder: Recorder, session: Session, pool: Pool) -> None:
    messages = [Message(queued(session), 1) for _ in range(2)]
    session.commit()
    for message in messages:
        recorder.offer(message)
    started(recorder)
    wait_until(lambda: len(pool.taken) == 2, 5, "both run")
    bad, good = (message.claimed for message in messages)
    assert bad is not None
    assert good is not None

    recorder.ended(messages[0], Succeeded(bad, "a lone surrogate \ud800"), 0.1)
    recorder.ended(messages[1], Succeeded(good, "1"), 0.1)

    def states() -> list[str]:
        session.rollback()
        return [state_of(session, message.id) for message in messages]

    wait_until(lambda: states() == [JobState.FAILED, JobState.SUCCEEDED], 5, "both are final")
    assert recorder.holds() == {}


def refuse(engine: Engine, job_id: str, trouble: str) -> None:
    """From now on the database itself refuses that this job succeeds."""
    with engine.begin() as connection:
        if engine.dialect.name == "sqlite":
            # Its triggers know one kind of refusal only; the driver's error is made the wanted one on its way out.
            words = f"RAISE(ABORT, '{trouble}')"
            connection.exec_driver_sql(
                f"CREATE TRIGGER refuse BEFORE UPDATE ON job WHEN NEW.id = '{job_id}' AND NEW.state = 'succeeded' "
                f"BEGIN SELECT {words}; END"
            )
            return
        code = {"DataError": "22003", "OperationalError": "54000"}[trouble]
        connection.exec_driver_sql(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS "
            f"$$ BEGIN RAISE EXCEPTION '{trouble}' USING ERRCODE = '{code}'; END $$"
        )
        connection.exec_driver_sql(
            f"CREATE TRIGGER refuse BEFORE UPDATE ON job FOR EACH ROW WHEN (NEW.id = '{job_id}' AND "
            "NEW.state = 'succeeded') EXECUTE FUNCTION refuse()"
        )


@pytest.fixture
def refusing(engine: Engine) -> Iterator[Engine]:
    yield engine
    with engine.begin() as connection:
        on_job = "" if engine.dialect.name == "sqlite" else " ON job"
        connection.exec_driver_sql(f"DROP TRIGGER IF EXISTS refuse{on_job}")
        if on_job:
            connection.exec_driver_sql("DROP FUNCTION IF EXISTS refuse()")


@pytest.mark.parametrize("trouble", ["DataError", "OperationalError"])
def test_an_outcome_that_the_database_never_takes_fails_its_job_only(
    recorder: Recorder, refusing: Engine, session: Session, pool: Pool, monkeypatch: pytest.MonkeyPatch, trouble: str
) -> None:
    monkeypatch.setattr(refused, "MOST_OUTAGES", 2)
    if refusing.dialect.name == "sqlite":

        @event.listens_for(refusing, "handle_error", retval=True)
        def translate(context: Any) -> Exception | None:
            words = str(context.original_exception)
            kind = {"DataError": DataError, "OperationalError": OperationalError}.get(words)
            return None if kind is None else kind("UPDATE", {}, context.original_exception)

    bad = Message(queued(session), 1)
    session.commit()
    refuse(refusing, bad.id, trouble)
    recorder.offer(bad)
    started(recorder)
    wait_until(lambda: bad in pool.taken, 5, "it runs")
    assert bad.claimed is not None
    recorder.ended(bad, Succeeded(bad.claimed, "1"), 0.1)

    def another_passes_and_it_has_failed() -> bool:
        """A database that takes others is not away."""
        other = Message(queued(session), 1)
        session.commit()
        recorder.offer(other)
        wait_until(lambda: other in pool.taken, 10, "the next one runs")
        assert other.claimed is not None
        recorder.ended(other, Succeeded(other.claimed, "1"), 0.1)
        wait_until(lambda: other.id not in recorder.holds(), 10, "its success is recorded")
        return state_of(session, bad.id) == JobState.FAILED

    wait_until(another_passes_and_it_has_failed, 15, "it fails")
    assert trouble in row_of(session, bad.id)["error_message"]
    assert recorder.holds() == {}


def test_a_database_that_takes_nothing_fails_no_job(
    recorder: Recorder, session: Session, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refused, "MOST_OUTAGES", 1)
    monkeypatch.setattr(refused, "_LONGEST_PAUSE", 0.01)
    message = Message(queued(session), 1)
    session.commit()
    started(recorder).offer(message)
    wait_until(lambda: pool.taken == [message], 5, "it runs")
    assert message.claimed is not None
    settle, refusals = lifecycle.settle, []

    def full_disk(session: Session, outcomes: Any) -> set[str]:
        if outcomes and len(refusals) < 5:
            refusals.append(outcomes)
            raise OperationalError("UPDATE", {}, Exception("no space left on device"))
        return settle(session, outcomes)

    monkeypatch.setattr(lifecycle, "settle", full_disk)
    recorder.ended(message, Succeeded(message.claimed, "1"), 0.1)

    wait_until(lambda: recorder.holds() == {}, 10, "its success is recorded")
    assert state_of(session, message.id) == JobState.SUCCEEDED


def test_what_the_pool_does_not_take_is_put_back_and_frees_its_slot(
    recorder: Recorder, session: Session, pool: Pool
) -> None:
    pool.broken = True
    job_id = queued(session)
    session.commit()
    message = Message(job_id, 1)
    message.give_back = lambda reason: recorder.ended(message, lifecycle.Stopped(message.claimed, reason), None)

    started(recorder).offer(message)

    wait_until(lambda: answered(message) and recorder.holds() == {} and not recorder._slots.busy, 5, "the slot is free")
    assert state_of(session, job_id) == JobState.WAITING


def test_a_job_whose_task_nobody_knows_waits(recorder: Recorder, session: Session) -> None:
    job_id = queued(session)
    session.commit()
    answers: list[str] = []

    started(recorder).turn_away(Hint(job_id, 1), lambda: answers.append("acknowledged"))

    wait_until(lambda: answers == ["acknowledged"], 5, "the message is acknowledged")
    assert state_of(session, job_id) == JobState.WAITING


def run_both(recorder: Recorder, session: Session, pool: Pool, **wish: str) -> list[Message]:
    messages = [Message(queued(session, **wish), 1) for _ in range(2)]
    session.commit()
    for message in messages:
        recorder.offer(message)
    started(recorder)
    wait_until(lambda: len(pool.taken) == 2, 5, "both run")
    return messages


def test_the_relay_learns_at_once_that_a_limited_job_has_ended(
    recorder: Recorder, session: Session, pool: Pool
) -> None:
    control.set_limit(session, "customer", Rule(max_running=2))
    in_child, in_group = run_both(recorder, session, pool, limit_key="customer")

    recorder.ended(in_child, None, 0.1)
    assert pool.nudges == 1

    assert in_group.claimed is not None
    recorder.ended(in_group, Succeeded(in_group.claimed), 0.1)
    wait_until(lambda: pool.nudges == 2, 5, "the relay is nudged once the end is committed")


def test_the_end_of_a_job_without_a_limit_wakes_nobody(recorder: Recorder, session: Session, pool: Pool) -> None:
    in_child, in_group = run_both(recorder, session, pool)
    assert in_group.claimed is not None

    recorder.ended(in_child, None, 0.1)
    recorder.ended(in_group, Succeeded(in_group.claimed), 0.1)

    wait_until(lambda: recorder.holds() == {}, 5, "both ends are recorded")
    assert pool.nudges == 0


def test_a_message_of_a_paused_queue_is_acknowledged_and_its_job_waits(
    recorder: Recorder, session: Session, pool: Pool
) -> None:
    job_id = queued(session, queue="mail")
    control.pause_queue(session, "mail")
    session.commit()
    message = Message(job_id, 1)

    started(recorder).offer(message)

    assert answered(message) == ["acknowledged"]
    assert state_of(session, job_id) == JobState.WAITING
    assert pool.taken == []


def letters_of(session: Session) -> list[str]:
    session.rollback()
    return list(session.scalars(select(DeadLetter.reason)))


def test_a_buried_message_is_answered_once_its_letter_is_committed(recorder: Recorder, session: Session) -> None:
    seen: list[list[str]] = []

    started(recorder).bury(Letter("malformed", body=b"x"), lambda: seen.append(letters_of(session)))

    assert wait_until(lambda: seen, 5, "it is answered") == [["malformed"]]


def test_a_letter_waits_for_a_database_that_is_away(
    recorder: Recorder, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers: list[int] = []
    real, troubles = recorder._errands._write, [OperationalError("INSERT", {}, Exception("away"))]

    def away_once(errands: Any) -> None:
        if troubles:
            raise troubles.pop()
        real(errands)

    monkeypatch.setattr(recorder._errands, "_write", away_once)
    started(recorder).bury(Letter("malformed"), lambda: answers.append(1))

    wait_until(lambda: answers, 5, "it is answered")
    assert letters_of(session) == ["malformed"]


def test_a_letter_that_the_database_never_takes_is_not_tried_without_a_pause(
    recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    happened: list[str] = []

    def always_away(errands: Any) -> None:
        happened.append("try")
        raise OperationalError("INSERT", {}, Exception("away"))

    monkeypatch.setattr(recorder._errands, "_write", always_away)
    monkeypatch.setattr(recorder_module, "time", SimpleNamespace(sleep=lambda _: happened.append("pause")))
    started(recorder).bury(Letter("malformed"), lambda: happened.append("answer"))

    wait_until(lambda: len(happened) >= 12, 5, "it has tried six times")
    recorder._errands.clear()
    assert happened[:12] == ["try", "pause"] * 6


def test_what_cannot_be_written_at_all_stops_no_other(recorder: Recorder, session: Session) -> None:
    answers: list[str] = []

    def wrong(_: Session) -> None:
        raise KeyError("a bug of ours")

    recorder._errands.add(wrong, lambda: answers.append("bad"))
    recorder.bury(Letter("malformed"), lambda: answers.append("good"))
    started(recorder)

    wait_until(lambda: len(answers) == 2, 5, "both are answered")
    assert letters_of(session) == ["malformed"]


def test_a_message_for_an_unknown_task_is_acknowledged_once_its_job_is_held(
    recorder: Recorder, session: Session
) -> None:
    job_id = queued(session)
    session.commit()
    answers: list[int] = []

    started(recorder).turn_away(Hint(job_id, 1), lambda: answers.append(1))

    wait_until(lambda: answers, 5, "it is acknowledged")
    session.rollback()
    assert row_of(session, job_id)["sender"] == UNKNOWN


class Loop:
    """An event loop that is busy: what it is asked to do waits."""

    def __init__(self) -> None:
        self.asked: list[Any] = []

    def call_soon(self, function: Any, *args: Any) -> None:
        self.asked.append((function, args))


def test_no_more_is_claimed_than_there_are_slots_while_the_event_loop_is_busy(
    recorder: Recorder, session: Session, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = Loop()
    monkeypatch.setattr(pool, "hub", loop)
    messages = [Message(queued(session), 1) for _ in range(4)]
    session.commit()
    started(recorder)
    for message in messages[:2]:
        recorder.offer(message)
        wait_until(lambda message=message: message.claimed, 5, "it is claimed")
    for message in messages[2:]:
        recorder.offer(message)

    for _ in range(2):
        known = len(loop.asked)
        recorder.notice("mail", 1, lambda: None)
        wait_until(lambda known=known: len(loop.asked) > known, 5, "the recorder went another round")

    assert [message.claimed is not None for message in messages] == [True, True, False, False]
    monkeypatch.setattr(pool, "hub", None)


def test_what_is_offered_and_not_claimed_is_in_our_hands(recorder: Recorder, session: Session) -> None:
    message = Message(queued(session), 1)
    session.commit()
    assert recorder.unclaimed() is None
    recorder.listening = True
    assert recorder.unclaimed() == []
    recorder.offer(message)
    assert recorder.unclaimed() == [message.id]
    started(recorder)
    wait_until(lambda: recorder.unclaimed() == [], 5, "it is claimed")


def a_seen_probe(session: Session) -> None:
    number = lost.begin(session, "default")
    lost.see(session, "default", number or 0)
    session.commit()


def is_void(session: Session) -> bool:
    session.rollback()
    return lost.under_way(session) == []


def test_what_found_no_free_slot_for_long_goes_back_and_voids_the_probe_of_its_queue(
    recorder: Recorder, session: Session, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    messages = [Message(queued(session), 1) for _ in range(6)]
    session.commit()
    a_seen_probe(session)
    monkeypatch.setattr(prefetch, "_PATIENCE_SECONDS", 0.5)
    in_hands: list[Any] = []
    handed_back = lost.handed_back

    def note(session: Session, job_ids: Any) -> None:
        in_hands.extend([sorted(job_ids), recorder.unclaimed()])
        handed_back(session, job_ids)

    monkeypatch.setattr(lost, "handed_back", note)
    recorder.listening = True
    for message in messages:
        recorder.offer(message)
    started(recorder)

    wait_until(lambda: is_void(session), 5, "the probe proves nothing any more")
    returned = sorted(message.id for message in messages[2:])
    assert [message.answer for message in messages] == ["acknowledged"] * 2 + ["rejected"] * 4
    # Until that is committed they count as in our hands.
    assert in_hands[0] == returned
    assert set(returned) <= set(in_hands[1])
    wait_until(lambda: not set(returned) & set(recorder.unclaimed() or ()), 5, "they have left our hands")


def test_a_worker_that_stops_voids_the_probe_of_what_it_hands_back(
    recorder: Recorder, session: Session, pool: Pool
) -> None:
    message = Message(queued(session), 1)
    message._connection_errors = ()
    message.reject_log_error = lambda *_, **__: message.reject()
    session.commit()
    a_seen_probe(session)
    recorder.offer(message)

    recorder.begin_stop(0)
    recorder._stopping.join(10)

    assert (message.answer, is_void(session), recorder.unclaimed()) == ("rejected", True, None)


def test_what_a_lost_connection_brought_voids_the_probe_once_there_is_another(
    recorder: Recorder, session: Session, pool: Pool
) -> None:
    messages = [Message(queued(session), 1) for _ in range(4)]
    session.commit()
    a_seen_probe(session)
    for message in messages:
        recorder.offer(message)
    recorder.attach(pool)
    assert recorder.unclaimed() == sorted(message.id for message in messages)

    started(recorder)

    wait_until(lambda: is_void(session) and recorder.unclaimed() is None, 5, "the probe proves nothing any more")


def test_a_probe_is_acknowledged_once_it_is_noted(recorder: Recorder, session: Session) -> None:
    number = lost.begin(session, "mail")
    session.commit()
    answered: list[bool] = []
    recorder.notice("mail", number or 0, lambda: answered.append(True))
    assert answered == []
    started(recorder)
    wait_until(lambda: answered, 5, "the probe is acknowledged")
    assert session.scalars(select(Probe.seen_at)).one() is not None


def test_a_job_that_lost_a_process_before_is_not_claimed_ahead(
    recorder: Recorder, session: Session, pool: Pool
) -> None:
    running = [Message(queued(session), 1) for _ in range(2)]
    suspect, other = Message(queued(session), 1), Message(queued(session), 1)
    session.commit()
    suspect.is_suspect = True
    recorder._slots.pace.ended(0.0001, has_work=False)  # so short that many are claimed ahead
    for message in (*running, suspect, other):
        recorder.offer(message)
    started(recorder)

    wait_until(lambda: other.claimed, 5, "the one behind it is claimed ahead")
    assert suspect.claimed is None
    assert running[0].claimed is not None
    recorder.ended(running[0], Succeeded(running[0].claimed), 0.1)
    assert other.claimed is not None
    recorder.ended(other, Succeeded(other.claimed), 0.1)
    wait_until(lambda: suspect.claimed, 5, "a slot is free: it is claimed")


def another_round(recorder: Recorder) -> None:
    answers: list[int] = []
    recorder.notice("mail", 1, lambda: answers.append(1))
    wait_until(lambda: answers, 5, "the recorder went another round")


def test_a_job_that_lost_a_process_before_is_not_overtaken_for_long(
    recorder: Recorder, session: Session, pool: Pool
) -> None:
    running = [Message(queued(session), 1) for _ in range(2)]
    suspect, other = Message(queued(session), 1), Message(queued(session), 1)
    session.commit()
    suspect.is_suspect, suspect.arrived = True, time.monotonic() - 2
    recorder._slots.pace.ended(0.0001, has_work=False)  # so short that many are claimed ahead
    for message in (*running, suspect, other):
        recorder.offer(message)
    started(recorder)
    wait_until(lambda: len(pool.taken) == 2, 5, "both slots are taken")

    for _ in range(2):
        another_round(recorder)
    assert [suspect.claimed, other.claimed] == [None, None]

    for each in running:
        assert each.claimed is not None
        recorder.ended(each, Succeeded(each.claimed), 0.1)
    wait_until(lambda: len(pool.taken) == 4, 5, "slots are free")
    assert pool.taken[2:] == [suspect, other]


class EndedLoop:
    """An event loop that runs nothing any more."""

    def call_soon(self, function: Any, *args: Any) -> None:
        """Never."""


def test_a_claim_in_flight_while_the_worker_stops_is_put_back_uncounted(
    recorder: Recorder, session: Session, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = queued(session)
    session.commit()
    claim = lifecycle.claim

    def stop_meanwhile(*args: Any) -> dict[str, Claimed]:
        if pool.hub is None:
            pool.hub = EndedLoop()
            recorder.begin_stop(0)
            recorder._stopping.join(10)
        return claim(*args)

    monkeypatch.setattr(lifecycle, "claim", stop_meanwhile)
    started(recorder).offer(Message(job_id, 1))
    wait_until(lambda: recorder.holds(), 5, "it is claimed after all")

    recorder.finish()

    row = row_of(session, job_id)
    assert (row["state"], row["attempt"], row["crashes"]) == (JobState.WAITING, 1, 0)


def test_a_job_that_the_pool_threw_away_with_its_broker_connection_is_put_back(
    recorder: Recorder, session: Session, pool: Pool
) -> None:
    first, accepted, next_one = (queued(session) for _ in range(3))
    session.commit()
    messages = [Message(job_id, 1, recorder=recorder) for job_id in (first, accepted, next_one)]
    started(recorder).offer(messages[0])
    recorder.offer(messages[1])
    wait_until(lambda: len(pool.taken) == 2, 5, "both slots are taken")
    messages[1].worker_pid = 1

    recorder.detach(in_pool=[])

    wait_until(lambda: state_of(session, first) == JobState.WAITING or session.rollback(), 5, "it is put back")
    assert (row_of(session, first)["crashes"], state_of(session, accepted)) == (0, JobState.RUNNING)
    recorder.offer(messages[2])
    wait_until(lambda: messages[2] in pool.taken, 5, "its slot is free")


def test_who_grows_the_pool_hears_of_each_job_that_comes_to_it(
    recorder: Recorder, session: Session, pool: Pool
) -> None:
    """Celery's `--autoscale` would else look only every half minute."""
    message = Message(queued(session), 1)
    session.commit()
    heard: list[Message] = []
    pool.on_task_message.add(heard.append)

    started(recorder).offer(message)

    wait_until(lambda: heard == [message], 5, "it was heard of")


def test_a_job_that_the_pool_has_is_not_put_back_because_the_pool_cannot_grow(
    recorder: Recorder, session: Session, pool: Pool
) -> None:
    messages = [Message(queued(session), 1, recorder=recorder) for _ in range(2)]
    session.commit()

    def grow(_request: Message) -> None:
        raise OSError("Cannot allocate memory")

    pool.on_task_message.add(grow)

    started(recorder)
    for message in messages:
        recorder.offer(message)

    wait_until(lambda: pool.taken == messages, 5, "the pool has both")
    assert not messages[0].finished


def test_a_job_that_the_pool_keeps_over_a_lost_connection_stays_with_it(
    recorder: Recorder, session: Session, pool: Pool
) -> None:
    message = Message(queued(session), 1, recorder=recorder)
    session.commit()
    started(recorder).offer(message)
    wait_until(lambda: pool.taken == [message], 5, "the pool has it")

    recorder.detach(in_pool=[message.id])

    assert not message.finished
    recorder.ended(message, Succeeded(message.claimed, "1"), 0.1)  # type: ignore[arg-type]
    wait_until(lambda: not recorder.holds(), 5, "its success is recorded")
    assert state_of(session, message.id) == JobState.SUCCEEDED


def test_a_claim_that_the_event_loop_did_not_come_to_is_not_forgotten(
    recorder: Recorder, session: Session, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kombu's hub drops the rest of its calls when one of them meets a dead connection."""
    claimed = Message(queued(session), 1)
    session.commit()
    monkeypatch.setattr(pool, "hub", EndedLoop())
    started(recorder).offer(claimed)
    wait_until(lambda: claimed.claimed, 5, "it is claimed")
    another_round_without_a_loop(recorder)

    recorder.detach(in_pool=[])
    monkeypatch.setattr(pool, "hub", None)
    recorder.attach(pool)

    assert pool.taken == [claimed]


def another_round_without_a_loop(recorder: Recorder) -> None:
    """The recorder has said everything that it says about its last group."""
    wait_until(lambda: recorder._loop._calls, 5, "the group is over")


def test_a_message_that_cannot_be_answered_keeps_no_job_from_the_pool(
    recorder: Recorder, session: Session, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    message = Message(queued(session), 1)
    session.commit()
    monkeypatch.setattr(pool, "hub", EndedLoop())
    monkeypatch.setattr(message, "acknowledge", dead_connection)
    started(recorder).offer(message)
    wait_until(lambda: message.claimed, 5, "it is claimed")
    another_round_without_a_loop(recorder)

    recorder.detach(in_pool=[])
    monkeypatch.setattr(pool, "hub", None)
    recorder._slots.fill()

    assert pool.taken == [message]


def test_a_broker_that_cannot_be_told_the_limit_does_not_end_the_thread(
    recorder: Recorder, session: Session, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A transport without an event loop is told by the recorder's own thread."""
    first, second = Message(queued(session), 1), Message(queued(session), 1)
    session.commit()
    monkeypatch.setattr(pool, "qos", SimpleNamespace(value=0, update=dead_connection))
    monkeypatch.setattr(pool, "task_consumer", SimpleNamespace(cancel=dead_connection, queues=[]))
    monkeypatch.setattr(pool, "qos_global", False, raising=False)
    started(recorder).offer(first)
    wait_until(lambda: first.claimed, 5, "the first is claimed")

    recorder.offer(second)

    wait_until(lambda: second.claimed, 5, "the second is claimed as well")


def dead_connection() -> None:
    raise BrokenPipeError("gone")
