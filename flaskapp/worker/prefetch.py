"""How many messages a worker fetches ahead: a few for each slot, and many while its jobs are short.

Empty jobs want many, so that one transaction claims and records a group of them. Long ones want few, so that a busy
worker keeps nothing from idle ones: what it fetched too much goes back.
"""

import logging
import time
from typing import Any

logger = logging.getLogger(__name__)

#: Messages for each slot.
FEW = 4
MANY = 128
#: Jobs that usually take less are short; those that take more are long; in between nothing changes.
_SHORT_SECONDS = 0.02
_LONG_SECONDS = 0.1
#: So many jobs must have ended before their usual length means something.
_ENOUGH = 20
#: A message that nobody could claim for so long is kept from others.
_PATIENCE_SECONDS = 5.0


class Prefetch:
    """The prefetch of one worker; `change` is called on its event loop, the rest under the recorder's lock."""

    def __init__(self, concurrency: int) -> None:
        self._concurrency = concurrency
        self._ended = 0
        self.each = FEW
        #: Many were asked for, and what of them was too much has not gone back yet.
        self._fetched_many = False

    def reset(self) -> None:
        """A new connection begins with a few, as Celery asks for."""
        self.each = FEW
        self._fetched_many = False

    def follow(self, usual_seconds: float) -> bool:
        """A job ended; True if another prefetch is wanted from now on."""
        self._ended += 1
        if usual_seconds > _LONG_SECONDS:
            return self._want(FEW)
        if usual_seconds < _SHORT_SECONDS and self._ended >= _ENOUGH:
            self._fetched_many = True
            return self._want(MANY)
        return False

    def surplus(self, arrived: list[float]) -> int:
        """How many of the offers that arrived at these times, oldest first, should go back for others.

        All of them, for a few come again at once: RabbitMQ counts what its new consumer holds, not what the one before
        it still does. But only what was fetched by the many: what comes by the few would go to and fro without end.
        """
        few = FEW * self._concurrency
        if not self._fetched_many or len(arrived) <= few or time.monotonic() - arrived[0] < _PATIENCE_SECONDS:
            return 0
        self._want(FEW)
        return len(arrived)

    def gave_back(self) -> None:
        """The surplus is the broker's again."""
        self._fetched_many = False

    def _want(self, each: int) -> bool:
        changed, self.each = self.each != each, each
        return changed

    def change(self, consumer: Any) -> None:
        """Tell the broker. RabbitMQ applies it to new consumers only (its page "Consumer Prefetch")."""
        if consumer.qos is None or consumer.task_consumer is None:
            return
        consumer.qos.value = self.each * self._concurrency
        consumer.qos.update()
        if consumer.qos_global is False:
            consumer.task_consumer.cancel()
            consumer.task_consumer.consume()
        logger.info("Fetching %d messages ahead", consumer.qos.value)
