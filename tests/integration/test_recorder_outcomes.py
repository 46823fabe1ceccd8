"""An outcome is written once, whatever the database says, and who waits for it is told."""

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Engine, event
from sqlalchemy.exc import DataError, OperationalError
from sqlalchemy.orm import Session

from flaskapp.jobs import control, lifecycle
from flaskapp.jobs.joining import NewJoin
from flaskapp.jobs.limits import Rule
from flaskapp.jobs.models import JobState
from flaskapp.jobs.outcomes import Succeeded
from flaskapp.worker import refused
from flaskapp.worker.recorder import Recorder
from tests.helpers import wait_until
from tests.integration.recorder_fixtures import Message, Pool, pool, recorder, started  # noqa: F401 -- fixtures
from tests.makers import queued, row_of, state_of, waiting


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
