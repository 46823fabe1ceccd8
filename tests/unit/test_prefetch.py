"""How many messages a worker fetches ahead."""

import threading
import time
from types import SimpleNamespace
from typing import Any

import pytest

from flaskapp.worker.consumer import JobConsumer
from flaskapp.worker.prefetch import FEW, MANY, NONE, Prefetch
from tests.helpers import Bench


def after(*jobs: float) -> Prefetch:
    """The prefetch of two slots after jobs that took so many seconds."""
    prefetch = Prefetch(2)
    for seconds in jobs:
        prefetch.follow(seconds)
    return prefetch


SHORT = [0.001] * 30


@pytest.mark.parametrize(
    ("jobs", "each"),
    [
        ([], NONE),
        ([0.001], FEW),
        (SHORT, MANY),
        ([*SHORT, 0.05], MANY),
        ([*SHORT, 0.5], FEW),
        ([0.05], FEW),
        ([2.0], NONE),
        ([*SHORT, 2.0], NONE),
        ([2.0, 0.5], FEW),
        ([2.0, 0.05], FEW),
    ],
)
def test_the_shorter_jobs_are_the_more_is_fetched_ahead(jobs: list[float], each: int) -> None:
    assert after(*jobs).each == each


@pytest.mark.parametrize(
    ("free_slots", "waited", "goes_back"), [(0, 60, True), (-1, 60, True), (0, 0, False), (1, 60, False)]
)
def test_what_found_no_free_slot_for_long_is_kept_from_others(free_slots: int, waited: float, goes_back: bool) -> None:
    prefetch = after(*SHORT)

    assert prefetch.is_kept_from_others(time.monotonic() - waited, free_slots) == goes_back
    assert prefetch.each == (NONE if goes_back else MANY)


def test_after_messages_went_back_many_are_fetched_only_once_the_long_jobs_are_history() -> None:
    prefetch = after(*SHORT)
    assert prefetch.is_kept_from_others(time.monotonic() - 60, 0)

    levels = []
    for _ in range(2000):
        prefetch.follow(0.001)
        levels.append(prefetch.each)

    assert levels == [FEW] * 1999 + [MANY]


class Broker:
    """Celery's consumer, as far as the limit is concerned; `says` is what the broker heard."""

    def __init__(self, qos_global: bool) -> None:
        self.says: list[Any] = []
        self.qos_global = qos_global
        self.qos = SimpleNamespace(value=0, update=lambda: self.says.append(self.qos.value))
        self.task_consumer = SimpleNamespace(
            queues=[SimpleNamespace(name=name) for name in "abc"],
            cancel=lambda: self.says.append("cancel"),
            consume=lambda: self.says.append("consume"),
        )

    @property
    def order(self) -> str:
        return "".join(queue.name for queue in self.task_consumer.queues)


def test_a_worker_without_a_free_slot_does_not_consume_until_there_is_one() -> None:
    prefetch, broker = after(2.0), Broker(qos_global=True)

    for room in (0, 0, 1, 2, 0):
        prefetch.tell(broker, lambda room=room: room)

    assert broker.says == ["cancel", "cancel", 1, "consume", 2, "cancel"]


def test_what_arrives_until_the_old_consumer_is_cancelled_is_not_fetched_again() -> None:
    prefetch, broker = after(2.0), Broker(qos_global=False)
    room = iter([1, 0])

    prefetch.tell(broker, lambda: next(room))

    assert broker.says == ["cancel"]


def test_the_queue_that_was_served_last_comes_last() -> None:
    """RabbitMQ sends from the first queue first: it alone would be served while it has long jobs."""
    prefetch, broker = after(2.0), Broker(qos_global=False)
    orders = []

    for queue in "aaba":
        prefetch.serve(queue)
        prefetch.tell(broker, lambda: 0)
        prefetch.tell(broker, lambda: 1)
        orders.append(broker.order)

    assert orders == ["bca", "bca", "cab", "cba"]


@pytest.mark.parametrize(("room", "says"), [(0, ["cancel"]), (1, ["cancel", 1, "consume"])])
def test_who_was_made_to_consume_without_a_free_slot_stops_as_its_messages_go_back(room: int, says: list[Any]) -> None:
    """Celery's `add_consumer` consumes from all queues."""
    prefetch, broker = after(2.0), Broker(qos_global=True)
    prefetch.tell(broker, lambda: 0)
    broker.says.clear()

    assert prefetch.is_kept_from_others(time.monotonic() - 60, 0)
    prefetch.tell(broker, lambda: room)

    assert broker.says == says


def test_rabbitmqs_quorum_queues_learn_a_limit_from_a_new_consumer() -> None:
    prefetch, broker = after(*SHORT), Broker(qos_global=False)

    prefetch.tell(broker, lambda: 2)

    assert broker.says == ["cancel", 2 * MANY, "consume"]


def test_the_broker_is_told_once() -> None:
    prefetch, broker = after(*SHORT), Broker(qos_global=False)
    prefetch.tell(broker, lambda: 2)
    known = len(broker.says)
    prefetch.follow(0.001)

    assert not prefetch.is_news(1)
    prefetch.tell(broker, lambda: 1)
    assert len(broker.says) == known


def test_the_broker_is_told_again_if_there_was_no_connection() -> None:
    prefetch, broker = after(*SHORT), Broker(qos_global=False)
    consumer, broker.task_consumer = broker.task_consumer, None

    prefetch.tell(broker, lambda: 2)
    assert (prefetch.is_news(2), broker.says) == (True, [])
    broker.task_consumer = consumer
    prefetch.tell(broker, lambda: 2)
    assert not prefetch.is_news(2)


def test_a_new_connection_begins_with_one_for_each_slot() -> None:
    prefetch = after(*SHORT)
    prefetch.tell(Broker(qos_global=False), lambda: 2)

    prefetch.reset()

    assert (prefetch.each, prefetch.is_news(2), prefetch.is_news(0)) == (NONE, False, True)


def test_celery_moves_no_limit_behind_ours_after_a_lost_connection(bench: Bench) -> None:
    """It would, as each message is answered, if this were left to its default."""
    qos = SimpleNamespace(value=0, _mutex=threading.Lock(), set=lambda limit: None)
    consumer: Any = SimpleNamespace(
        app=bench.celery, qos=qos, max_prefetch_count=2, _new_prefetch_count=2, _maximum_prefetch_restored=False
    )

    JobConsumer._restore_prefetch_count_after_connection_restart(consumer, None)

    assert qos.value == 0
