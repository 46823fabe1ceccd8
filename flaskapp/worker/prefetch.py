"""How many messages a worker fetches ahead: none until its jobs are known not to be long, a few for each slot, or many.

Empty jobs want many, so that one transaction claims and records a group of them. Behind long ones a message would wait
although another worker is idle: then only free slots fetch, and a worker without one does not consume at all.
"""

import logging
import time
from typing import Any

logger = logging.getLogger(__name__)

#: Messages for each slot. NONE: one for each slot that is free.
NONE = 0
FEW = 4
MANY = 128
#: Jobs that usually take less are short …
_SHORT_SECONDS = 0.02
#: … and those that take more get no more than a few; in between nothing changes.
_MIDDLING_SECONDS = 0.1
#: Nothing is fetched ahead of jobs that usually take more. A few for each slot wait for less than our patience.
_LONG_SECONDS = 1.0
#: So many jobs must have ended before their usual length means something.
_ENOUGH = 20
#: A message that found no free slot for so long is kept from others.
_PATIENCE_SECONDS = 5.0


class Prefetch:
    """The prefetch of one worker; `tell` is called on its event loop, the rest under the recorder's lock."""

    def __init__(self, concurrency: int) -> None:
        self._concurrency = concurrency
        self._ended = 0
        self.reset()

    def reset(self) -> None:
        """A new connection: Celery consumes with one message for each slot."""
        self.each = NONE
        #: The limit that the broker knows; 0: we do not consume.
        self._told = self._concurrency

    def follow(self, usual_seconds: float) -> None:
        """A job ended; jobs usually take so long."""
        self._ended += 1
        if usual_seconds > _LONG_SECONDS:
            self.each = NONE
        elif usual_seconds > _MIDDLING_SECONDS or self.each == NONE:
            self.each = FEW
        elif usual_seconds < _SHORT_SECONDS and self._ended >= _ENOUGH:
            self.each = MANY

    def is_kept_from_others(self, arrived: float, free_slots: int) -> bool:
        """An offer arrived then and waits still: True if it should go back, with all behind it."""
        if free_slots > 0 or time.monotonic() - arrived < _PATIENCE_SECONDS:
            return False
        self.each = NONE
        return True

    def is_news(self, free_slots: int) -> bool:
        """The broker should know another limit than it does."""
        return self._limit(free_slots) != self._told

    def tell(self, consumer: Any, free_slots: int) -> None:
        """Tell the broker. RabbitMQ applies it to new consumers only (its page "Consumer Prefetch")."""
        limit = self._limit(free_slots)
        if limit == self._told or consumer.qos is None or consumer.task_consumer is None:
            return
        begin_anew = consumer.qos_global is False or 0 in (limit, self._told)
        if begin_anew:
            consumer.task_consumer.cancel()
        if limit:
            consumer.qos.value = limit
            consumer.qos.update()
            if begin_anew:
                consumer.task_consumer.consume()
        self._told = limit
        if self.each:
            logger.info("Fetching %d messages ahead", limit)
        else:
            logger.debug("Fetching nothing ahead; %d slots are free", limit)

    def _limit(self, free_slots: int) -> int:
        return self.each * self._concurrency or max(free_slots, 0)
