"""What nobody can run, before real workers on both stacks: a row each, and whoever works goes on working."""

from typing import Any

import pytest
from kombu import Connection, Producer
from sqlalchemy import select

from flaskapp.broker import topology, transports
from flaskapp.jobs.models import DeadLetter, JobState
from tests.acceptance.conftest import Stack
from tests.helpers import wait_until

FATE = {"task": "tests.fate"}
GOOD = '[["ok"], {}, {}]'
HISTORY = {"queue": "default", "reason": "rejected", "count": "many"}
#: Body, headers, and the reason that the letter gives.
STRANGE: list[tuple[Any, dict[str, Any], str]] = [
    ("null", FATE, "malformed"),
    ("{", FATE, "malformed"),
    ("[" * 100_000 + "]" * 100_000, FATE, "malformed"),
    (b"\x80\x04\x95\x0f\x00\x00\x00pickled", FATE, "malformed"),
    ('[["ok"], {}, [1]]', FATE, "malformed"),
    (GOOD, {**FATE, "id": "x" * 156}, "malformed"),
    (GOOD, {**FATE, "id": ["a"], "offload_send": 1}, "malformed"),
    (GOOD, {"task": ["tests.fate"]}, "malformed"),
    (GOOD, {"task": "nobody.knows"}, "unknown task"),
    (GOOD, {**FATE, "id": "pruned", "offload_send": 1}, "no job"),
    ("not for anybody", {"id": None, "x-death": [7]}, "malformed"),
    ("not for anybody", {"id": None, "x-death": [HISTORY]}, "malformed"),
    ("not for anybody", {"id": None, "x-death": "yesterday"}, "malformed"),
]


def send(stack: Stack, body: Any, headers: dict[str, Any], **content: Any) -> None:
    url = stack.environment["BROKER_URL"]
    with Connection(url, transport_options=transports.options(url)) as connection:
        producer = Producer(connection.default_channel, exchange=topology.EXCHANGE, auto_declare=False)
        content = {"content_type": "application/json", "content_encoding": "utf-8", **content}
        producer.publish(body, routing_key="default", headers=headers, **content)


def letters(stack: Stack) -> list[DeadLetter]:
    with stack.bench.session() as session:
        return list(session.scalars(select(DeadLetter).order_by(DeadLetter.id)))


@pytest.mark.parametrize(("body", "headers", "reason"), STRANGE)
def test_what_nobody_can_run_is_a_letter(calm: Stack, body: Any, headers: dict[str, Any], reason: str) -> None:
    before = len(letters(calm))
    send(calm, body, {"id": "strange", **headers})

    wait_until(lambda: len(letters(calm)) > before, 20, "there is a letter")

    assert [letter.reason for letter in letters(calm)[before:]] == [reason]
    assert calm.bench.finished([calm.bench.fate("ok")])[0].state == JobState.SUCCEEDED


def test_a_pickle_is_a_letter_and_is_not_opened(calm: Stack) -> None:
    before = len(letters(calm))
    send(calm, b"cos\nsystem\n(S'true'\ntR.", {**FATE, "id": "p"}, content_type="application/x-python-serialize")

    wait_until(lambda: len(letters(calm)) > before, 20, "there is a letter")

    assert letters(calm)[before].payload == b"cos\nsystem\n(S'true'\ntR."


@pytest.mark.parametrize("stack", ["PostgreSQL and RabbitMQ"], indirect=True)
def test_without_a_beat_a_worker_fetches_the_dead_letters(stack: Stack) -> None:
    stack.start_worker()
    send(stack, "null", {"id": "strange", **FATE})

    wait_until(lambda: letters(stack), 45, "there is a letter")

    assert letters(stack)[0].reason == "malformed"
