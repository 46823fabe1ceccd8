"""Stock Celery as its documentation sets it up for durability: quorum queue, confirms, late acknowledgement."""

import os

from celery import Celery
from kombu import Queue

app = Celery("stock", broker=os.environ["STOCK_BROKER"], backend=f"db+{os.environ['STOCK_DATABASE']}")
app.conf.update(
    task_queues=[Queue("celery", queue_arguments={"x-queue-type": "quorum"})],
    broker_transport_options={"confirm_publish": True},
    task_acks_late=True,
)


@app.task(name="noop")
def noop(value: int) -> int:
    return value
