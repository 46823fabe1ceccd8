"""Celery's consumer, with another answer to a task that this worker does not know, and one to a probe.

During an upgrade the web may know tasks that an older worker does not: our own job waits for a worker that knows
it; a stranger's message is a dead letter. Celery's own answer would settle it in the event loop.
"""

import logging
from collections.abc import Callable
from functools import partial
from typing import Any

from celery.exceptions import InvalidTaskError
from celery.worker.consumer import Consumer

from flaskapp.broker.publisher import PROBE_HEADER
from flaskapp.worker.request import hint_of

logger = logging.getLogger(__name__)

#: A stranger's number may be larger than any database's column.
_MOST = 2**31


class JobConsumer(Consumer):
    def create_task_handler(self, *args: Any, **options: Any) -> Callable[[Any], None]:
        take = super().create_task_handler(*args, **options)

        def on_task_received(message: Any) -> None:
            headers = message.headers if isinstance(message.headers, dict) else {}
            if PROBE_HEADER in headers:
                self._notice_probe(message, headers[PROBE_HEADER])
            elif isinstance(headers.get("task", ""), str):
                take(message)
            else:
                self.on_unknown_message(None, message)

        return on_task_received

    def _notice_probe(self, message: Any, number: object) -> None:
        queue = message.delivery_info.get("routing_key")
        if isinstance(number, int) and isinstance(queue, str) and 0 < number < _MOST and len(queue) <= 64:
            acknowledge = partial(message.ack_log_error, logger, self.connection_errors)
            self.controller.recorder.notice(queue, number, acknowledge)
        else:
            self.on_unknown_message(None, message)

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
