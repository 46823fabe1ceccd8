"""The one thread that looks at the database for all open pages of this process.

It starts with the first stream, ends with the last, and never takes more than a tenth of the database's time:
a look that is slow is taken less often.
"""

import logging
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from flaskapp.jobs import watch

_INTERVAL_SECONDS = 0.25
_BROKEN_SECONDS = 3.0

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Look:
    """What was seen: a version per watched job, and under the empty id one for the table as a whole."""

    number: int
    versions: Mapping[str, str]


@dataclass(eq=False)
class Stream:
    """One open page."""

    ids: frozenset[str]
    broad: bool
    keys: frozenset[str] = field(init=False)

    def __post_init__(self) -> None:
        self.keys = self.ids | {""} if self.broad else self.ids

    def part_of(self, look: Look) -> dict[str, str]:
        return {key: look.versions[key] for key in self.keys}


class Watcher:
    def __init__(self, engine: Engine, most_streams: int) -> None:
        self._engine = engine
        self._most_streams = most_streams
        self._streams: set[Stream] = set()
        self._look: Look | None = None
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._number = 0

    @property
    def number(self) -> int:
        """The number of the last look that saw something new; 0 while nobody looks."""
        look = self._look
        return look.number if look else 0

    def join(self, stream: Stream) -> bool:
        """False when as many pages are open as this process takes."""
        with self._changed:
            if len(self._streams) >= self._most_streams:
                return False
            self._streams.add(stream)
            # Lazily, so that a server that forks after loading the application has it in each child.
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="live-watcher", daemon=True)
                self._thread.start()
            return True

    def leave(self, stream: Stream) -> None:
        with self._changed:
            self._streams.discard(stream)

    def wait(self, stream: Stream, after: int, seconds: float) -> Look | None:
        """The first look after number `after` that covers what `stream` watches; None when none came in time."""

        def seen() -> bool:
            look = self._look
            return look is not None and look.number > after and stream.keys <= look.versions.keys()

        with self._changed:
            return self._look if self._changed.wait_for(seen, seconds) else None

    def _run(self) -> None:
        while (keys := self._watched()) is not None:
            begun = time.monotonic()
            try:
                self._publish(self._read(keys))
            except SQLAlchemyError as problem:
                log.warning("Live pages stand still: the database does not answer (%s).", type(problem).__name__)
                time.sleep(_BROKEN_SECONDS)
            cost = time.monotonic() - begun
            time.sleep(max(_INTERVAL_SECONDS, 10 * cost))

    def _watched(self) -> set[str] | None:
        """What any page watches; None, and this thread is over, when no page is open."""
        with self._changed:
            if not self._streams:
                self._thread = self._look = None
                return None
            return {key for stream in self._streams for key in stream.keys}

    def _read(self, keys: set[str]) -> dict[str, str]:
        with self._engine.connect() as connection:
            versions = {"": watch.pulse(connection)} if "" in keys else {}
            return {**versions, **watch.versions(connection, keys - {""})}

    def _publish(self, versions: dict[str, str]) -> None:
        with self._changed:
            if self._look is None or versions != self._look.versions:
                self._number += 1
                self._look = Look(self._number, versions)
                self._changed.notify_all()
