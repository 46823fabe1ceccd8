"""What a numbered probe proves: a job that it overtook has lost its message; one in a worker's hands has not."""

import json
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, insert, select, update
from sqlalchemy.orm import Session

from flaskapp.broker import probes
from flaskapp.broker.probes import Search
from flaskapp.errors import NotConfirmed
from flaskapp.jobs import lifecycle, lost
from flaskapp.jobs.clock import now, seconds_from_now
from flaskapp.jobs.models import Job, JobState, Probe, Worker
from tests.makers import claim, pass_seconds, queued, send, state_of

W, Q = JobState.WAITING, JobState.QUEUED
MARGIN = 10


class Line:
    """Stands for the broker: takes probes, and is away when a test says so."""

    def __init__(self) -> None:
        self.probes: list[tuple[str, int]] = []
        self.trouble: Exception | None = None
        self.wants = True

    def publish_probe(self, queue: str, number: int) -> bool:
        if self.trouble:
            raise self.trouble
        self.probes.append((queue, number))
        return self.wants

    def count_messages(self, queues: list[str]) -> dict[str, int | None]:
        if self.trouble:
            raise self.trouble
        return {queue: 3 if queue == "default" else None for queue in queues}


@pytest.fixture
def line() -> Line:
    return Line()


@pytest.fixture
def search(engine: Engine, line: Line) -> Search:
    return Search(engine, line, MARGIN)  # type: ignore[arg-type]


def overdue(session: Session, **wish: Any) -> str:
    job_id = queued(session, **wish)
    pass_seconds(session, job_id, 3 * MARGIN, "queued_at")
    session.commit()
    return job_id


def worker(session: Session, unclaimed: list[str] | None, holds: int = 0, queues: str = "default") -> None:
    held = {f"held {n}": 1 for n in range(holds)}
    row = {"id": f"w{queues}@host/1", "kind": "worker", "host": "host", "pid": 1, "concurrency": 2, "queues": queues}
    hands = None if unclaimed is None else json.dumps(unclaimed)
    session.execute(insert(Worker).values(row | {"holds": json.dumps(held), "unclaimed": hands}))
    session.commit()


def probe_of(session: Session, queue: str = "default") -> Probe:
    session.rollback()
    return session.scalars(select(Probe).where(Probe.queue == queue).execution_options(populate_existing=True)).one()


def arrives(session: Session, line: Line, seconds_ago: float = MARGIN + 1) -> None:
    """A worker receives the newest probe, some time ago."""
    queue, number = line.probes[-1]
    lost.see(session, queue, number)
    session.commit()
    for column in ("seen_at", "sent_at"):
        probe = probe_of(session, queue)
        earlier = getattr(probe, column) - timedelta(seconds=seconds_ago)
        session.execute(update(Probe).where(Probe.queue == queue).values({column: earlier}))
        session.commit()


