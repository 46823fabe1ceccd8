"""The one thread that looks at the database for all open pages of this process.

It starts with the first stream, ends with the last, and wakes only the streams that have something to say. A look
that is slow is taken less often: it never takes more than a fifth of the database's time.
"""

import logging
import threading
import time
from collections.abc import Mapping

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from flaskapp.jobs import watch

_INTERVAL_SECONDS = 0.25
_BROKEN_SECONDS = 3.0

log = logging.getLogger(__name__)

#: A version per watched job, and under the empty id one for the table as a whole.
Versions = Mapping[str, str]


class Stream:
    """One open page, and what it was told last."""

    def __init__(self, ids: frozenset[str], broad: bool) -> None:
        self.keys = ids | {""} if broad else ids
        self.was_told = False
        self._versions: Versions = {}
        self._news = threading.Event()

    def tell(self, versions: Versions) -> None:
        self.was_told = True
        self._versions = {key: versions[key] for key in self.keys}
        self._news.set()

    def wait(self, seconds: float) -> Versions | None:
        """What the page watches, once it differs from the last answer; None when it did not in time."""
        if not self._news.wait(seconds):
            return None
        # Cleared first: what is told from here on wakes us again.
        self._news.clear()
        return self._versions


class Watcher:
    def __init__(self, engine: Engine, most_streams: int) -> None:
        self._engine = engine
        self._most_streams = most_streams
        self._streams: set[Stream] = set()
        self._versions: dict[str, str] = {}
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._looks = 0

    @property
    def number(self) -> int:
        """The number of the last look that saw something new; 0 while nobody looks."""
        return self._looks if self._thread is not None else 0

    def join(self, stream: Stream) -> bool:
        """False when as many pages are open as this process takes."""
        with self._lock:
            if len(self._streams) >= self._most_streams:
                return False
            self._streams.add(stream)
            # Lazily, so that a server that forks after loading the application has it in each child.
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="live-watcher", daemon=True)
                self._thread.start()
            return True

    def leave(self, stream: Stream) -> None:
        with self._lock:
            self._streams.discard(stream)

    def _run(self) -> None:
        while (keys := self._watched()) is not None:
            begun = time.monotonic()
            try:
                self._publish(self._read(keys))
            except SQLAlchemyError as problem:
                log.warning("Live pages stand still: the database does not answer (%s).", type(problem).__name__)
                time.sleep(_BROKEN_SECONDS)
            time.sleep(max(_INTERVAL_SECONDS, 4 * (time.monotonic() - begun)))

    def _watched(self) -> set[str] | None:
        """What any page watches; None, and this thread is over, when no page is open."""
        with self._lock:
            if not self._streams:
                self._thread, self._versions = None, {}
                return None
            return {key for stream in self._streams for key in stream.keys}

    def _read(self, keys: set[str]) -> dict[str, str]:
        with self._engine.connect() as connection:
            pulse = {"": watch.pulse(connection)} if "" in keys else {}
            return {**pulse, **watch.versions(connection, keys - {""})}

    def _publish(self, versions: dict[str, str]) -> None:
        with self._lock:
            changed = {key for key, version in versions.items() if version != self._versions.get(key)}
            self._versions = versions
            if changed:
                self._looks += 1
            for stream in self._streams:
                # One that joined during this look waits for the next.
                is_covered = stream.keys <= versions.keys()
                if is_covered and (not stream.was_told or not changed.isdisjoint(stream.keys)):
                    stream.tell(versions)
