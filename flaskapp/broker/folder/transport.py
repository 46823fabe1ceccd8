"""The connection to a folder: where it is, how to wait for its messages, and who looks after the dead.

Promises: a full prefetch costs no pause; what a dead process held is back, as redelivered, within seconds.
A worker drains it from its event loop, so its pool is the one that RabbitMQ's workers have: the other kind shares
one pipe and its locks among all children, and a child killed at the wrong moment leaves a lock taken for ever.
"""

import os
import threading
import time
from queue import Empty
from typing import Any

from kombu.transport import virtual

from flaskapp.broker.folder.channel import Channel
from flaskapp.broker.folder.exchanges import Exchanges
from flaskapp.broker.folder.queues import Queues

SHORTEST_PAUSE = 0.001
SECONDS_BETWEEN_ROUNDS = 2.0
#: So many messages at most before the event loop turns to something else.
AT_ONCE = 100


class Transport(virtual.Transport):
    Channel = Channel
    cycle: Any  # takes one message from the next channel that has one
    _callbacks: dict[str, Any]  # by queue: what this connection consumes
    driver_type = driver_name = "folder"
    default_connection_params: Any = {}  # noqa: RUF012 - Kombu's word for "none"
    polling_interval = 0.02
    # A full or unreadable disk is a broker that is away: publishers are told, workers connect again.
    connection_errors = (*virtual.Transport.connection_errors, OSError)
    implements = virtual.Transport.implements.extend(
        asynchronous=True, exchange_type=frozenset(["direct", "topic", "fanout"])
    )

    def __init__(self, client: Any, **kwargs: Any) -> None:
        super().__init__(client, **kwargs)
        self.root = path_of(client)
        self.queues = Queues(self.root, fsync=client.transport_options.get("fsync", False))
        self.exchanges = Exchanges(self.root)
        self.slot_freed = threading.Event()
        self._next_round = 0.0
        self._loop: Any = None
        self._will_look = False

    def establish_connection(self) -> Any:
        os.makedirs(self.root, mode=0o700, exist_ok=True)
        return super().establish_connection()

    def driver_version(self) -> str:
        return "1"

    def drain_events(self, connection: Any, timeout: float | None = None, **kwargs: Any) -> None:
        """Deliver one message. Pauses grow while none comes, and end at once when an ack frees a slot."""
        end = time.monotonic() + (float("inf") if timeout is None else timeout)
        pause = min(SHORTEST_PAUSE, self.polling_interval)
        while not self._deliver_one():
            left = end - time.monotonic()
            if left <= 0:
                raise TimeoutError
            self.slot_freed.wait(min(pause, left))
            pause = min(2 * pause, self.polling_interval)

    def register_with_event_loop(self, connection: Any, loop: Any) -> None:
        """Look for messages every `polling_interval`, and at once when an ack frees a slot."""
        self._loop = loop
        loop.call_repeatedly(self.polling_interval, self._deliver_some)

    def free_slot(self) -> None:
        """An ack or a reject made room for another message; may be called by any thread."""
        self.slot_freed.set()
        if self._loop is not None and not self._will_look:
            self._will_look = True
            self._loop.call_soon(self._deliver_some)

    def _deliver_some(self) -> None:
        self._will_look = False
        for _ in range(AT_ONCE):
            if not self._deliver_one():
                return

    def _deliver_one(self) -> bool:
        self._look_after_the_dead()
        self.slot_freed.clear()  # before looking: an ack from now on ends the next pause
        if all(map(self.queues.is_quiet, tuple(self._callbacks))):  # much cheaper than Kombu's round
            return False
        try:
            self.cycle.get(self._deliver)
        except Empty:
            return False
        return True

    def _look_after_the_dead(self) -> None:
        if time.monotonic() < self._next_round:
            return
        self._next_round = time.monotonic() + SECONDS_BETWEEN_ROUNDS
        self.queues.return_claims_of_the_dead()
        for queue in self.queues.orphans():
            self.exchanges.forget_queue(queue)
            self.queues.delete(queue)


def path_of(client: Any) -> str:
    """Kombu has cut off the first slash of the URL's path and decoded its percent signs."""
    path = (client.virtual_host or "").strip("/")
    if client.hostname not in (None, "", "localhost") or not path:
        raise ValueError(
            "The folder broker needs an absolute path after three slashes, as in "
            f"folder:///var/lib/offload/broker, and not {client.hostname or ''}/{path}."
        )
    return f"/{path}"
