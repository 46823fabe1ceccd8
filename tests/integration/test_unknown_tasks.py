"""Jobs whose task no running worker knows: held, shown, and released by the first worker that does."""

import json
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import Engine, insert, update
from sqlalchemy.orm import Session

from flaskapp.jobs import control, letters, lifecycle, unknown
from flaskapp.jobs.clock import now, seconds_from_now
from flaskapp.jobs.letters import Letter
from flaskapp.jobs.limits import Rule
from flaskapp.jobs.models import Job, JobState, Worker
from flaskapp.jobs.outcomes import Hint
from flaskapp.jobs.unknown import UNKNOWN, Knows
from flaskapp.worker.heartbeat import Heartbeat
from flaskapp.worker.maintenance import Turn
from tests import makers

NEWER = Knows(frozenset({"default"}), frozenset({"tests.fate"}))
OLDER = Knows(frozenset({"default"}), frozenset({"tests.other"}))
ELSEWHERE = Knows(frozenset({"mail"}), frozenset({"tests.fate"}))


def alive(session: Session, knows: Knows, name: str = "w", **more: Any) -> None:
    row = {"id": name, "kind": "worker", "host": "h", "pid": 1, "heartbeat_at": now(), **more}
    session.execute(insert(Worker).values(queues=",".join(knows.queues), tasks=json.dumps(list(knows.tasks)), **row))


def held(session: Session, **wish: Any) -> str:
    job_id = makers.queued(session, **wish)
    assert unknown.hold_unknown(session, [hint(session, job_id)]) == [job_id]
    return job_id


def hint(session: Session, job_id: str) -> Hint:
    return Hint(job_id, makers.row_of(session, job_id)["sends"])


def sender(session: Session, job_id: str) -> str | None:
    return makers.row_of(session, job_id)["sender"]  # type: ignore[no-any-return]


def taken(session: Session) -> list[str]:
    return [job.id for job in lifecycle.take_to_send(session, "relay", 10, 30)]


def test_a_held_job_waits_and_no_relay_takes_it(session: Session) -> None:
    job_id = held(session)

    row = makers.row_of(session, job_id)
    assert (row["state"], row["sender"], row["queued_at"]) == (JobState.WAITING, UNKNOWN, None)
    assert taken(session) == []


@pytest.mark.parametrize("knows", [OLDER, ELSEWHERE])
def test_a_worker_that_does_not_know_it_or_serves_another_queue_changes_nothing(session: Session, knows: Knows) -> None:
    alive(session, knows)
    job_id = held(session)

    assert unknown.release_known(session, [knows]) == 0
    assert sender(session, job_id) == UNKNOWN


def test_while_a_worker_that_knows_it_is_alive_it_is_sent_again_soon(session: Session) -> None:
    alive(session, OLDER, "old")
    alive(session, NEWER, "new")
    job_id = makers.queued(session)

    assert unknown.hold_unknown(session, [hint(session, job_id)]) == []

    assert (makers.state_of(session, job_id), sender(session, job_id), taken(session)) == (JobState.WAITING, None, [])
    makers.pass_seconds(session, job_id, 0, "sending_until")
    assert taken(session) == [job_id]


def test_a_worker_that_has_gone_silent_does_not_count(session: Session) -> None:
    alive(session, NEWER, heartbeat_at=seconds_from_now(-60))

    held(session)


def test_the_message_of_an_older_sending_holds_nothing(session: Session) -> None:
    job_id = makers.queued(session)
    session.execute(update(Job).where(Job.id == job_id).values(sends=5))

    assert unknown.hold_unknown(session, [Hint(job_id, 4)]) == []
    assert makers.state_of(session, job_id) == JobState.QUEUED


def test_a_message_that_overtook_its_confirm_is_held_too(session: Session) -> None:
    job_id = makers.waiting(session)
    lifecycle.take_to_send(session, "relay", 10, 30)
    unknown.hold_unknown(session, [hint(session, job_id)])

    lifecycle.mark_queued(session, "relay", [job_id])

    assert (makers.state_of(session, job_id), sender(session, job_id)) == (JobState.WAITING, UNKNOWN)


