"""What leaves for a real RabbitMQ: persistent, mandatory, confirmed, in Celery's own form; and what never arrives."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pika
import pytest

from flaskapp.broker import topology
from flaskapp.broker.publisher import PROBE_HEADER, SEND_HEADER, Publisher
from flaskapp.broker.tolerance import UNREADABLE
from flaskapp.errors import NotConfirmed
from flaskapp.jobs.models import Job
from tests.gate import gate
from tests.helpers import wait_until
from tests.services import RabbitMQ, Redis
from tests.services.processes import free_port


def job(number: int = 1, **values: Any) -> Job:
    given = {"id": f"job-{number}", "task": "tests.fate", "queue": "default", "args": '["ok", 1]', "kwargs": "{}"}
    return Job(**{**given, "options": "{}", "sends": 1, "retries": 0, **values})


@pytest.fixture
def publisher(vhost: str) -> Iterator[Publisher]:
    publisher = Publisher(vhost)
    yield publisher
    publisher.close()


@pytest.fixture
def channel(vhost: str) -> Iterator[Any]:
    connection = pika.BlockingConnection(pika.URLParameters(vhost))
    yield connection.channel()
    connection.close()


def get(channel: Any, queue: str = "default") -> tuple[Any, Any, bytes]:
    return wait_until(lambda: _one(channel, queue), 5, f"a message in {queue}")


def _one(channel: Any, queue: str) -> Any:
    answer = channel.basic_get(queue, auto_ack=True)
    return answer if answer[0] is not None else None


def test_a_message_is_persistent_json_in_celerys_form(publisher: Publisher, channel: Any) -> None:
    options = json.dumps({"headers": {"group": "g"}, "embed": {"chain": [1]}})
    one = job(sends=3, retries=2, options=options, root_id="root", parent_id="parent", time_limit=9.0)
    assert publisher.publish([one]) == {"job-1"}

    method, properties, body = get(channel)

    assert method.exchange == "offload"
    assert (method.routing_key, properties.delivery_mode, properties.correlation_id) == ("default", 2, "job-1")
    assert (properties.content_type, properties.content_encoding) == ("application/json", "utf-8")
    headers = properties.headers
    assert (headers["task"], headers["id"], headers["retries"], headers[SEND_HEADER]) == ("tests.fate", "job-1", 2, 3)
    assert (headers["root_id"], headers["parent_id"], headers["group"]) == ("root", "parent", "g")
    assert headers["timelimit"] == [9.0, None]
    assert (headers["eta"], headers["expires"]) == (None, None)
    args, kwargs, embed = json.loads(body)
    assert (args, kwargs, embed["chain"], embed["errbacks"]) == (["ok", 1], {}, [1], None)


def test_a_callers_headers_travel_but_do_not_say_whose_message_it_is(publisher: Publisher, channel: Any) -> None:
    theirs = {"trace": "t", "id": "another", "task": "tests.other", "retries": 9}
    theirs |= {SEND_HEADER: 77, PROBE_HEADER: 5, UNREADABLE: "no"}
    publisher.publish([job(options=json.dumps({"headers": theirs}))])

    headers = get(channel)[1].headers

    assert (headers["trace"], headers["id"], headers["task"], headers["retries"]) == ("t", "job-1", "tests.fate", 0)
    assert headers[SEND_HEADER] != 77
    assert not {PROBE_HEADER, UNREADABLE}.intersection(headers)


def test_each_queue_gets_its_own(publisher: Publisher, channel: Any) -> None:
    names = [queue.name for queue in topology.WORK_QUEUES]

    confirmed = publisher.publish([job(number, queue=name) for number, name in enumerate(names)])

    assert len(confirmed) == len(names)
    for number, name in enumerate(names):
        assert get(channel, name)[1].correlation_id == f"job-{number}"


def test_an_empty_broker_is_given_its_topology(publisher: Publisher, channel: Any) -> None:
    publisher.publish([job()])

    for queue in (*topology.WORK_QUEUES, topology.DEAD_QUEUE):
        channel.queue_declare(queue.name, passive=True)
    channel.exchange_declare("offload.dead", passive=True)


def test_a_rejected_message_becomes_a_dead_letter(publisher: Publisher, channel: Any) -> None:
    publisher.publish([job()])
    method, _, _ = wait_until(lambda: _held(channel), 5, "the message")

    channel.basic_reject(method.delivery_tag, requeue=False)

    assert get(channel, "offload.dead")[1].correlation_id == "job-1"


def _held(channel: Any) -> Any:
    answer = channel.basic_get("default")
    return answer if answer[0] is not None else None


def test_a_message_that_no_queue_wants_is_not_confirmed(publisher: Publisher) -> None:
    confirmed = publisher.publish([job(1), job(2, queue="nowhere"), job(3)])

    assert confirmed == {"job-1", "job-3"}
    assert publisher.publish([job(4)]) == {"job-4"}


def test_a_thousand_messages_are_confirmed_in_one_go(publisher: Publisher) -> None:
    assert len(publisher.publish([job(number) for number in range(1000)])) == 1000


def test_arguments_travel_as_they_are(publisher: Publisher, channel: Any) -> None:
    text = 'é 🦊 \\u0000 " \n' + "x" * 200_000
    publisher.publish([job(args=json.dumps([text]), kwargs=json.dumps({"k": [None, 1.5]}))])

    args, kwargs, _ = json.loads(get(channel)[2])

    assert (args, kwargs) == ([text], {"k": [None, 1.5]})


def test_nobody_listening_is_said_in_a_sentence(publisher: Publisher) -> None:
    absent = Publisher(f"amqp://guest:guest@127.0.0.1:{free_port()}//")

    with pytest.raises(NotConfirmed, match="did not take 1 message"):
        absent.publish([job()])


def test_a_refused_password_is_said_in_a_sentence(rabbitmq: RabbitMQ) -> None:
    with pytest.raises(NotConfirmed):
        Publisher(f"amqp://offload:wrong@127.0.0.1:{rabbitmq.port}//").publish([job()])


def test_a_broker_that_went_and_came_is_used_again(vhost: str) -> None:
    with gate(vhost) as way:
        publisher = Publisher(way.url)
        publisher.publish([job(1)])
        way.close()
        for number in (2, 3):
            with pytest.raises(NotConfirmed):
                publisher.publish([job(number)])
        way.open()

        assert publisher.publish([job(4)]) == {"job-4"}
        publisher.close()


def test_a_frozen_broker_costs_seconds_not_for_ever(publisher: Publisher, rabbitmq: RabbitMQ) -> None:
    publisher.publish([job(1)])
    rabbitmq.freeze()
    started = time.monotonic()
    try:
        with pytest.raises(NotConfirmed):
            publisher.publish([job(2)])
    finally:
        rabbitmq.resume()

    assert time.monotonic() - started < 15
    wait_until(rabbitmq._is_ready, 10, "the broker answers again")


def test_a_message_that_the_broker_refuses_does_not_hold_up_the_others(publisher: Publisher) -> None:
    # AMQP takes 255 bytes; an id may have 155 characters.
    poison = job(2, id="é" * 155)
    assert publisher.publish([job(1), poison, job(3)]) == {job(1).id, job(3).id}
    assert publisher.refused == {poison.id}


def test_a_queue_that_was_deleted_is_made_again(publisher: Publisher, channel: Any) -> None:
    publisher.publish([job(1)])
    channel.queue_delete("default")

    assert publisher.publish([job(2)]) == set()
    assert publisher.publish([job(2)]) == {"job-2"}


def test_an_exchange_that_was_deleted_is_made_again(publisher: Publisher, channel: Any) -> None:
    publisher.publish([job(1)])
    channel.exchange_delete("offload")

    assert publisher.publish([job(2), job(3)]) == {"job-2", "job-3"}


def test_a_probe_travels_through_its_queue_and_names_no_task(publisher: Publisher, channel: Any) -> None:
    publisher.publish([job(1)])
    assert publisher.publish_probe("default", 7)

    assert get(channel)[1].correlation_id == "job-1"
    headers = get(channel)[1].headers
    assert headers[PROBE_HEADER] == 7
    assert "task" not in headers


def test_a_probe_that_no_queue_wants_is_not_sent(publisher: Publisher) -> None:
    assert not publisher.publish_probe("nowhere", 7)


def test_messages_are_counted_where_there_is_a_queue(publisher: Publisher) -> None:
    publisher.publish([job(1), job(2)])
    wait_until(lambda: publisher.count_messages(["default"]) == {"default": 2}, 5, "both are counted")
    assert publisher.count_messages(["nowhere", "mail"]) == {"nowhere": None, "mail": 0}
    assert publisher.publish([job(3)]) == {"job-3"}


def test_an_empty_queue_of_another_broker_has_no_messages(redis: Redis, tmp_path: Path) -> None:
    for url in (redis.url, f"folder://{tmp_path}/broker"):
        other = Publisher(url)
        assert other.count_messages(["mail"]) == {"mail": 0}
        other.publish([job(1, queue="mail")])
        assert other.count_messages(["mail"]) == {"mail": 1}
        other.close()
