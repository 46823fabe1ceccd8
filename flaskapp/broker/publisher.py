"""Sending jobs to the broker: persistent, mandatory, confirmed, in bounded time.

`publish` answers which messages the broker has taken over; for the others nothing is known, and they will be
sent again. A duplicate is harmless: the claim refuses it.
"""

import logging
import struct
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from kombu import Connection, Producer
from kombu.exceptions import OperationalError
from kombu.transport.virtual import Channel as VirtualChannel
from kombu.utils.json import dumps, loads

from flaskapp.broker import topology, transports
from flaskapp.errors import NotConfirmed
from flaskapp.jobs.models import Job

logger = logging.getLogger(__name__)

#: The header that carries the number of the sending; only our own messages have it.
SEND_HEADER = "offload_send"
#: The header that says how often the job has lost its process: a worker starts such a job with more care.
CRASHES_HEADER = "offload_crashes"
#: The header of a probe: its number, and nothing else to do than to notice it.
PROBE_HEADER = "offload_probe"
CONFIRM_SECONDS = 5
_WRITE_BYTES = 65_536


class Publisher:
    """One connection that publishes; reopened after any trouble. For one thread."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._connection: Connection | None = None
        self._producer: Producer | None = None
        self._confirms: Confirms | None = None
        self._declared: set[str] = set()
        #: Of the last publish: what the broker would not take although it was there.
        self.refused: set[str] = set()

    def publish(self, jobs: Sequence[Job]) -> set[str]:
        """Send them all and answer the ids that the broker confirmed; raises NotConfirmed if it is away.

        What it will not take at all (too large, an id too long for AMQP) stands in `refused` afterwards.
        """
        self.refused = set()
        try:
            return self._publish(jobs)
        except self._troubles() as trouble:
            self.close()
            if len(jobs) > 1 and not isinstance(trouble, TimeoutError):
                return self._publish_apart(jobs)
            raise self._not_confirmed(len(jobs), trouble) from trouble

    def publish_probe(self, queue: str, number: int) -> bool:
        """Send a numbered probe through a queue; True once the broker confirmed it, NotConfirmed if it is away."""
        try:
            producer = self._open()
            if self._confirms is None:
                return self._is_wanted(producer.channel, queue) and self._put(producer, queue, *_probe(queue, number))
            self._confirms.expect(queue)
            self._put(producer, queue, *_probe(queue, number))
            return queue in self._wait(self._confirms)
        except self._troubles() as trouble:
            self.close()
            raise self._not_confirmed(1, trouble) from trouble

    def count_messages(self, queues: Sequence[str]) -> dict[str, int | None]:
        """How many messages each queue has ready, as far as the broker can tell; raises NotConfirmed if it is away."""
        try:
            connection = self._open().connection
            return {queue: transports.ready_messages(connection, queue) for queue in queues}
        except self._troubles() as trouble:
            self.close()
            raise NotConfirmed(f"The broker does not answer: {trouble or type(trouble).__name__}.") from trouble

    def _publish_apart(self, jobs: Sequence[Job]) -> set[str]:
        """One of them may have cost us the connection: find it, so that it does not hold up the others."""
        confirmed: set[str] = set()
        for job in jobs:
            try:
                self._open()
                confirmed |= self._publish_alone(job)
            except self._troubles() as trouble:
                self.close()
                if confirmed:
                    return confirmed
                raise self._not_confirmed(len(jobs), trouble) from trouble
        return confirmed

    def _publish_alone(self, job: Job) -> set[str]:
        try:
            return self._publish([job])
        except TimeoutError:
            raise
        except self._troubles() as trouble:
            self.close()
            self.refused.add(job.id)
            logger.error("job=%s the broker refuses its message: %s", job.id, trouble)
            return set()

    def _not_confirmed(self, count: int, trouble: BaseException) -> NotConfirmed:
        return NotConfirmed(
            f"The broker did not take {count} message(s): {trouble or type(trouble).__name__}. "
            "They stay waiting and will be sent again."
        )

    def close(self) -> None:
        """Drop the connection without waiting for a broker that may be frozen."""
        if self._connection is not None:
            self._connection.collect(socket_timeout=2)
        self._connection = self._producer = self._confirms = None
        self._declared.clear()

    def _publish(self, jobs: Sequence[Job]) -> set[str]:
        producer = self._open()
        if self._confirms is None:
            return {
                job.id for job in jobs if self._is_wanted(producer.channel, job.queue) and self._send(producer, job)
            }
        with _gathered(producer.connection):
            for job in jobs:
                self._confirms.expect(job.id)
                self._send(producer, job)
        return self._wait(self._confirms)

    def _wait(self, confirms: "Confirms") -> set[str]:
        confirmed = confirms.wait(CONFIRM_SECONDS)
        if confirms.unwanted & {queue.name for queue in topology.WORK_QUEUES}:
            # One of our own queues is gone (deleted, the broker's data lost): the next sending declares it again.
            self.close()
        return confirmed

    def _open(self) -> Producer:
        if self._producer is None:
            self._connection = transports.connection(self.url)
            self._connection.ensure_connection(max_retries=0, timeout=transports.CONNECT_SECONDS)
            channel = self._connection.default_channel
            topology.declare(channel)
            self._producer = Producer(channel, exchange=topology.EXCHANGE, auto_declare=False)
            self._confirms = None if isinstance(channel, VirtualChannel) else Confirms(self._connection, channel)
        return self._producer

    def _is_wanted(self, channel: Any, queue: str) -> bool:
        """Kombu's own transports drop a message that no queue wants, and say nothing."""
        if queue not in self._declared and not channel.typeof(topology.EXCHANGE.name).lookup(
            channel.get_table(topology.EXCHANGE.name), topology.EXCHANGE.name, queue, None
        ):
            logger.error("No queue accepts routing key %r; correct it, or start a worker with -Q %s", queue, queue)
            return False
        self._declared.add(queue)
        return True

    def _send(self, producer: Producer, job: Job) -> bool:
        return self._put(producer, job.queue, f"[{job.args}, {job.kwargs}, {embed(job)}]", headers(job), job.id)

    def _put(self, producer: Producer, queue: str, body: str, headers: dict[str, Any], correlation_id: str) -> bool:
        producer.publish(
            body,
            routing_key=queue,
            content_type="application/json",
            content_encoding="utf-8",
            headers=headers,
            correlation_id=correlation_id,
            delivery_mode=2,
            mandatory=True,
            retry=False,
        )
        return True

    def _troubles(self) -> tuple[type[BaseException], ...]:
        # Kombu words a refused connection in its own way; py-amqp packs a text that is too long until it breaks.
        known: tuple[type[BaseException], ...] = (OSError, OperationalError, struct.error)
        if self._connection is not None:
            known += self._connection.connection_errors + self._connection.channel_errors
        return known


