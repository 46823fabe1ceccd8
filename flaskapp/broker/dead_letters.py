"""RabbitMQ's dead-letter queue becomes rows: a thread that takes each letter, commits it, and acknowledges.

If we die before the acknowledgement the broker delivers the letter again, marked so, and its row is found. Any
number may run at once. No broker that is away or frozen holds it for more than seconds.
"""

import logging
import ssl
import threading
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pika
import pika.exceptions
from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from flaskapp.broker import tolerance, topology, transports
from flaskapp.broker.letters import died, letter_of, looked_at
from flaskapp.broker.publisher import PROBE_HEADER
from flaskapp.extensions import control_engine, core_session
from flaskapp.jobs import letters, unknown

logger = logging.getLogger(__name__)
# It tells of each step of each connection, as news.
logging.getLogger("pika").setLevel(logging.WARNING)

_SOCKET_SECONDS = 4
_HEARTBEAT_SECONDS = 10
#: Each may be as large as the broker allows.
_PREFETCH = 4
_LOOK_EVERY = 0.4
_GOODBYE_SECONDS = 0.5
_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.5, 5.0


class DeadLetters:
    """Starts and stops; between them it reconnects by itself, for as long as it takes."""

    def __init__(self, database_url: Any, broker_url: str) -> None:
        self._database_url = database_url
        self._broker_url = broker_url
        self._end = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Does nothing where the broker keeps no dead letters: there the worker writes them down itself."""
        if self._thread is None and transports.has_dead_letters(self._broker_url):
            self._end = threading.Event()
            self._thread = threading.Thread(target=self._run, args=(self._end,), name="dead letters", daemon=True)
            self._thread.start()

    def stop(self, seconds: float = 1) -> None:
        self._end.set()
        if self._thread is not None:
            self._thread.join(seconds)
            self._thread = None

    def _run(self, end: threading.Event) -> None:
        engine = control_engine(self._database_url)
        pause = _SHORTEST_PAUSE
        while not end.is_set():
            try:
                # Without a database there is nothing to take them for, and each return counts as a delivery.
                _ask(engine)
                self._consume(engine, end)
                pause = _SHORTEST_PAUSE
            except Exception as trouble:
                # Whatever it is, this thread must live: without it letters pile up unseen.
                known = isinstance(trouble, pika.exceptions.AMQPError | OSError | DBAPIError | PoolTimeout)
                logger.log(
                    logging.WARNING if known else logging.ERROR,
                    "Dead letters rest for %.1f s: %r",
                    pause,
                    trouble,
                    exc_info=not known,
                )
                end.wait(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
        engine.dispose()

    def _consume(self, engine: Engine, end: threading.Event) -> None:
        connection = pika.BlockingConnection(parameters(self._broker_url))
        try:
            channel = connection.channel()
            _declare(channel)
            channel.basic_qos(prefetch_count=_PREFETCH)
            for method, properties, body in channel.consume(topology.DEAD_QUEUE.name, inactivity_timeout=_LOOK_EVERY):
                if method is not None and not _kept(engine, connection, end, method, properties, body):
                    return
                if method is not None:
                    # If we die here its row is found when it comes again.
                    channel.basic_ack(method.delivery_tag)
                if end.is_set():
                    return
        finally:
            _leave(connection)


def _leave(connection: Any) -> None:
    """Say good-bye, and wait a moment for the answer: a frozen broker gives none. What we hold goes back to it."""
    stream = connection._impl
    stream.ioloop.call_later(_GOODBYE_SECONDS, lambda: stream._terminate_stream(TimeoutError("no answer to close")))
    with suppress(pika.exceptions.AMQPError, TimeoutError):
        connection.close()


def parameters(url: str) -> pika.ConnectionParameters:
    """What Kombu reads from the URL, with every wait bounded."""
    broker = transports.connection(url)
    secure = ssl.create_default_context() if broker.transport_cls == "amqps" or url.startswith("amqps:") else None
    return pika.ConnectionParameters(
        host=broker.hostname or "localhost",
        port=broker.port or (5671 if secure else 5672),
        virtual_host=broker.virtual_host or "/",
        credentials=pika.PlainCredentials(broker.userid or "guest", broker.password or "guest"),
        ssl_options=None if secure is None else pika.SSLOptions(secure, broker.hostname),
        connection_attempts=1,
        socket_timeout=_SOCKET_SECONDS,
        stack_timeout=2 * _SOCKET_SECONDS,
        blocked_connection_timeout=_HEARTBEAT_SECONDS,
        heartbeat=_HEARTBEAT_SECONDS,
    )


def _declare(channel: Any) -> None:
    exchange, queue = topology.DEAD_EXCHANGE, topology.DEAD_QUEUE
    channel.exchange_declare(exchange.name, exchange.type, durable=True)
    channel.queue_declare(queue.name, durable=True, arguments=queue.queue_arguments)
    channel.queue_bind(queue.name, exchange.name)


def _ask(engine: Engine) -> None:
    with engine.connect() as database:
        database.execute(text("SELECT 1"))


def _kept(engine: Engine, connection: Any, end: threading.Event, method: Any, properties: Any, body: bytes) -> bool:
    """Commit the letter's row, however long the database is away; False if we were asked to stop meanwhile."""
    pause = _SHORTEST_PAUSE
    letter = _read(method, properties, body)
    while not end.is_set():
        try:
            _write(engine, letter)
            return True
        except (DBAPIError, PoolTimeout) as trouble:
            logger.warning("The database does not answer; a dead letter is tried again in %.1f s: %s", pause, trouble)
        connection.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE)
    return False


def _read(method: Any, properties: Any, body: bytes) -> letters.Letter:
    letter = letter_of(
        properties.headers,
        body,
        properties.content_type,
        reason=letters.REJECTED,
        exchange=str(method.exchange),
        routing_key=str(method.routing_key),
        redelivered=bool(method.redelivered),
    )
    if tolerance.UNREADABLE in letter.headers:
        return replace(letter, reason=letters.MALFORMED, detail=letter.headers[tolerance.UNREADABLE])
    return died(letter)


def _write(engine: Engine, letter: letters.Letter) -> None:
    if PROBE_HEADER in letter.headers:
        # A probe that nobody wanted: the next one is on its way, and there is nothing to tell a person.
        return
    with core_session(engine) as session, session.begin():
        new = letters.record(session, looked_at(letter, unknown.known_tasks(session)))
    if new:
        logger.warning("A dead letter from %s: %s (job=%s)", letter.queue, letter.reason, letter.job_id)
