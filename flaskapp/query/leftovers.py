"""A server may go on with a question that was stopped: some of its functions never look whether they are still wanted.

Nothing but their own end ends them. So nobody asks meanwhile, and it stays one process of the server that is busy
with it. The account for questions sees its own connections, so the child looks, before it asks.
"""

from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress

import sqlalchemy as sa
from sqlalchemy import Engine

from flaskapp.query.access import Reader
from flaskapp.query.child.postgresql import ASKED

#: What was stopped is usually gone in a moment.
WAIT_SECONDS = 8.0


@contextmanager
def asked(engine: Engine, reader: Reader, connection_id: int) -> Iterator[None]:
    """While somebody waits for that connection's answer: MariaDB knows whom it was told to kill, PostgreSQL forgets.

    A lock, for whoever is killed lets go of it.
    """
    if engine.dialect.name != "postgresql":
        try:
            yield
        finally:
            _kill(engine, reader, connection_id)
        return
    lock = {"class": ASKED, "id": connection_id}
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(sa.text("SELECT pg_advisory_lock(:class, :id)"), lock)
        try:
            yield
        finally:
            connection.execute(sa.text("SELECT pg_advisory_unlock(:class, :id)"), lock)


def _kill(engine: Engine, reader: Reader, connection_id: int) -> None:
    """It goes on for a child that is gone, and behind an answer that was cut off, until it writes to them."""
    import pymysql

    with (
        suppress(pymysql.err.Error, OSError),
        closing(pymysql.connect(**reader.connect_arguments(engine), read_timeout=5)) as connection,
    ):
        connection.cursor().execute(f"KILL {int(connection_id)}")
