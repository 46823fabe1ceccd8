"""A server may go on with a question that was stopped: some of its functions never look whether they are still wanted.

Nothing but their own end ends them. So nobody asks meanwhile, and it stays one process of the server that is busy
with it. MariaDB tells the account for questions itself, in child/mariadb.py; PostgreSQL is asked here.
"""

import time

import sqlalchemy as sa
from sqlalchemy import Engine

from flaskapp.query.models import QueryPass

#: What was stopped is usually gone in a moment; a connection that has just come gets its pass in one.
WAIT_SECONDS = 8.0
SENTENCE = (
    "The database still works on an earlier question that was stopped (its process {}), and cannot be made to end it. "
    "Until it does, nobody can ask."
)
_CONNECTIONS = sa.text("SELECT pid FROM pg_stat_activity WHERE usename = :name")


def wait(engine: Engine, name: str) -> int | None:
    """Until every connection of the account has a pass; answers one that stays without."""
    ends = time.monotonic() + WAIT_SECONDS
    stayed = _without_pass(engine, name)
    while stayed and time.monotonic() < ends:
        time.sleep(0.2)
        stayed &= _without_pass(engine, name)
    return min(stayed, default=None)


def _without_pass(engine: Engine, name: str) -> set[int]:
    with engine.connect() as connection:
        there = set(connection.scalars(_CONNECTIONS, {"name": name}))
        return there - set(connection.scalars(sa.select(QueryPass.connection))) if there else there
