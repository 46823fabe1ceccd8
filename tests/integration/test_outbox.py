"""From committed rows to messages: what is sent, what rests, and what two relays or a death in the middle change."""

import threading
from pathlib import Path
from typing import Any

import pytest
from kombu import Connection
from sqlalchemy import Engine, insert, select
from sqlalchemy.orm import Session

from flaskapp.broker import outbox, transports
from flaskapp.broker.outbox import Relay, send_due
from flaskapp.broker.publisher import SEND_HEADER, Publisher
from flaskapp.errors import NotConfirmed
from flaskapp.jobs import control, lifecycle
from flaskapp.jobs.limits import Rule
from flaskapp.jobs.models import Job, JobState, Queue
from flaskapp.jobs.outcomes import Hint
from tests.gate import gate
from tests.helpers import wait_until
from tests.makers import WORKER, pass_seconds, row_of, state_of, waiting

W, Q, R = JobState.WAITING, JobState.QUEUED, JobState.RUNNING


def committed(engine: Engine, count: int = 1, **wish: Any) -> list[str]:
    with Session(engine) as session, session.begin():
        return [waiting(session, **wish) for _ in range(count)]


def states(engine: Engine) -> set[str]:
    with Session(engine) as session:
        return set(session.scalars(select(Job.state)))


def rest_is_over(engine: Engine, job_id: str) -> None:
    with Session(engine) as session, session.begin():
        pass_seconds(session, job_id, 1, "sending_until")


@pytest.fixture
def folder_url(tmp_path: Path) -> str:
    return f"folder://{tmp_path}/broker"


@pytest.fixture(params=["folder", "rabbitmq"])
def broker(request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue("folder_url" if request.param == "folder" else "vhost"))


def messages(url: str, queue: str = "default") -> list[dict[str, Any]]:
    """Take all that is there; answers each one's headers."""
    found: list[dict[str, Any]] = []
    with Connection(url, transport_options=transports.options(url)) as connection:
        channel = connection.default_channel

        def take() -> bool:
            while (message := channel.basic_get(queue, no_ack=True)) is not None:
                found.append(dict(message.headers))
            return bool(found)

        wait_until(take, 5, "a message")
        take()
    return found


class Publishing:
    """Stands for the publisher, and does to each batch what the test wants."""

    refused: set[str] = set()  # noqa: RUF012 -- never changed

    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.batches: list[list[str]] = []

    def publish(self, jobs: list[Job]) -> set[str]:
        self.batches.append([job.id for job in jobs])
        answer = self.answer(self.batches[-1])
        if isinstance(answer, BaseException):
            raise answer
        return answer  # type: ignore[no-any-return]


# --- sending ----------------------------------------------------------------------------------------------


def test_what_is_due_is_sent_and_queued(engine: Engine, broker: str) -> None:
    ids = committed(engine, 3)
    publisher = Publisher(broker)

    assert send_due(engine, publisher) == 3
    assert send_due(engine, publisher) == 0
    publisher.close()

    assert states(engine) == {Q}
    assert sorted(headers["id"] for headers in messages(broker)) == sorted(ids)


def test_an_empty_outbox_does_not_even_connect(engine: Engine) -> None:
    assert send_due(engine, Publishing(lambda batch: set(batch))) == 0  # type: ignore[arg-type]


def test_a_job_for_later_stays(engine: Engine) -> None:
    committed(engine, delay_seconds=60)
    publishing = Publishing(lambda batch: set(batch))

    assert send_due(engine, publishing) == 0  # type: ignore[arg-type]
    assert states(engine) == {W}


def test_what_no_queue_wants_stays_waiting_and_the_rest_goes(engine: Engine, vhost: str) -> None:
    (good,), (bad,) = committed(engine), committed(engine, queue="nowhere")
    publisher = Publisher(vhost)

    send_due(engine, publisher)
    publisher.close()

    with Session(engine) as session:
        assert (state_of(session, good), state_of(session, bad)) == (Q, W)


def test_a_paused_queue_keeps_its_jobs(engine: Engine) -> None:
    (paused,), (other,) = committed(engine, queue="mail"), committed(engine)
    with Session(engine) as session, session.begin():
        session.execute(insert(Queue).values(name="query"))
        control.pause_queue(session, "mail")
    publishing = Publishing(lambda batch: set(batch))

    send_due(engine, publishing)  # type: ignore[arg-type]
    with Session(engine) as session, session.begin():
        control.resume_queue(session, "mail")
    send_due(engine, publishing)  # type: ignore[arg-type]

    assert publishing.batches == [[other], [paused]]


# --- a broker that is away --------------------------------------------------------------------------------


def test_a_broker_that_is_down_leaves_jobs_waiting_and_rested(engine: Engine) -> None:
    (job_id,) = committed(engine)
    away = Publishing(lambda batch: NotConfirmed("away"))

    with pytest.raises(NotConfirmed):
        send_due(engine, away)  # type: ignore[arg-type]

    assert states(engine) == {W}
    assert send_due(engine, away) == 0  # type: ignore[arg-type]
    rest_is_over(engine, job_id)
    assert send_due(engine, Publishing(lambda batch: set(batch))) == 1  # type: ignore[arg-type]
    assert states(engine) == {Q}


