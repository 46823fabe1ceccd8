"""What each broker needs said to it, in one table: from a URL to the options of its transport.

Every option is a time limit or a cure for a trap. Nothing above this page knows which broker it is.
"""

from typing import Any
from urllib.parse import urlsplit

from kombu import Connection
from kombu.transport.virtual import Channel as VirtualChannel

from flaskapp.broker import folder, tolerance

folder.register()
tolerance.install()

#: No answer within this time counts as "the broker is down".
CONNECT_SECONDS = 4
_SOCKET_SECONDS = 4


def options(url: str) -> dict[str, Any]:
    """The `transport_options` for a broker URL."""
    match urlsplit(url).scheme:
        case "amqp" | "amqps":
            # A memory alarm blocks the socket, not the confirm: only these two limits end the wait.
            return {"read_timeout": _SOCKET_SECONDS, "write_timeout": _SOCKET_SECONDS}
        case "redis" | "rediss":
            # A claim acknowledges within moments, so a message unacknowledged for a minute has lost its worker.
            # The sweep runs every interval × throttle; their defaults make that 100 s.
            return {
                "visibility_timeout": 60,
                "unacked_restore_interval": 5,
                "unacked_restore_throttle": 1,
                "socket_connect_timeout": CONNECT_SECONDS,
                "socket_timeout": 30,
            }
        case "sqs":
            host = urlsplit(url).hostname or ""
            secure = host not in ("127.0.0.1", "localhost", "::1")
            return {
                "visibility_timeout": 60,
                "wait_time_seconds": 1,
                "polling_interval": 0.1,
                "is_secure": secure,
                "region": "us-east-1",
            }
        case "zookeeper":
            return {"polling_interval": 0.05}
        case "folder":
            return {"polling_interval": 0.02}
        case _:
            return {"polling_interval": 0.01}


def margin_seconds(url: str) -> float:
    """How long after a later message an earlier one may still arrive: SQS keeps the order only roughly."""
    return 60 if urlsplit(url).scheme == "sqs" else 10


def has_remote_control(url: str) -> bool:
    """Celery's broadcast commands work there; a comfort (`celery inspect`), never relied on."""
    return urlsplit(url).scheme in ("amqp", "amqps", "redis", "rediss", "folder")


def has_dead_letters(url: str) -> bool:
    """It keeps a rejected message in a queue of its own; elsewhere a rejected message is gone."""
    return urlsplit(url).scheme in ("amqp", "amqps")


def connection(url: str) -> Connection:
    """A connection that gives up instead of hanging; the caller closes it."""
    return Connection(url, connect_timeout=CONNECT_SECONDS, transport_options=options(url))


def ready_messages(connection: Connection, queue: str) -> int | None:
    """How many messages wait there, not counting those that a worker holds; None if there is no such queue."""
    try:
        with connection.channel() as channel:
            if isinstance(channel, VirtualChannel):
                # Redis has no empty queues.
                return int(channel._size(queue))
            return int(channel.queue_declare(queue, passive=True).message_count)
    except connection.channel_errors:
        return None


def check(url: str) -> None:
    """Raise whatever the transport raises when the broker does not answer in time."""
    with connection(url) as broker:
        broker.ensure_connection(max_retries=0, timeout=CONNECT_SECONDS)
