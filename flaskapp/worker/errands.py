"""Messages that are no claims (probes, dead letters, tasks that nobody here knows): written down, then answered.

Run by the recorder's thread, never by the event loop. If we die between the two the message comes again. The line is
under the recorder's one lock; no SQL is run under it.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence

from sqlalchemy import Engine
from sqlalchemy.orm import Session

from flaskapp.extensions import core_session
from flaskapp.worker.loop_calls import LoopCalls
from flaskapp.worker.outages import may_pass

logger = logging.getLogger(__name__)

#: What to write for a message, and how to answer the broker once that is committed.
Errand = tuple[Callable[[Session], object], Callable[[], None]]
_GROUP = 200


class Errands:
    def __init__(self, changed: threading.Condition, engine: Engine, loop: LoopCalls) -> None:
        self._changed = changed
        self._engine = engine
        self._loop = loop
        self._waiting: deque[Errand] = deque()
        self._closed = False

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def add(self, write: Callable[[Session], object], answer: Callable[[], None]) -> None:
        with self._changed:
            if not self._closed:
                self._waiting.append((write, answer))
                self._changed.notify()

    def clear(self) -> None:
        """A new broker connection: what is unanswered comes again."""
        with self._changed:
            self._waiting.clear()

    def close(self) -> None:
        """The worker stops: what is unanswered comes to another one."""
        with self._changed:
            self._closed = True
            self._waiting.clear()

    def run(self) -> None:
        """Write a group in one transaction and answer; raises what an absent database raises, and keeps all of it."""
        with self._changed:
            group = list(self._waiting)[:_GROUP]
        if not group:
            return
        try:
            self._write(group)
        except Exception as trouble:
            if may_pass(trouble):
                raise
            for errand in group:
                self._write_alone(errand)
        with self._changed:
            for errand in group:
                if errand in self._waiting:
                    self._waiting.remove(errand)
        for _, answer in group:
            self._loop.add(answer)

    def _write(self, errands: Sequence[Errand]) -> None:
        with core_session(self._engine) as session, session.begin():
            for write, _ in errands:
                write(session)

    def _write_alone(self, errand: Errand) -> None:
        try:
            self._write([errand])
        except Exception as trouble:
            if may_pass(trouble):
                raise
            logger.exception("A message that is no job cannot be written down; it is given up")
