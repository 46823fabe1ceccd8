"""RabbitMQ's dead-letter queue becomes rows: every kind of death, whatever a stranger put into the message."""

import struct
import time
from collections.abc import Callable, Iterator
from typing import Any

import pika
import pytest
from kombu import Connection
from pika.spec import BasicProperties
from sqlalchemy import Engine, make_url, select
from sqlalchemy.orm import Session

from flaskapp.broker import topology
from flaskapp.broker.dead_letters import DeadLetters
from flaskapp.broker.publisher import PROBE_HEADER, Publisher
from flaskapp.jobs.models import DeadLetter, JobState
from tests import makers
from tests.gate import gate
from tests.helpers import wait_until
from tests.services import RabbitMQ

Publish = Callable[..., None]


@pytest.fixture
def channel(vhost: str) -> Iterator[Any]:
    """With everything declared, as a relay or a worker does it."""
    Publisher(vhost)._open()
    connection = pika.BlockingConnection(pika.URLParameters(vhost))
    yield connection.channel()
    connection.close()


@pytest.fixture
def consumer(vhost: str, database: str, channel: Any) -> Iterator[DeadLetters]:
    consumer = DeadLetters(make_url(database), vhost)
    consumer.start()
    yield consumer
    consumer.stop()


def found(engine: Engine, count: int = 1) -> list[DeadLetter]:
    def rows() -> list[DeadLetter]:
        with Session(engine) as session:
            return list(session.scalars(select(DeadLetter).order_by(DeadLetter.id)))

    return wait_until(lambda: seen if len(seen := rows()) >= count else [], 15, f"{count} dead letter(s)")


def is_empty(channel: Any, queue: str = topology.DEAD_QUEUE.name) -> bool:
    return channel.queue_declare(queue, passive=True).method.message_count == 0  # type: ignore[no-any-return]


def publish(channel: Any, body: bytes, headers: Any = None, queue: str = "default", **more: Any) -> None:
    channel.basic_publish(topology.EXCHANGE.name, queue, body, BasicProperties(headers=headers, **more))


def reject(channel: Any, queue: str = "default") -> None:
    def take() -> Any:
        return channel.basic_get(queue)[0]

    channel.basic_reject(wait_until(take, 5, "a message").delivery_tag, requeue=False)


def test_a_rejected_message_becomes_a_row_and_leaves_the_queue(
    engine: Engine, channel: Any, consumer: DeadLetters
) -> None:
    publish(channel, b'[["ok"], {}, {}]', {"task": "tests.fate", "id": "one"}, content_type="application/json")
    reject(channel)

    (letter,) = found(engine)

    assert (letter.reason, letter.queue, letter.exchange, letter.routing_key) == (
        "rejected",
        "default",
        "offload",
        "default",
    )
    assert (letter.job_id, letter.task, letter.send, letter.payload) == ("one", "tests.fate", None, b'[["ok"], {}, {}]')
    assert letter.content_type == "application/json"
    wait_until(lambda: is_empty(channel), 5, "the dead-letter queue is empty")


def test_an_expired_message_says_so(engine: Engine, channel: Any, consumer: DeadLetters) -> None:
    publish(channel, b"late", {}, expiration="1")

    assert found(engine)[0].reason == "expired"


def policy(rabbitmq: RabbitMQ, vhost: str, **definition: Any) -> None:
    name = vhost.rpartition("/")[2]
    rabbitmq.api("PUT", f"/policies/{name}/test", {"pattern": "^default$", "definition": definition})


def test_what_does_not_fit_says_so(
    engine: Engine, channel: Any, consumer: DeadLetters, rabbitmq: RabbitMQ, vhost: str
) -> None:
    policy(rabbitmq, vhost, **{"max-length": 1, "overflow": "drop-head"})

    def overflow() -> list[str]:
        publish(channel, b"one of many", {})
        with Session(engine) as session:
            return list(session.scalars(select(DeadLetter.reason)))

    assert set(wait_until(overflow, 20, "the policy holds")) == {"maxlen"}


