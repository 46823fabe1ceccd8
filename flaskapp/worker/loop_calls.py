"""What other threads ask of the event loop, in order; nothing of it is forgotten when the loop breaks in between.

Kombu's hub drops what it was still to call when one of its calls raises, and on a dead connection one does: a job that
was claimed, but had not yet come to the pool, would be held for ever.
"""

import logging
from collections import deque
from collections.abc import Callable
from typing import Any

logger = logging.getLogger(__name__)


class LoopCalls:
    def __init__(self) -> None:
        #: Celery's, of the current broker connection; set by the recorder.
        self.consumer: Any = None
        self._calls: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque()

    def add(self, function: Callable[..., None], *args: Any) -> None:
        """Called soon by the hub; at once, in the calling thread, where a transport has none."""
        self._calls.append((function, args))
        hub = getattr(self.consumer, "hub", None)
        if hub is None:
            # The caller's work is not the broker's: what that cannot be told ends nobody's thread.
            self.finish()
        else:
            hub.call_soon(self._run)

    def finish(self) -> None:
        """There is no loop, or none any more: what waits for it is done now, as far as the broker can be told."""
        while self._calls:
            try:
                self._run()
            except Exception:
                # Most often the connection is gone, which is reported elsewhere; the rest must be done all the same.
                logger.info("The broker could not be told", exc_info=True)

    def _run(self) -> None:
        while self._calls:
            function, args = self._calls.popleft()
            function(*args)
