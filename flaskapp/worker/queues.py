"""What Celery makes of a queue that it is only given the name of: `worker -Q reports`, `apply_async(queue="reports")`.

Celery's own answer is a queue on an exchange of its own, where the outbox, which publishes to ours, never reaches it.
"""

from typing import Any

from celery.app.amqp import AMQP, Queues

from flaskapp.broker import topology


class JobQueues(Queues):
    def new_missing(self, name: str) -> Any:
        return topology.queue(name)


class JobAMQP(AMQP):
    queues_cls = JobQueues
