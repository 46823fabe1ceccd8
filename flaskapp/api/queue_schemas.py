"""The shapes of queues as JSON Schema: SQL's figures, and RabbitMQ's own beside them."""

from flaskapp.api.schemas import MOMENT, NUMBER, TEXT, WHOLE, Schema, list_of, maybe, record, ref

_rate = {"anyOf": [ref("Rate"), {"type": "null"}]}
_queue_at_broker = {"anyOf": [ref("QueueAtBroker"), {"type": "null"}]}

QUEUE_SCHEMAS: dict[str, Schema] = {
    "Queue": record(
        {
            "name": TEXT,
            "waiting": WHOLE,
            "queued": WHOLE,
            "running": WHOLE,
            "oldest_run_at": maybe(MOMENT),
            "paused_at": maybe(MOMENT),
            "draining_at": maybe(MOMENT),
            "drained": {"type": "boolean", "description": "Draining, and nothing is queued or running any more."},
            "ended_last_minute": WHOLE,
            "max_running": maybe(WHOLE),
            "rate": _rate,
            "broker": _queue_at_broker,
        }
    ),
    "QueueAtBroker": record(
        {
            "ready": maybe(WHOLE),
            "unacked": maybe(WHOLE),
            "consumers": maybe(WHOLE),
            "state": maybe(TEXT),
            "kind": maybe(TEXT),
            "publish_per_second": maybe(NUMBER),
            "ack_per_second": maybe(NUMBER),
        }
    ),
    "NodeOfBroker": record(
        {
            "name": TEXT,
            "is_running": {"type": "boolean"},
            "memory_alarm": {"type": "boolean"},
            "disk_alarm": {"type": "boolean"},
            **{name: maybe(WHOLE) for name in ("memory_used", "memory_limit", "disk_free", "disk_limit")},
        }
    ),
    "BrokerView": record(
        {
            "version": maybe(TEXT),
            "read_at": maybe(MOMENT),
            "age_seconds": {**maybe(NUMBER), "description": "How old all of the broker's figures are."},
            "trouble": {**maybe(TEXT), "description": "Why nothing newer could be had."},
            "alarms": {"type": "array", "items": TEXT},
            "nodes": {**list_of("NodeOfBroker"), "type": ["array", "null"]},
            "dead_letters": _queue_at_broker,
        }
    ),
    "Queues": record(
        {
            "items": list_of("Queue"),
            "broker": {
                "anyOf": [ref("BrokerView"), {"type": "null"}],
                "description": "RabbitMQ's own view; null without RABBITMQ_MANAGEMENT_URL.",
            },
        }
    ),
}
