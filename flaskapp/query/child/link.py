"""The line to the parent, and what an answer or a refusal looks like on it."""

import json
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

#: Its password comes from SECRET_KEY, which may have changed, or differ between machines.
CANNOT_SIGN_IN = (
    "The account for questions cannot sign in: {}. If SECRET_KEY has changed, run `flask --app flaskapp query grant`; "
    "it must be the same for every process."
)

STILL_WORKS = (
    "The database still works on an earlier question that was stopped (its process {}), and cannot be made to end it. "
    "Until it does, nobody can ask."
)


class Refused(Exception):
    """The database, or one of its locks, said no; the message is for the person who asked."""


class Unable(Exception):
    """Nobody can ask now; the message is for the person who asked."""


def wait_for_what_was_stopped(stopped: Callable[[], set[int]], seconds: float) -> None:
    """Until none of the connections that `stopped` tells goes on; leftovers.py says why nobody asks beside one."""
    ends = time.monotonic() + seconds
    stayed = stopped()
    while stayed:
        if time.monotonic() > ends:
            raise Unable(STILL_WORKS.format(min(stayed)))
        time.sleep(0.2)
        stayed &= stopped()


class Link:
    def __init__(self) -> None:
        self.request: dict[str, Any] = json.loads(sys.stdin.readline())
        self._cancel: Callable[[], object] = lambda: None

    def connected(self, connection_id: int, cancel: Callable[[], object]) -> None:
        """Say which connection asks; returns once the parent has given it its pass."""
        self._say({"connected": connection_id})
        if sys.stdin.readline() != "go\n":
            os._exit(3)
        self._cancel = cancel
        # From here on the end of standard input ends the question.
        threading.Thread(target=self._until_it_ends, daemon=True).start()

    def answer(self, **answer: Any) -> None:
        self._say(answer)

    def _say(self, words: dict[str, Any]) -> None:
        sys.stdout.write(json.dumps(words) + "\n")
        sys.stdout.flush()

    def _until_it_ends(self) -> None:
        sys.stdin.read()
        try:
            self._cancel()
        finally:
            os._exit(3)
