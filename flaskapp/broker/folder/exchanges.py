"""Exchanges as files: one JSON file each, with the exchange's type and its bindings.

Promises: a reader sees a whole table; processes that bind at the same time lose none of their bindings.
Does not route: Kombu's exchange types do.
"""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from typing import Any
from urllib.parse import unquote

from flaskapp.broker.folder.queues import file_name, names_in

Table = dict[str, Any]
Version = tuple[int, int, int]
Binding = tuple[str, str | None, str]  # routing key, pattern, queue: what Kombu's exchange types look through

EMPTY: Table = {"bindings": []}


class Exchanges:
    def __init__(self, root: str) -> None:
        self.folder = f"{root}/exchanges"
        self._known: dict[str, tuple[Version, Table]] = {}

    def find(self, exchange: str, afresh: bool = False) -> Table:
        """`{"type": ..., "bindings": [...]}`; costs one stat while nobody changes it."""
        path = self._path(exchange)
        known_version, table = self._known.get(exchange, (None, EMPTY))
        try:
            status = os.stat(path)
            version = status.st_ino, status.st_mtime_ns, status.st_size
            if afresh or version != known_version:
                with open(path, encoding="utf-8") as file:
                    table = json.load(file)
                self._known[exchange] = version, table
        except FileNotFoundError:
            pass  # never declared; or the whole folder was removed, and what we knew still routes until it is
        return table

    def declare(self, exchange: str, kind: str) -> None:
        with self._changing(exchange) as table:
            table.setdefault("type", kind)

    def bind(self, exchange: str, binding: Binding) -> None:
        with self._changing(exchange) as table:
            if list(binding) not in table["bindings"]:
                table["bindings"].append(list(binding))

    def unbind(self, exchange: str, binding: Binding) -> None:
        with self._changing(exchange) as table:
            table["bindings"] = [known for known in table["bindings"] if known != list(binding)]

    def forget_queue(self, queue: str) -> None:
        for exchange in self.names():
            with self._changing(exchange) as table:
                table["bindings"] = [known for known in table["bindings"] if known[2] != queue]

    def empty(self, exchange: str) -> None:
        with self._changing(exchange) as table:
            table.clear()
            table["bindings"] = []

    def names(self) -> list[str]:
        names = (os.path.splitext(entry) for entry in names_in(self.folder))
        return [unquote(name) for name, extension in names if extension == ".json"]

    @contextmanager
    def _changing(self, exchange: str) -> Iterator[Table]:
        """Read, change and replace one table while all other processes and threads wait."""
        os.makedirs(self.folder, exist_ok=True)
        with open(f"{self.folder}/lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            try:
                before = self.find(exchange, afresh=True)
                table = deepcopy(before)
                yield table
                if table != before or not os.path.exists(self._path(exchange)):
                    self._replace(self._path(exchange), table)
            finally:
                # To close it is not enough: a child forked meanwhile has the same lock, for as long as it lives.
                fcntl.flock(lock, fcntl.LOCK_UN)

    def _replace(self, path: str, table: Table) -> None:
        with open(f"{path}.new", "w", encoding="utf-8") as file:
            json.dump(table, file)
            file.flush()
            os.fsync(file.fileno())
        os.rename(f"{path}.new", path)

    def _path(self, exchange: str) -> str:
        return f"{self.folder}/{file_name(exchange)}.json"
