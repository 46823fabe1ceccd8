"""rabbitmq/definitions.json and flaskapp/broker/topology.py say the same."""

import json
from pathlib import Path

from kombu import Exchange, Queue

from flaskapp.broker import topology

DEFINITIONS = json.loads((Path(__file__).parents[2] / "rabbitmq" / "definitions.json").read_text())
QUEUES: list[Queue] = [*topology.WORK_QUEUES, topology.DEAD_QUEUE]
EXCHANGES: list[Exchange] = [topology.EXCHANGE, topology.DEAD_EXCHANGE]


def test_the_definitions_hold_the_same_exchanges() -> None:
    assert {(e["name"], e["type"], e["durable"]) for e in DEFINITIONS["exchanges"]} == {
        (exchange.name, exchange.type, exchange.durable) for exchange in EXCHANGES
    }


def test_the_definitions_hold_the_same_queues_with_the_same_arguments() -> None:
    assert {q["name"]: q["arguments"] for q in DEFINITIONS["queues"]} == {
        queue.name: queue.queue_arguments for queue in QUEUES
    }


def test_the_definitions_bind_the_queues_in_the_same_way() -> None:
    assert {(b["source"], b["destination"], b["routing_key"]) for b in DEFINITIONS["bindings"]} == {
        (queue.exchange.name, queue.name, queue.routing_key) for queue in QUEUES
    }


def test_no_account_comes_with_a_password() -> None:
    assert {user["password_hash"] for user in DEFINITIONS["users"]} == {""}


def test_the_account_for_looking_may_touch_nothing() -> None:
    (rights,) = [p for p in DEFINITIONS["permissions"] if p["user"] == "offload-monitoring"]
    assert (rights["configure"], rights["write"], rights["read"]) == ("^$", "^$", "^$")


def test_a_delivery_limit_of_at_least_twenty_comes_from_a_policy() -> None:
    (policy,) = [p for p in DEFINITIONS["policies"] if p["name"] == "offload-work"]
    assert policy["definition"]["delivery-limit"] >= 20
