"""A server may go on with a question that was stopped: some of its functions never look whether they are still wanted.

Nothing but their own end ends them. So nobody asks meanwhile, and it stays one process of the server that is busy
with it. MariaDB tells the account for questions itself, in child/mariadb.py; PostgreSQL is asked here.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa
from sqlalchemy import Engine

#: What was stopped is usually gone in a moment.
WAIT_SECONDS = 8.0
SENTENCE = (
    "The database still works on an earlier question that was stopped (its process {}), and cannot be made to end it. "
    "Until it does, nobody can ask."
)
_CLASS = 0x0FF10AE
_CONNECTIONS = sa.text(
    "SELECT pid FROM pg_stat_activity WHERE usename = :name AND state IS DISTINCT FROM 'idle' AND NOT EXISTS ("
    "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND granted AND classid = :class AND objid = pid::bigint)"
)


@contextmanager
def asked(engine: Engine, connection_id: int) -> Iterator[None]:
    """While somebody waits for that connection's answer. A lock, for whoever is killed lets go of it."""
    if engine.dialect.name != "postgresql":
        yield
        return
    lock = {"class": _CLASS, "id": connection_id}
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(sa.text("SELECT pg_advisory_lock(:class, :id)"), lock)
        try:
            yield
        finally:
            connection.execute(sa.text("SELECT pg_advisory_unlock(:class, :id)"), lock)


def wait(engine: Engine, name: str) -> int | None:
    """Until the account works on nothing that nobody waits for; answers a connection that stays."""
    ends = time.monotonic() + WAIT_SECONDS
    stayed = _unasked(engine, name)
    while stayed and time.monotonic() < ends:
        time.sleep(0.2)
        stayed &= _unasked(engine, name)
    return min(stayed, default=None)


def _unasked(engine: Engine, name: str) -> set[int]:
    with engine.connect() as connection:
        return set(connection.scalars(_CONNECTIONS, {"name": name, "class": _CLASS}))