class Confirms:
    """Counts a RabbitMQ channel's confirms and returns: many messages travel at once, none is believed too early."""

    def __init__(self, connection: Connection, channel: Any) -> None:
        self._connection = connection
        self._pending: dict[int, str] = {}
        self._confirmed: set[str] = set()
        self._returned: set[str] = set()
        #: Of the last wait: routing keys that no queue accepted.
        self.unwanted: set[str] = set()
        self._number = 0
        channel.confirm_select()
        channel.events["basic_ack"].add(self._on_ack)
        channel.events["basic_nack"].add(self._on_nack)
        # RabbitMQ confirms a message that no queue wants; `mandatory` makes it come back first.
        channel.events["basic_return"].add(self._on_return)

    def expect(self, job_id: str) -> None:
        self._number += 1
        self._pending[self._number] = job_id

    def wait(self, seconds: float) -> set[str]:
        """The ids confirmed within `seconds`; raises TimeoutError when the broker leaves any open."""
        deadline = time.monotonic() + seconds
        self.unwanted = set()
        while self._pending:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError(f"no confirm for {len(self._pending)} message(s) within {seconds} s")
            self._connection.drain_events(timeout=left)
        confirmed, self._confirmed = self._confirmed - self._returned, set()
        self._returned = set()
        return confirmed

    def _on_ack(self, delivery_tag: int, multiple: bool) -> None:
        self._confirmed.update(self._take(delivery_tag, multiple))

    def _on_nack(self, delivery_tag: int, multiple: bool = False, *_: object) -> None:
        refused = self._take(delivery_tag, multiple)
        logger.warning("The broker refused %d message(s); they stay waiting and will be sent again", len(refused))

    def _on_return(self, _why: Exception, _exchange: str, routing_key: str, message: Any) -> None:
        self._returned.add(message.properties["correlation_id"])
        self.unwanted.add(routing_key)
        logger.error("No queue accepts routing key %r; load rabbitmq/definitions.json or correct it", routing_key)

    def _take(self, delivery_tag: int, multiple: bool) -> list[str]:
        tags = [tag for tag in self._pending if tag <= delivery_tag] if multiple else [delivery_tag]
        return [self._pending.pop(tag) for tag in tags if tag in self._pending]


@contextmanager
def _gathered(connection: Connection) -> Iterator[None]:
    """Let the frames of many messages leave in few writes: one each costs a system call, and wakes the broker up.

    If one of them cannot be written at all, what is still gathered never leaves: it is not confirmed, and sent again.
    """
    transport = connection.connection.transport
    write, frames = transport._write, bytearray()

    def gather(frame: bytes) -> None:
        frames.extend(frame)
        if len(frames) > _WRITE_BYTES:
            write(frames)
            frames.clear()

    transport._write = gather
    try:
        yield
    finally:
        transport._write = write
    transport.write(frames)


def _probe(queue: str, number: int) -> tuple[str, dict[str, Any], str]:
    """Body, headers and correlation id: no task, so whoever does not know it cannot take it for one."""
    return "{}", {PROBE_HEADER: number}, queue


def headers(job: Job) -> dict[str, Any]:
    """Celery's message protocol 2 (docs.celeryq.dev, "Message Protocol"); due times and expiry stay in SQL."""
    theirs = loads(job.options).get("headers", {})
    return {
        "shadow": None,
        "group": job.group_id,
        "group_index": None,
        "replaced_task_nesting": 0,
        "stamped_headers": None,
        "stamps": {},
        **{name: value for name, value in theirs.items() if not name.startswith("offload_")},
        # What the row says goes before a caller's `headers`: under another id this job would never run.
        "lang": "py",
        "task": job.task,
        "id": job.id,
        "eta": None,
        "expires": None,
        "retries": job.retries,
        "timelimit": [job.time_limit, job.soft_time_limit],
        "root_id": job.root_id or job.id,
        "parent_id": job.parent_id,
        "argsrepr": "",
        "kwargsrepr": "",
        "origin": "offload",
        "ignore_result": False,
        SEND_HEADER: job.sends,
        CRASHES_HEADER: job.crashes,
    }


def embed(job: Job) -> str:
    nothing = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
    return str(dumps({**nothing, **loads(job.options).get("embed", {})}))
