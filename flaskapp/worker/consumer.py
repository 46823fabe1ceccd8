"""Celery's consumer, with another answer to what it cannot run: a dead letter, never a message that is just gone.

During an upgrade the web may know tasks that an older worker does not: our own job waits for a worker that knows
it; a stranger's message is a dead letter. Celery's own answer would settle it in the event loop.
"""

import logging
from collections.abc import Callable
from functools import partial
from typing import Any

from celery.exceptions import InvalidTaskError
from celery.worker import state
from celery.worker.consumer import Consumer

from flaskapp.broker import tolerance, topology, transports
from flaskapp.broker.letters import letter_of
from flaskapp.broker.publisher import PROBE_HEADER
from flaskapp.jobs.letters import MALFORMED, UNKNOWN_TASK
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
            elif tolerance.UNREADABLE in headers:
                self.bury(message, MALFORMED, headers[tolerance.UNREADABLE])
            elif isinstance(headers.get("task", ""), str):
                take(message)
            else:
                self.bury(message, MALFORMED, "Its headers name no task.")

        return on_task_received

    def add_task_queue(self, queue: str, exchange: str | None = None, *args: Any, **options: Any) -> None:
        """Celery's `add_consumer`; it would bind the queue to an exchange of its own, where nothing is published."""
        if exchange is None and queue not in self.app.amqp.queues:
            self.app.amqp.queues.add(topology.queue(queue))
        super().add_task_queue(queue, exchange, *args, **options)

    def on_close(self) -> None:
        """Celery's; but when the worker stops, a job that is written to a child stays with it.

        The pool throws away what no child has said that it took. The child runs it all the same, for as long as it
        takes, then waits half a minute for somebody to read its answer: so long the worker did not end. After a lost
        connection somebody does, and a child may end before it has read its pipe.
        """
        is_stop = state.should_stop is not None
        in_pool = self._jobs_in_pool() if is_stop else []
        written = [(job, job._write_to) for job in in_pool if job._write_to is not None and not job._accepted]
        for job, _child in written:
            job._accepted = True
        super().on_close()
        for job, child in written:
            job._accepted = False
            if not child._is_alive():
                # Its pipe went with it, though the pool may name the child by now that has the same descriptor.
                job.discard()

    def ids_in_pool(self) -> set[str]:
        """The jobs that the pool answers for; of other pools than prefork nothing is known."""
        return {str(job.correlation_id) for job in self._jobs_in_pool()}

    def _jobs_in_pool(self) -> list[Any]:
        return list(getattr(getattr(self.pool, "_pool", None), "_cache", {}).values())

    def _notice_probe(self, message: Any, number: object) -> None:
        queue = message.delivery_info.get("routing_key")
        if isinstance(number, int) and isinstance(queue, str) and 0 < number < _MOST and len(queue) <= 64:
            acknowledge = partial(message.ack_log_error, logger, self.connection_errors)
            self.controller.recorder.notice(queue, number, acknowledge)
        else:
            self.on_unknown_message(None, message)

    def bury(self, message: Any, reason: str, detail: str = "") -> None:
        """Make it a dead letter: the broker's own where it keeps them, else a row before it is rejected."""
        logger.error("A message becomes a dead letter: %s. %.200s", reason, detail)

        keeps_them = transports.has_dead_letters(self.app.settings.broker_url)
        # RabbitMQ's queue stumbles over a made-up x-death when it adds its own, and the message would come for ever.
        brings_history = isinstance(message.headers, dict) and "x-death" in message.headers
        answer = message.ack_log_error if keeps_them and brings_history else message.reject_log_error
        if keeps_them and not brings_history:
            answer(logger, self.connection_errors)
            return
        info = message.delivery_info or {}
        letter = letter_of(
            message.headers,
            message.body,
            message.content_type,
            reason=reason,
            detail=detail,
            queue=info.get("routing_key"),
            exchange=str(info.get("exchange") or ""),
            routing_key=str(info.get("routing_key") or ""),
            redelivered=bool(info.get("redelivered")),
        )
        self.controller.recorder.bury(letter, lambda: answer(logger, self.connection_errors))

    def on_unknown_task(self, body: Any, message: Any, exc: Exception) -> None:
        logger.error("No task %s here: is this worker's code older than what submitted it?", exc)
        try:
            hint = hint_of(message.headers)
        except InvalidTaskError:
            hint = None
        if hint is None or hint.send is None:
            self.bury(message, UNKNOWN_TASK, f"No task {exc} here.")
        else:
            self.controller.recorder.turn_away(hint, lambda: message.ack_log_error(logger, self.connection_errors))

    def on_unknown_message(self, body: Any, message: Any) -> None:
        self.bury(message, MALFORMED, "Neither its headers nor its body name a task.")

    def on_invalid_task(self, body: Any, message: Any, exc: Exception) -> None:
        self.bury(message, MALFORMED, str(exc))

    def on_decode_error(self, message: Any, exc: Exception) -> None:
        """Celery would acknowledge it: gone without a trace."""
        self.bury(message, MALFORMED, f"Its body cannot be decoded: {exc}")
