"""Queues that somebody names with `-Q` or `apply_async(queue=…)`: made like our own, bound to the one exchange.

Celery would bind each to an exchange of its own, where the outbox publishes nothing.
"""

from celery.app.amqp import AMQP, Queues
from kombu import Queue

from flaskapp.broker import topology


class JobQueues(Queues):
    def new_missing(self, name: str) -> Queue:
        return topology.queue(name)


class JobAMQP(AMQP):
    queues_cls = JobQueues