def test_what_was_delivered_too_often_says_so(
    engine: Engine, channel: Any, consumer: DeadLetters, rabbitmq: RabbitMQ, vhost: str
) -> None:
    policy(rabbitmq, vhost, **{"delivery-limit": 2})
    publish(channel, b"again and again", {})

    def give_back() -> bool:
        method = channel.basic_get("default")[0]
        if method is not None:
            channel.basic_reject(method.delivery_tag, requeue=True)
        with Session(engine) as session:
            return session.scalar(select(DeadLetter.reason)) == "delivery_limit"

    wait_until(give_back, 20, "the limit holds")


def test_a_job_whose_message_died_waits_again(
    engine: Engine, session: Session, channel: Any, consumer: DeadLetters, vhost: str
) -> None:
    job_id = makers.queued(session)
    session.commit()
    with Session(engine) as reading:
        Publisher(vhost).publish([reading.get_one(makers.Job, job_id)])
    reject(channel)

    assert "waits again" in found(engine)[0].detail
    assert makers.state_of(session, job_id) == JobState.WAITING


def key(name: bytes, kind: bytes, value: bytes) -> bytes:
    return bytes([len(name)]) + name + kind + value


def nested(depth: int) -> bytes:
    value = b""
    for _ in range(depth):
        value = b"A" + struct.pack(">I", len(value)) + value
    return key(b"deep", b"", value)


class Raw(BasicProperties):
    """Headers as bytes on the wire, whatever they mean."""

    def __init__(self, headers: bytes) -> None:
        super().__init__()
        self._raw = headers

    def encode(self) -> list[bytes]:
        return [struct.pack(">H", self.FLAG_HEADERS), struct.pack(">I", len(self._raw)) + self._raw]


UNREADABLE = [
    nested(20_000),
    key(b"when", b"T", struct.pack(">Q", 2**60)),
    key(b"when", b"T", struct.pack(">Q", 2**63)),
]
BAD_TEXT = key(b"\xff\xfe", b"S", struct.pack(">I", 2) + b"\xff\xff")


@pytest.mark.parametrize("headers", UNREADABLE)
def test_headers_that_no_library_can_read_are_a_letter(
    engine: Engine, channel: Any, consumer: DeadLetters, headers: bytes
) -> None:
    channel.basic_publish(topology.EXCHANGE.name, "default", b"hostile", Raw(headers))
    reject(channel)
    publish(channel, b"after it", {})
    reject(channel)

    first, second = found(engine, 2)
    assert (first.reason, first.payload, second.payload) == ("malformed", b"hostile", b"after it")
    assert "cannot be read" in first.detail


def test_headers_that_are_no_text_are_kept_escaped(engine: Engine, channel: Any, consumer: DeadLetters) -> None:
    channel.basic_publish(topology.EXCHANGE.name, "default", b"hostile", Raw(BAD_TEXT))
    reject(channel)

    assert r"\\xff\\xfe" in found(engine)[0].headers


def test_a_worker_reads_on_after_headers_that_cannot_be_read(vhost: str, channel: Any) -> None:
    for headers in UNREADABLE:
        channel.basic_publish(topology.EXCHANGE.name, "default", b"hostile", Raw(headers))

    with Connection(vhost) as connection:
        for _ in UNREADABLE:
            message = wait_until(lambda: connection.default_channel.basic_get("default"), 5, "a message")
            assert "offload_unreadable" in message.headers


def test_a_very_large_body_is_cut_and_counted(engine: Engine, channel: Any, consumer: DeadLetters) -> None:
    publish(channel, b"\x80\x04" * 8 * 2**20, {"task": "tests.fate", "id": "large"})
    reject(channel)

    (letter,) = found(engine)
    assert (len(letter.payload), letter.size, letter.reason) == (2**20, 16 * 2**20, "malformed")


