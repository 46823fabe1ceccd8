"""A drill's own queue at the broker: made like every other, removed at the end.

Should the drill die, RabbitMQ and Redis let the queue expire; what is left elsewhere goes with the next drill.
"""

import secrets
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

from kombu import Connection
from kombu.transport.native_delayed_delivery import CELERY_DELAYED_DELIVERY_EXCHANGE
from kombu.transport.virtual import Channel as VirtualChannel
from sqlalchemy import select
from sqlalchemy.orm import Session

from flaskapp.broker import topology, transports
from flaskapp.jobs import lifecycle
from flaskapp.jobs.models import Job, Probe

_STAMP = "%Y%m%d%H%M%S"
#: No drill lasts so long: its queue and its jobs belong to one that died.
ABANDONED = timedelta(hours=1)


def new_name() -> str:
    return f"{topology.SCRATCH}{datetime.now(UTC):{_STAMP}}-{secrets.token_hex(2)}"


def make(broker_url: str, name: str) -> None:
    """Declare it; raises what the transport raises when the broker is away."""
    with transports.connection(broker_url) as connection:
        connection.ensure_connection(max_retries=0, timeout=transports.CONNECT_SECONDS)
        topology.queue(name)(connection.default_channel).declare()


def remove(broker_url: str, *names: str) -> None:
    """Delete them, with whatever messages are left."""
    with transports.connection(broker_url) as connection:
        connection.ensure_connection(max_retries=0, timeout=transports.CONNECT_SECONDS)
        for name in names:
            queue = topology.queue(name)(connection.default_channel)
            # Kombu's own transports forget only bindings that this connection has made itself.
            queue.declare()
            queue.delete()
            _unbind_delayed(connection, name)


def _unbind_delayed(connection: Connection, name: str) -> None:
    """Celery's worker binds our exchange to that of its delayed delivery, once for every quorum queue it consumes."""
    if isinstance(connection.default_channel, VirtualChannel):
        return
    with suppress(*connection.channel_errors):
        connection.channel().exchange_unbind(
            topology.EXCHANGE.name, source=CELERY_DELAYED_DELIVERY_EXCHANGE, routing_key=f"#.{name}"
        )


def remove_abandoned(session: Session, broker_url: str) -> list[str]:
    """Cancel the jobs and delete the queues of drills that died; answers the queues' names."""
    live = select(Job.id, Job.queue).where(
        Job.queue.startswith(topology.SCRATCH), Job.state.in_(sorted(lifecycle.LIVE_STATES))
    )
    left = [(row.id, row.queue) for row in session.execute(live) if _is_abandoned(row.queue)]
    for job_id, _queue in left:
        lifecycle.cancel(session, job_id, by="a later drill")
    probes = session.scalars(select(Probe).where(Probe.queue.startswith(topology.SCRATCH))).all()
    for probe in filter(lambda probe: _is_abandoned(probe.queue), probes):
        session.delete(probe)
    session.commit()
    names = {queue for _id, queue in left} | {name for name in _bound(broker_url) if _is_abandoned(name)}
    if names:
        remove(broker_url, *sorted(names))
    return sorted(names)


def _bound(broker_url: str) -> list[str]:
    """The scratch queues that one of Kombu's own transports still knows; RabbitMQ forgets them by itself."""
    with transports.connection(broker_url) as connection:
        channel: Any = connection.default_channel
        if not isinstance(channel, VirtualChannel):
            return []
        topology.WORK_QUEUES[0](channel).declare()
        return [queue for _key, _pattern, queue in channel.get_table(topology.EXCHANGE.name) if _is_scratch(queue)]


def _is_scratch(name: str) -> bool:
    return name.startswith(topology.SCRATCH)


def _is_abandoned(name: str) -> bool:
    stamp = name.removeprefix(topology.SCRATCH).partition("-")[0]
    try:
        begun = datetime.strptime(stamp, _STAMP).replace(tzinfo=UTC)
    except ValueError:
        return False
    return datetime.now(UTC) - begun > ABANDONED
