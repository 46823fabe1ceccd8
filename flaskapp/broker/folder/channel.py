"""Kombu's verbs on the folder's queues and exchanges.

Promises: acks and rejects may come from any thread; what cannot be read is set aside and harms no consumer.
Does not use Kombu's table of bindings in memory: the files are the only truth.
"""

import logging
from collections.abc import Callable
from queue import Empty
from typing import Any

from kombu.exceptions import ChannelError
from kombu.transport import virtual
from kombu.utils.json import dumps, loads

from flaskapp.broker.folder.queues import was_delivered_before

log = logging.getLogger(__name__)

DAMAGED = ValueError, RecursionError, KeyError, TypeError, AttributeError, IsADirectoryError, PermissionError


class QoS(virtual.QoS):
    """Counts what a channel holds. The delivery tag is the claimed file: to settle needs no shared memory."""

    channel: "Channel"

    def ack(self, delivery_tag: str) -> None:
        super().ack(delivery_tag)
        self.channel.queues.settle(delivery_tag)
        self.channel.free_slot()

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        # Off the books first: once the file is back, it may be claimed again under this same tag.
        super().ack(delivery_tag)
        if requeue:
            self.channel.queues.give_back(delivery_tag)
        else:
            self.channel.queues.settle(delivery_tag)
        self.channel.free_slot()


class Channel(virtual.Channel):
    QoS = QoS
    supports_fanout = True

    def __init__(self, connection: Any, **kwargs: Any) -> None:
        super().__init__(connection, **kwargs)
        self.queues = connection.queues
        self.exchanges = connection.exchanges
        self.free_slot = connection.free_slot

    def basic_publish(self, message: Any, exchange: str, routing_key: str, **kwargs: Any) -> None:
        if kwargs.pop("mandatory", False) and not self._lookup(exchange, routing_key):
            raise refusal(312, f"NO_ROUTE: no queue of exchange {exchange!r} takes the key {routing_key!r}")
        super().basic_publish(message, exchange, routing_key, **kwargs)

    def _put(self, queue: str, message: Any, **kwargs: Any) -> None:
        urgency = self._get_message_priority(message, reverse=True)
        self.queues.put(queue, dumps(message).encode(), urgency)

    def _put_fanout(self, exchange: str, message: Any, routing_key: str, **kwargs: Any) -> None:
        for _, _, queue in self.get_table(exchange):
            self._put(queue, message)

    def basic_consume(self, queue: str, no_ack: bool, callback: Any, *args: Any, **kwargs: Any) -> Any:
        consumer = self._settling_first(callback) if no_ack else callback
        return super().basic_consume(queue, no_ack, consumer, *args, **kwargs)

    def basic_get(self, queue: str, no_ack: bool = False, **kwargs: Any) -> Any:
        message: Any = super().basic_get(queue, no_ack=no_ack, **kwargs)
        if message and no_ack:
            self.queues.settle(message.delivery_tag)
        return message

    def _settling_first(self, callback: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def consumer(message: Any) -> Any:
            self.queues.settle(message.delivery_tag)
            return callback(message)

        return consumer

    def _get(self, queue: str, timeout: float | None = None) -> Any:
        while claim := self.queues.claim(queue):
            try:
                return self._open(claim)
            except FileNotFoundError:
                continue  # the queue was deleted in this very moment
            except DAMAGED as error:
                kept = self.queues.set_aside(claim)
                log.error("A message of queue %s cannot be read (%r). It is kept as %s", queue, error, kept)
            except OSError:
                self.queues.give_back(claim)
                raise
        raise Empty

    def _open(self, claim: str) -> Any:
        message = loads(self.queues.read(claim))
        properties = message["properties"]
        properties["delivery_tag"] = claim
        properties["delivery_info"]["redelivered"] = was_delivered_before(claim)
        self.Message(message, channel=self)  # a damaged body must show here, not inside a consumer
        return message

    def _restore(self, message: Any) -> None:
        self.queues.give_back(message.delivery_tag)

    def _new_queue(self, queue: str, **kwargs: Any) -> None:
        self.queues.create(queue, mortal=bool(kwargs.get("exclusive") or kwargs.get("auto_delete")))

    def _has_queue(self, queue: str, **kwargs: Any) -> bool:
        return bool(self.queues.exists(queue))

    def _size(self, queue: str) -> int:
        return int(self.queues.ready_count(queue))

    def claimed_count(self, queue: str) -> int:
        return int(self.queues.claimed_count(queue))

    def _purge(self, queue: str) -> int:
        return int(self.queues.purge(queue))

    def queue_delete(self, queue: str, if_unused: bool = False, if_empty: bool = False, **kwargs: Any) -> None:
        if not (if_empty and self._size(queue)):
            self.exchanges.forget_queue(queue)
            self.queues.delete(queue)

    def exchange_declare(
        self, exchange: str | None = None, type: str | None = "direct", *args: Any, **kwargs: Any
    ) -> None:
        kind = type or "direct"
        name = exchange or f"amq.{kind}"
        known_kind = self.exchanges.find(name).get("type")
        if kwargs.get("passive") and not known_kind:
            raise refusal(404, f"NOT_FOUND: nobody has declared exchange {name!r}")
        if known_kind not in (None, kind):
            raise refusal(406, f"PRECONDITION_FAILED: exchange {name!r} exists as {known_kind}, not {kind}")
        self.exchanges.declare(name, kind)

    def exchange_delete(self, exchange: str, if_unused: bool = False, nowait: bool = False) -> None:
        self.exchanges.empty(exchange)

    def queue_bind(
        self, queue: str, exchange: str | None = None, routing_key: str = "", arguments: Any = None, **_: Any
    ) -> None:
        self.exchanges.bind(exchange or "amq.direct", self._binding(queue, exchange, routing_key, arguments))

    def queue_unbind(
        self, queue: str, exchange: str | None = None, routing_key: str = "", arguments: Any = None, **_: Any
    ) -> None:
        self.exchanges.unbind(exchange or "amq.direct", self._binding(queue, exchange, routing_key, arguments))

    def _binding(self, queue: str, exchange: str | None, routing_key: str, arguments: Any) -> Any:
        return self.typeof(exchange or "amq.direct").prepare_bind(queue, exchange, routing_key, arguments)

    def typeof(self, exchange: str, default: str = "direct") -> Any:
        return self.exchange_types[self.exchanges.find(exchange).get("type", default)]

    def get_table(self, exchange: str) -> Any:
        return self.exchanges.find(exchange)["bindings"]

    def get_exchanges(self) -> list[str]:
        return list(self.exchanges.names())

    def list_bindings(self) -> Any:
        for exchange in self.get_exchanges():
            yield from ((queue, exchange, routing_key) for routing_key, _, queue in self.get_table(exchange))


def refusal(code: int, reason: str) -> ChannelError:
    return ChannelError(reason, (60, 40), "folder", code)
