"""A private Redis (or Valkey) on a free loopback port that keeps its data across a kill."""

from contextlib import AbstractContextManager
from pathlib import Path

from tests.services.base import Service, running
from tests.services.finder import find_redis
from tests.services.processes import LOCALHOST, Program


class Redis(Service):
    @property
    def url(self) -> str:
        return f"redis://{LOCALHOST}:{self.port}/0"

    def _prepare(self) -> Program:
        self.data.mkdir(exist_ok=True)
        settings = {
            "port": str(self.port),
            "bind": LOCALHOST,
            "dir": str(self.data),
            "daemonize": "no",
            "save": "",
            "appendonly": "yes",
        }
        options = [word for name, value in settings.items() for word in (f"--{name}", value)]
        return Program([find_redis(), *options], self.log)

    def _is_ready(self) -> bool:
        return self._answers(b"PING\r\n")


def redis(folder: Path) -> AbstractContextManager[Redis]:
    return running(Redis(folder))
