"""Engines for the job core's own short statements: one per process, made on first use, never shared over a fork."""

import os

from sqlalchemy import Engine
from sqlalchemy.engine import URL

from flaskapp.extensions import control_engine


class ProcessEngine:
    def __init__(self, url: URL) -> None:
        self._url = url
        self._pid = 0
        self._engine: Engine | None = None

    def get(self) -> Engine:
        if self._engine is None or self._pid != os.getpid():
            # The parent's connections belong to the parent: leave them open, only forget them.
            self._engine, self._pid = control_engine(self._url), os.getpid()
        return self._engine
