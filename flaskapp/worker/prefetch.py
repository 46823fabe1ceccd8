"""How many messages a worker fetches ahead: none until its jobs are known not to be long, a few for each slot, or many.

Empty jobs want many, so that one transaction claims and records a group of them. Behind long ones a message would wait
although another worker is idle: then only free slots fetch, and a worker without one does not consume at all.
"""

import logging
import time
from collections.abc import Callable, Iterable
from typing import Any

logger = logging.getLogger(__name__)

#: Messages for each slot. NONE: one for each slot that is free and for which we have none yet.
NONE = 0
FEW = 4
MANY = 128
#: Jobs that usually take less are short …
_SHORT_SECONDS = 0.02
#: … and those that take more get no more than a few; in between nothing changes.
_MIDDLING_SECONDS = 0.1
#: Nothing is fetched ahead of jobs that usually take more. A few for each slot wait for less than our patience.
_LONG_SECONDS = 1.0
#: So many jobs must have ended before their usual length means something …
_ENOUGH = 20
#: … and so many since messages last went back: long jobs are among the short ones.
_ENOUGH_AGAIN = 2000
#: A message that found no free slot for so long is kept from others.
_PATIENCE_SECONDS = 5.0


class Prefetch:
    """The prefetch of one worker; `tell` is called on its event loop, the rest under the recorder's lock."""

    def __init__(self, concurrency: int) -> None:
        self._concurrency = concurrency
        self._ended = 0
        self._enough = _ENOUGH
        #: Queues, the one first that was served the longest time ago.
        self._served: dict[str, None] = {}
        self.reset()

    def reset(self) -> None:
        """A new connection: Celery consumes with one message for each slot."""
        self.each = NONE
        #: The limit that the broker knows; 0: we do not consume; None: nobody knows.
        self._told: int | None = self._concurrency

    def follow(self, usual_seconds: float) -> None:
        """A job ended; jobs usually take so long."""
        self._ended += 1
        if usual_seconds > _LONG_SECONDS:
            self.each = NONE
        elif usual_seconds > _MIDDLING_SECONDS or self.each == NONE:
            self.each = FEW
        elif usual_seconds < _SHORT_SECONDS and self._ended >= self._enough:
            self.each = MANY

    def serve(self, queues: Iterable[str]) -> None:
        """Messages of theirs are claimed."""
        for queue in queues:
            self._served.pop(queue, None)
            self._served[queue] = None

    def is_kept_from_others(self, arrived: float, free_slots: int) -> bool:
        """An offer arrived then and waits still: True if it should go back, with all behind it."""
        if free_slots > 0 or time.monotonic() - arrived < _PATIENCE_SECONDS:
            return False
        self.each = NONE
        self._ended, self._enough = 0, _ENOUGH_AGAIN
        # It may have come although we do not consume: `add_consumer` consumes from all queues.
        self._told = None
        return True

    def is_news(self, room: int) -> bool:
        """The broker should know another limit than it does."""
        return self._limit(room) != self._told

    def tell(self, consumer: Any, room: Callable[[], int]) -> None:
        """Tell the broker. RabbitMQ applies it to new consumers only (its page "Consumer Prefetch")."""
        limit = self._limit(room())
        if limit == self._told or consumer.qos is None or consumer.task_consumer is None:
            return
        begin_anew = consumer.qos_global is False or not (limit and self._told)
        if begin_anew:
            consumer.task_consumer.cancel()
            # What was on its way to us has arrived now.
            limit = self._limit(room())
        if limit:
            consumer.qos.value = limit
            consumer.qos.update()
            if begin_anew:
                self._take_turns(consumer.task_consumer)
                consumer.task_consumer.consume()
        self._told = limit
        if self.each:
            logger.info("Fetching %d messages ahead", limit)
        else:
            logger.debug("Fetching nothing ahead; there is room for %d", limit)

    def _take_turns(self, task_consumer: Any) -> None:
        """RabbitMQ sends from the queue first that is consumed first, so the same one would have each free slot."""
        served = list(self._served)
        task_consumer.queues = sorted(
            task_consumer.queues, key=lambda queue: served.index(queue.name) if queue.name in served else -1
        )

    def _limit(self, room: int) -> int:
        return self.each * self._concurrency or max(room, 0)