def test_a_made_up_message_does_not_set_a_parked_job_going(session: Session) -> None:
    alive(session, NEWER)
    job_id = makers.waiting(session)
    session.execute(update(Job).where(Job.id == job_id).values(sender=lifecycle.PARKED, sends=3))

    unknown.hold_unknown(session, [Hint(job_id, 3)])
    letters.record(session, Letter("rejected", job_id=job_id, task="tests.fate", send=3))

    assert sender(session, job_id) == lifecycle.PARKED


def test_only_what_the_worker_knows_is_released(session: Session) -> None:
    mine, other_queue = held(session), held(session, queue="query")
    other_task = held(session)
    session.execute(update(Job).where(Job.id == other_task).values(task="tests.another"))

    assert unknown.release_known(session, [NEWER]) == 1

    assert [sender(session, job_id) for job_id in (mine, other_queue, other_task)] == [None, UNKNOWN, UNKNOWN]
    assert taken(session) == [mine]


def test_a_held_job_can_be_cancelled_and_run_again(session: Session) -> None:
    job_id = held(session)

    assert lifecycle.cancel(session, job_id)
    assert sender(session, job_id) is None
    assert lifecycle.run_again(session, job_id)
    assert taken(session) == [job_id]


def test_very_many_are_released_in_groups(
    app: Flask, engine: Engine, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sign of life must not wait for a million of them; the next turns release the rest."""
    monkeypatch.setattr(unknown, "MOST_AT_ONCE", 2)
    jobs = [held(session) for _ in range(5)]
    session.commit()

    Heartbeat(engine, "new", "worker", "default", tasks=["tests.fate"]).beat()

    def still_held() -> int:
        session.rollback()
        return [sender(session, job_id) for job_id in jobs].count(UNKNOWN)

    assert still_held() == 3
    turn = Turn(app.extensions["celery"], engine)
    left = []
    for _ in range(2):
        turn.run()
        left.append(still_held())
    assert left == [1, 0]


def test_a_held_job_expires(session: Session) -> None:
    late, _ = held(session), held(session)
    session.execute(update(Job).where(Job.id == late).values(expires_at=seconds_from_now(-1)))

    assert lifecycle.expire_overdue(session, 10) == 1
    assert makers.state_of(session, late) == JobState.CANCELLED


def test_a_held_job_takes_no_place_of_a_limit(session: Session) -> None:
    control.set_limit(session, "customer", Rule(max_running=1))
    held(session, limit_key="customer")
    other = makers.waiting(session, limit_key="customer")

    assert taken(session) == [other]


def beat(engine: Engine, heartbeat: Heartbeat, session: Session) -> None:
    session.commit()
    heartbeat.beat()


def test_the_first_beat_of_a_worker_that_knows_it_releases_it(engine: Engine, session: Session) -> None:
    job_id = held(session)
    beat(engine, Heartbeat(engine, "old", "worker", "default", tasks=["tests.other"]), session)
    assert sender(session, job_id) == UNKNOWN

    beat(engine, Heartbeat(engine, "new", "worker", "default", tasks=["tests.fate"]), session)

    assert sender(session, job_id) is None


def test_a_worker_whose_row_was_taken_away_releases_again(engine: Engine, session: Session) -> None:
    heartbeat = Heartbeat(engine, "new", "worker", "default", tasks=["tests.fate"])
    beat(engine, heartbeat, session)
    session.execute(update(Worker).values(heartbeat_at=seconds_from_now(-60)))
    job_id = held(session)
    beat(engine, heartbeat, session)
    assert sender(session, job_id) == UNKNOWN

    session.query(Worker).delete()
    beat(engine, heartbeat, session)

    assert sender(session, job_id) is None


def test_more_than_two_gigabytes_end_no_heartbeat(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flaskapp.worker.heartbeat._memory_of_process_tree", lambda: 3 * 2**30)
    Heartbeat(engine, "large", "worker").beat()

    with Session(engine) as session:
        assert session.get_one(Worker, "large").memory == 3 * 2**30


def test_a_job_that_was_held_too_late_is_released_by_the_next_look(
    app: Flask, engine: Engine, session: Session
) -> None:
    job_id, late = held(session), held(session)
    session.execute(update(Job).where(Job.id == late).values(expires_at=seconds_from_now(-1)))
    alive(session, NEWER)
    session.commit()

    with app.app_context():
        Turn(app.extensions["celery"], engine).run()

    assert (sender(session, job_id), makers.state_of(session, late)) == (None, JobState.CANCELLED)
