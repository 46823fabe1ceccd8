"""The embedded broker: a Kombu transport whose messages are files, `folder:///absolute/path`.

Promises: many processes and threads publish and consume at once; no message is lost or read half written.
Does not serve several machines or containers: the processes that share a folder must see each other's pids.

What lies in the folder (every step of a message is one rename, so every step has one winner):

    queues/QUEUE/writing/OWNER~NAME    being written
    queues/QUEUE/ready/NAME            waiting; names sort by priority, then age
    queues/QUEUE/claimed/OWNER~NAME    held by a process; back to ready when that process is gone
    queues/QUEUE/declarers/OWNER       only for queues that die with the processes that declared them
    exchanges/EXCHANGE.json            its type and its bindings
    bad/OWNER~NAME                     what could not be read, kept for a person to look at

Transport options: `polling_interval`, the longest pause in seconds (0.02); `fsync`, False unless asked for.
"""

from kombu.transport import TRANSPORT_ALIASES

from flaskapp.broker.folder.channel import Channel
from flaskapp.broker.folder.transport import Transport

__all__ = ["Channel", "Transport", "register"]


def register() -> None:
    """Make Kombu understand `folder://` URLs."""
    TRANSPORT_ALIASES["folder"] = "flaskapp.broker.folder:Transport"
