"""Keeps expensive answers for a moment, so that pages of a very long history do not load the database.

An answer that cost t seconds is kept for 20 t, at most a minute: a small database is always read afresh,
a large one is busy with this for 5 % of its time at most.
"""

import threading
import time
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

from flask import Flask, current_app

Answer = TypeVar("Answer")

#: Below this an answer is not worth keeping.
_CHEAP_SECONDS = 0.05
_LONGEST_SECONDS = 60
_MOST_ANSWERS = 500


class Memory:
    def __init__(self) -> None:
        self._answers: dict[Hashable, tuple[float, Any]] = {}
        self._lock = threading.Lock()

    def ask(self, key: Hashable, question: Callable[[], Answer]) -> Answer:
        until, kept = self._answers.get(key, (0.0, None))
        begun = time.monotonic()
        if begun < until:
            return kept  # type: ignore[no-any-return]
        answer = question()
        cost = time.monotonic() - begun
        if cost > _CHEAP_SECONDS:
            with self._lock:
                if len(self._answers) >= _MOST_ANSWERS:
                    self._answers.clear()
                self._answers[key] = (time.monotonic() + min(20 * cost, _LONGEST_SECONDS), answer)
        return answer


def init_app(app: Flask) -> None:
    app.extensions["console_memory"] = Memory()


def remembered(question: Callable[..., Answer], *arguments: Hashable) -> Answer:
    """`question(db.session, *arguments)`, perhaps as it was a moment ago."""
    from flaskapp.extensions import db

    memory: Memory = current_app.extensions["console_memory"]
    return memory.ask((question.__name__, *arguments), lambda: question(db.session, *arguments))