@pytest.fixture
def idle_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each look counts as if the workers had been idle for long enough."""
    monkeypatch.setattr(probes, "IDLE_SECONDS", 0.0)


# --- sending a probe --------------------------------------------------------------------------------------


def test_no_probe_goes_where_nothing_waits_for_long(search: Search, line: Line, session: Session) -> None:
    queued(session)
    session.commit()
    search.look()
    assert line.probes == []


def test_one_probe_at_a_time_goes_where_jobs_wait_for_long(search: Search, line: Line, session: Session) -> None:
    overdue(session)
    overdue(session, queue="mail")
    for _ in range(3):
        search.look()
    assert sorted(line.probes) == [("default", 1), ("mail", 1)]


def test_two_beats_send_one_probe(engine: Engine, line: Line, session: Session) -> None:
    overdue(session)
    for _ in range(2):
        Search(engine, line, MARGIN).look()  # type: ignore[arg-type]
    assert line.probes == [("default", 1)]


@pytest.mark.parametrize("trouble", [None, NotConfirmed("away")])
def test_a_probe_that_the_broker_did_not_take_is_not_missing(
    search: Search, line: Line, session: Session, trouble: Exception | None
) -> None:
    overdue(session)
    line.trouble, line.wants = trouble, False
    try:
        search.look()
    except NotConfirmed:
        assert trouble
    line.trouble, line.wants = None, True
    search.look()
    assert line.probes[-1] == ("default", 2)
    assert probe_of(session).missing == 0


# --- what it proves ---------------------------------------------------------------------------------------


def test_a_job_that_a_probe_overtook_is_sent_again(search: Search, line: Line, session: Session) -> None:
    job_id = overdue(session)
    search.look()
    arrives(session, line)

    assert search.look() == [job_id]

    assert state_of(session, job_id) == W
    found = probe_of(session)
    assert (json.loads(found.lost_ids), found.lost, found.sent_at) == ([job_id], 1, None)
    assert found.looked_at is not None


def test_what_one_beat_found_another_does_not_hide(
    search: Search, engine: Engine, line: Line, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = overdue(session)
    search.look()
    arrives(session, line)
    real = lost.lost_before

    def while_another_looks(*args: Any) -> list[str]:
        monkeypatch.setattr(lost, "lost_before", real)
        session.commit()
        assert Search(engine, line, MARGIN).look() == [job_id]  # type: ignore[arg-type]
        return real(*args)

    monkeypatch.setattr(lost, "lost_before", while_another_looks)
    assert search.look() == []
    assert json.loads(probe_of(session).lost_ids) == [job_id]


def test_it_is_left_alone_until_a_margin_after_the_probe(search: Search, line: Line, session: Session) -> None:
    job_id = overdue(session)
    search.look()
    arrives(session, line, 1)
    assert search.look() == []
    assert state_of(session, job_id) == Q


def test_a_job_in_a_slow_workers_hands_is_not_lost(search: Search, line: Line, session: Session) -> None:
    job_id, gone = overdue(session), overdue(session)
    worker(session, [job_id], holds=2)
    search.look()
    arrives(session, line)
    assert search.look() == [gone]
    assert state_of(session, job_id) == Q


def test_a_job_that_was_handed_back_behind_a_seen_probe_is_not_lost(
    search: Search, line: Line, session: Session
) -> None:
    job_id = overdue(session)
    worker(session, [job_id])
    search.look()
    arrives(session, line)
    # The broker has it again; the heartbeat that says so comes after this is committed.
    lost.handed_back(session, [job_id])
    session.execute(update(Worker).values(unclaimed="[]"))
    session.commit()

    assert search.look() == []

    assert state_of(session, job_id) == Q
    # The next probe stands in line behind it: what that one proves holds again.
    assert line.probes[-1] == ("default", 2)
    arrives(session, line)
    assert search.look() == [job_id]


def test_a_job_handed_back_while_a_beat_judges_is_not_lost(
    search: Search, line: Line, session: Session, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = overdue(session)
    search.look()
    arrives(session, line)
    real = lost.lost_before

    def meanwhile(*args: Any) -> list[str]:
        found = real(*args)
        with Session(engine) as another, another.begin():
            lost.handed_back(another, [job_id])
        return found

    monkeypatch.setattr(lost, "lost_before", meanwhile)

    assert search.look() == []
    assert state_of(session, job_id) == Q


def test_what_is_handed_back_says_nothing_about_other_queues(search: Search, line: Line, session: Session) -> None:
    gone, back = overdue(session, queue="mail"), overdue(session)
    search.look()
    for queue, number in line.probes:
        lost.see(session, queue, number)
    session.execute(update(Probe).values(seen_at=seconds_from_now(-MARGIN - 1)))
    lost.handed_back(session, [back])
    session.commit()

    assert search.look() == [gone]


def test_a_job_queued_behind_the_probe_is_not_lost(search: Search, line: Line, session: Session) -> None:
    overdue(session)
    search.look()
    arrives(session, line, MARGIN + 1)
    behind = queued(session)
    session.commit()
    search.look()
    assert state_of(session, behind) == Q


def test_another_queues_probe_proves_nothing(search: Search, line: Line, session: Session) -> None:
    mail = overdue(session, queue="mail")
    search.look()
    overdue(session)
    search.look()
    arrives(session, line)
    search.look()
    assert state_of(session, mail) == Q


def test_a_job_lost_again_is_given_twice_the_time(search: Search, line: Line, session: Session) -> None:
    job_id = overdue(session)
    search.look()
    arrives(session, line)
    search.look()
    send(session, job_id)
    pass_seconds(session, job_id, 1.7 * MARGIN, "queued_at")
    session.commit()
    search.look()
    arrives(session, line)
    assert search.look() == []
    pass_seconds(session, job_id, 2 * MARGIN, "queued_at")
    session.commit()
    search.look()
    arrives(session, line)
    assert search.look() == [job_id]


def test_an_attempt_forgets_how_often_its_message_was_lost(session: Session) -> None:
    job_id = queued(session)
    session.execute(update(Job).where(Job.id == job_id).values(losses=7))
    claim(session, job_id)
    assert session.scalars(select(Job.losses)).one() == 0


def test_what_was_sent_again_in_the_meantime_is_left_alone(search: Search, line: Line, session: Session) -> None:
    job_id = queued(session)
    before = session.execute(select(now())).scalar_one()
    lifecycle.requeue_lost(session, [job_id])
    send(session, job_id)
    assert lifecycle.requeue_lost(session, [job_id], before) == 0


# --- a probe that does not come ---------------------------------------------------------------------------


@pytest.mark.usefixtures("idle_for_long")
def test_a_probe_missing_before_idle_workers_is_repeated_and_the_third_sends_all_again(
    search: Search, line: Line, session: Session
) -> None:
    ids = {overdue(session) for _ in range(3)}
    worker(session, [])
    found: list[str] = []
    while not found and len(line.probes) < 9:
        found = search.look()
    assert set(found) == ids
    assert [number for _, number in line.probes] == [1, 2, 3]
    assert probe_of(session).missing == 3


BUSY = {
    "both slots are busy": ([], 2, "default"),
    "a message in hand": (["other"], 0, "default"),
    "not listening": (None, 0, "default"),
    "another queue": ([], 0, "mail"),
}


@pytest.mark.usefixtures("idle_for_long")
@pytest.mark.parametrize("why", BUSY)
def test_a_probe_waits_for_a_worker_that_cannot_take_it(search: Search, line: Line, session: Session, why: str) -> None:
    job_id = overdue(session)
    worker(session, *BUSY[why])
    for _ in range(5):
        search.look()
    assert line.probes == [("default", 1)]
    assert state_of(session, job_id) == Q


def test_a_worker_must_have_been_idle_for_some_seconds(search: Search, line: Line, session: Session) -> None:
    overdue(session)
    worker(session, [])
    for _ in range(5):
        search.look()
    assert line.probes == [("default", 1)]


def test_a_probe_overtaken_by_a_later_job_is_missing(
    search: Search, line: Line, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    overdue(session)
    search.look()
    later = queued(session)
    claim(session, later)
    session.commit()
    search.look()
    assert line.probes == [("default", 1)]
    monkeypatch.setattr(probes, "IDLE_SECONDS", 0.0)
    search.look()
    assert line.probes == [("default", 1), ("default", 2)]
    assert probe_of(session).missing == 1


@pytest.mark.usefixtures("idle_for_long")
def test_a_late_probe_shows_that_the_queue_lets_something_through(search: Search, line: Line, session: Session) -> None:
    job_id = overdue(session)
    worker(session, [])
    while len(line.probes) < 3:
        search.look()
    lost.see(session, "default", 1)
    session.commit()
    search.look()
    assert state_of(session, job_id) == Q
    assert probe_of(session).missing == 1


# --- the broker's own count -------------------------------------------------------------------------------


def test_the_brokers_count_is_kept_while_it_is_away(search: Search, line: Line, session: Session) -> None:
    queued(session, queue="extra")
    session.commit()
    search.count()
    line.trouble = NotConfirmed("away")
    with pytest.raises(NotConfirmed):
        search.count()
    assert probe_of(session).messages == 3
    assert probe_of(session, "extra").messages is None
    assert probe_of(session, "extra").answered_at is not None