def test_a_history_made_up_by_the_sender_is_not_believed(engine: Engine, channel: Any, consumer: DeadLetters) -> None:
    lie = {"queue": "uploads", "reason": "expired", "exchange": "x", "routing-keys": ["y"], "count": -5}
    made_up_ones = ([lie], "x", 7, [], [{"queue": [1]}], {"a": 1})
    for made_up in made_up_ones:
        publish(channel, b"liar", {"x-death": made_up, "x-first-death-reason": ["?"]})
        reject(channel)

    assert {(letter.queue, letter.reason) for letter in found(engine, len(made_up_ones))} == {("default", "malformed")}


def test_two_consumers_write_each_letter_once(
    engine: Engine, channel: Any, consumer: DeadLetters, database: str, vhost: str
) -> None:
    second = DeadLetters(make_url(database), vhost)
    second.start()
    for number in range(40):
        publish(channel, b"%d" % number, {})
        reject(channel)

    bodies = [letter.payload for letter in found(engine, 40)]
    second.stop()
    assert sorted(bodies) == sorted(b"%d" % number for number in range(40))


def test_letters_wait_for_a_broker_that_is_away(engine: Engine, channel: Any, database: str, vhost: str) -> None:
    with gate(vhost) as way:
        consumer = DeadLetters(make_url(database), way.url)
        way.close()
        consumer.start()
        publish(channel, b"patient", {})
        reject(channel)
        way.open()

        assert found(engine)[0].payload == b"patient"
        consumer.stop()


def test_it_stops_within_a_second_also_before_a_frozen_broker(
    engine: Engine, channel: Any, consumer: DeadLetters, rabbitmq: RabbitMQ
) -> None:
    publish(channel, b"before", {})
    reject(channel)
    found(engine)
    thread = consumer._thread
    rabbitmq.freeze()
    try:
        started = time.monotonic()
        consumer.stop(10)
        assert time.monotonic() - started < 2
        assert thread is not None
        assert not thread.is_alive()
    finally:
        rabbitmq.resume()


def test_a_letter_that_cannot_be_committed_stays_at_the_broker(
    engine: Engine, channel: Any, consumer: DeadLetters, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sqlalchemy.exc import OperationalError

    from flaskapp.jobs import letters

    def away(*_: Any) -> bool:
        raise OperationalError("INSERT", {}, Exception("the server closed the connection"))

    with monkeypatch.context() as patch:
        patch.setattr(letters, "record", away)
        publish(channel, b"kept", {})
        reject(channel)
        time.sleep(0.5)
        consumer.stop(5)
    wait_until(lambda: not is_empty(channel), 5, "it is back in the queue")
    consumer.start()

    assert [letter.payload for letter in found(engine)] == [b"kept"]


def test_a_letter_that_no_row_can_hold_is_written_as_far_as_it_can_be(
    engine: Engine, channel: Any, consumer: DeadLetters, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sqlalchemy.exc import DataError

    from flaskapp.jobs import letters

    real = letters._write

    def refuse(session: Any, letter: letters.Letter) -> bool:
        if letter.task is not None:
            raise DataError("INSERT", {}, Exception("value too long"))
        return real(session, letter)

    monkeypatch.setattr(letters, "_write", refuse)
    publish(channel, b"odd", {"task": "tests.fate", "id": "x"})
    reject(channel)

    (letter,) = found(engine)
    assert (letter.reason, letter.payload) == ("malformed", b"odd")
    assert "value too long" in letter.detail


def test_a_probe_that_dies_is_no_letter(engine: Engine, channel: Any, consumer: DeadLetters) -> None:
    publish(channel, b"{}", {PROBE_HEADER: 7})
    reject(channel)
    publish(channel, b"null", {"task": "tests.fate", "id": "strange"})
    reject(channel)

    assert [letter.job_id for letter in found(engine)] == ["strange"]