def test_a_relay_sends_later_what_a_broker_that_was_down_did_not_take(engine: Engine, vhost: str) -> None:
    with gate(vhost) as way:
        way.close()
        relay = Relay(engine.url, way.url)
        (job_id,) = committed(engine)
        relay.nudge()
        wait_until(lambda: tried(engine, job_id), 15, "the relay has tried")
        assert states(engine) == {W}
        way.open()
        wait_until(lambda: states(engine) == {Q}, 15, "the job is queued")
        relay.stop()

    assert [headers["id"] for headers in messages(vhost)] == [job_id]


def tried(engine: Engine, job_id: str) -> bool:
    with Session(engine) as session:
        return bool(row_of(session, job_id)["sends"])


# --- dying in the middle ----------------------------------------------------------------------------------


def test_dying_before_the_confirm_is_marked_sends_again_and_the_duplicate_is_refused(
    engine: Engine, broker: str
) -> None:
    (job_id,) = committed(engine)
    publisher = Publisher(broker)
    # A relay takes and publishes, and is killed before it can mark.
    with Session(engine, expire_on_commit=False) as session, session.begin():
        batch = lifecycle.take_to_send(session, "the dead relay", 10, 30)
    publisher.publish(batch)

    assert send_due(engine, publisher) == 0
    rest_is_over(engine, job_id)
    assert send_due(engine, publisher) == 1
    publisher.close()

    numbers = [headers[SEND_HEADER] for headers in messages(broker)]
    assert sorted(numbers) == [1, 2]
    with Session(engine) as session, session.begin():
        claims = [lifecycle.claim(session, [Hint(job_id, number)], WORKER) for number in (1, 2)]
        assert [len(claimed) for claimed in claims] == [0, 1]


def test_dying_before_the_message_is_sent_loses_nothing(engine: Engine) -> None:
    (job_id,) = committed(engine)
    with Session(engine) as session, session.begin():
        lifecycle.take_to_send(session, "the dead relay", 10, 30)

    rest_is_over(engine, job_id)

    assert send_due(engine, Publishing(lambda batch: set(batch))) == 1  # type: ignore[arg-type]


def test_the_relay_that_comes_too_late_marks_nothing(engine: Engine) -> None:
    (job_id,) = committed(engine)
    with Session(engine) as session, session.begin():
        lifecycle.take_to_send(session, "slow", 10, 30)
    rest_is_over(engine, job_id)
    with Session(engine) as session, session.begin():
        lifecycle.take_to_send(session, "quick", 10, 30)
        assert lifecycle.mark_queued(session, "slow", [job_id]) == 0
        assert lifecycle.release_unsent(session, "slow", [job_id], 60) == 0
        assert lifecycle.mark_queued(session, "quick", [job_id]) == 1


# --- two relays -------------------------------------------------------------------------------------------


def test_two_relays_send_each_job_once(engine: Engine) -> None:
    ids = committed(engine, 120)
    start = threading.Barrier(2)
    publishings = [Publishing(lambda batch: set(batch)) for _ in range(2)]

    def run(publishing: Publishing) -> None:
        start.wait(10)
        while send_due(engine, publishing, limit=10):  # type: ignore[arg-type]
            pass

    threads = [threading.Thread(target=run, args=(publishing,)) for publishing in publishings]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    sent = [job_id for publishing in publishings for batch in publishing.batches for job_id in batch]
    assert sorted(sent) == sorted(ids)
    assert states(engine) == {Q}


# --- the thread -------------------------------------------------------------------------------------------


def test_a_nudge_wakes_the_relay(engine: Engine, folder_url: str) -> None:
    relay = Relay(engine.url, folder_url)
    try:
        for _ in range(3):
            committed(engine)
            relay.nudge()
            wait_until(lambda: states(engine) == {Q}, 10, "the job is queued")
    finally:
        relay.stop()


def test_a_polling_relay_needs_no_nudge(engine: Engine, folder_url: str) -> None:
    relay = Relay(engine.url, folder_url, poll_seconds=0.1)
    relay.start()
    try:
        committed(engine, delay_seconds=0.3)
        wait_until(lambda: states(engine) == {Q}, 10, "the job is queued")
    finally:
        relay.stop()


def test_a_relay_that_refuses_one_batch_goes_on(
    engine: Engine, folder_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusals = [NotConfirmed("busy")]
    publish = Publisher.publish

    def moody(self: Publisher, jobs: Any) -> set[str]:
        if refusals:
            raise refusals.pop()
        return publish(self, jobs)

    monkeypatch.setattr(outbox.Publisher, "publish", moody)
    relay = Relay(engine.url, folder_url)
    try:
        committed(engine)
        relay.nudge()
        wait_until(lambda: states(engine) == {Q}, 15, "the job is queued")
    finally:
        relay.stop()


def test_a_relay_that_polls_looks_again_when_a_rate_leaves_room(engine: Engine, folder_url: str) -> None:
    with Session(engine) as session, session.begin():
        control.set_limit(session, "customer", Rule(rate_count=1, rate_seconds=5))
        assert lifecycle.claim(session, [Hint(waiting(session, limit_key="customer"))], WORKER)
        waiting(session, limit_key="customer")
    polling, nudged = (Relay(engine.url, folder_url, poll_seconds) for poll_seconds in (60, None))

    assert 2 < (polling._until_next_look(engine) or 0) < 5.1
    assert nudged._until_next_look(engine) is None
