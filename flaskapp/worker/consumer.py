"""Celery's consumer, with another answer to a task that this worker does not know.

During an upgrade the web may know tasks that an older worker does not: our own job waits for a worker that knows
it; a stranger's message is a dead letter. Celery's own answer would settle it in the event loop.
"""

import logging
from collections.abc import Callable
from typing import Any

from celery.exceptions import InvalidTaskError
from celery.worker.consumer import Consumer

from flaskapp.worker.request import hint_of

logger = logging.getLogger(__name__)


class JobConsumer(Consumer):
    def create_task_handler(self, *args: Any, **options: Any) -> Callable[[Any], None]:
        take = super().create_task_handler(*args, **options)

        def on_task_received(message: Any) -> None:
            named = message.headers.get("task", "") if isinstance(message.headers, dict) else ""
            if isinstance(named, str):
                take(message)
            else:
                self.on_unknown_message(None, message)

        return on_task_received

    def on_unknown_task(self, body: Any, message: Any, exc: Exception) -> None:
        logger.error("No task %s here: is this worker's code older than what submitted it?", exc)
        try:
            hint = hint_of(message.headers)
        except InvalidTaskError:
            hint = None
        if hint is None or hint.send is None:
            message.reject_log_error(logger, self.connection_errors)
        else:
            self.controller.recorder.turn_away(hint, lambda: message.ack_log_error(logger, self.connection_errors))
