"""What stands at the broker: one topic exchange, the queues, and where dead letters go.

Declared by every worker and relay, so an empty broker needs no preparation; rabbitmq/definitions.json says the
same and a test keeps the two equal. What may change later (limits) is a policy there, never an argument here.
"""

from typing import Any

from kombu import Exchange, Queue

from flaskapp.jobs.models import QUEUES

#: A topic exchange, because a quorum queue on a direct one makes Celery hold ETAs in worker memory.
EXCHANGE = Exchange("offload", type="topic", durable=True)
DEAD_EXCHANGE = Exchange("offload.dead", type="fanout", durable=True)


#: A queue whose name begins so belongs to one drill (flaskapp/drill).
SCRATCH = "verify-"
#: How long a scratch queue outlives its last consumer, should the drill die before it can remove it.
SCRATCH_SECONDS = 600


def queue(name: str) -> Queue:
    """A durable, replicated queue whose rejected messages go to the dead-letter queue."""
    arguments: dict[str, object] = {"x-queue-type": "quorum", "x-dead-letter-exchange": DEAD_EXCHANGE.name}
    if name.startswith(SCRATCH):
        arguments["x-expires"] = 1000 * SCRATCH_SECONDS
    return Queue(name, EXCHANGE, routing_key=name, durable=True, queue_arguments=arguments)


WORK_QUEUES = [queue(name) for name in QUEUES]
DEAD_QUEUE = Queue("offload.dead", DEAD_EXCHANGE, durable=True, queue_arguments={"x-queue-type": "quorum"})


def declare(channel: Any) -> None:
    """Make all of it, or find it there."""
    for each in (*WORK_QUEUES, DEAD_QUEUE):
        each(channel).declare()
