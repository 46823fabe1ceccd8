"""A private MariaDB on a free loopback port, utf8mb4, with the database `offload`."""

from contextlib import AbstractContextManager
from pathlib import Path
from urllib.parse import quote

import pymysql

from tests.services.base import Service, running
from tests.services.finder import find_mariadb
from tests.services.processes import LOCALHOST, Program


class MariaDB(Service):
    @property
    def url(self) -> str:
        return self.url_of("offload")

    def url_of(self, database: str) -> str:
        return f"mariadb+pymysql://root@{LOCALHOST}:{self.port}/{quote(database)}?charset=utf8mb4"

    def create_database(self, name: str) -> str:
        """Make an empty database (or keep the one there is) and return its SQLAlchemy URL."""
        quoted = name.replace("`", "``")
        with self._connect() as connection:
            connection.cursor().execute(f"CREATE DATABASE IF NOT EXISTS `{quoted}`")
        return self.url_of(name)

    def restart(self) -> None:
        self.stop()
        self.start()

    def _prepare(self) -> Program:
        program = find_mariadb()
        self._leave_root("mysql")
        if not (self.data / "mysql").exists():
            options = [
                f"--datadir={self.data}",
                f"--tmpdir={self.data}",
                "--skip-test-db",
                "--auth-root-authentication-method=normal",
            ]
            self._make_data(["mariadb-install-db", "--no-defaults", *options])
        settings = {
            "datadir": self.data,
            # A server that starts deletes what it takes for its own leftovers: in /tmp those of any other.
            "tmpdir": self.data,
            "port": self.port,
            "bind-address": LOCALHOST,
            # Relative to datadir: a socket's whole path may not pass 107 bytes.
            "socket": "socket",
            "pid-file": "pid",
            "character-set-server": "utf8mb4",
        }
        options = [f"--{name}={value}" for name, value in settings.items()]
        return Program([program, "--no-defaults", *options], self.log, user=self.user)

    def _connect(self) -> "pymysql.Connection[pymysql.cursors.Cursor]":
        return pymysql.connect(host=LOCALHOST, port=self.port, user="root", autocommit=True, connect_timeout=2)

    def _is_ready(self) -> bool:
        try:
            self.create_database("offload")
        except pymysql.OperationalError:
            return False
        return True


def mariadb(folder: Path) -> AbstractContextManager[MariaDB]:
    return running(MariaDB(folder))
