"""A private PostgreSQL on a free loopback port, for tests: any local user may sign in, and it does not fsync.

Promises an empty cluster with the database `offload`. A power cut of the machine may break its files;
kill -9 does not.
"""

import os
import signal
from contextlib import AbstractContextManager
from pathlib import Path
from typing import LiteralString
from urllib.parse import quote

import psycopg
from psycopg import sql

from tests.services.base import Service, running
from tests.services.finder import find_postgresql
from tests.services.processes import LOCALHOST, Program

OWNER = "postgres"


class PostgreSQL(Service):
    @property
    def url(self) -> str:
        return self.url_of("offload")

    def url_of(self, database: str) -> str:
        return f"postgresql://{OWNER}@{LOCALHOST}:{self.port}/{quote(database)}"

    def create_database(self, name: str, template: str = "template1") -> str:
        """Make a database, empty or a copy of `template`, and return its SQLAlchemy URL."""
        self._administer("CREATE DATABASE {} TEMPLATE {}", name, template)
        return self.url_of(name)

    def drop_database(self, name: str) -> None:
        """Drop it if it is there, cutting off whoever is still connected."""
        self._administer("DROP DATABASE IF EXISTS {} WITH (FORCE)", name)

    def restart(self) -> None:
        """A planned restart: every connection is cut, nothing is lost."""
        self.stop()
        self.start()

    def stop_at_once(self) -> None:
        """The immediate shutdown: sessions are cut in mid-statement, and the next start recovers from the log."""
        if self.program and self.program.pid:
            os.kill(self.program.pid, signal.SIGQUIT)
        self.stop()

    def _administer(self, statement: LiteralString, *names: str) -> None:
        command = sql.SQL(statement).format(*map(sql.Identifier, names))
        with psycopg.connect(self.url_of("postgres"), autocommit=True, connect_timeout=10) as connection:
            connection.execute(command)

    def _prepare(self) -> Program:
        programs = find_postgresql()
        self._leave_root(OWNER)
        if not (self.data / "PG_VERSION").exists():
            options = ["-U", OWNER, "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync"]
            self._make_data([programs / "initdb", "-D", self.data, *options])
        settings = {
            "port": self.port,
            "listen_addresses": LOCALHOST,
            # No Unix socket: its path may not pass 107 bytes, and test folders are deep.
            "unix_socket_directories": "",
            "fsync": "off",
        }
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        return Program(
            [programs / "postgres", "-D", self.data, *options],
            self.log,
            user=self.user,
            # INT is the fast shutdown: sessions are cut, data is flushed.
            stop_signal=signal.SIGINT,
        )

    def _is_ready(self) -> bool:
        try:
            with psycopg.connect(self.url_of("postgres"), autocommit=True, connect_timeout=2) as connection:
                known = connection.execute("SELECT 1 FROM pg_database WHERE datname = 'offload'").fetchone()
        except psycopg.OperationalError:
            return False
        if not known:
            self.create_database("offload")
        return True


def postgresql(folder: Path) -> AbstractContextManager[PostgreSQL]:
    return running(PostgreSQL(folder))
