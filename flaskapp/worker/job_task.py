"""The task class of every task, and what happens when a message for one arrives.

A message is only a hint: it is offered to the recorder, which claims the row, acknowledges, and hands the
attempt to the pool.
"""

import logging
from collections.abc import Callable
from typing import Any

from celery import Task
from celery.worker.strategy import hybrid_to_proto2, proto1_to_proto2

from flaskapp.worker.attempt import current_attempt
from flaskapp.worker.progress import write_progress
from flaskapp.worker.request import JobRequest

logger = logging.getLogger(__name__)


class JobTask(Task):
    """A Celery task whose jobs are rows."""

    Strategy = "flaskapp.worker.job_task:strategy"
    Request = "flaskapp.worker.request:JobRequest"

    #: Names of arguments that nobody may see on a page or in the API.
    secret_params: tuple[str, ...] = ()

    @property
    def attempt_number(self) -> int:
        """The number of the running attempt, from 1; 0 when the task is called directly."""
        attempt = current_attempt()
        return attempt.claimed.number if attempt is not None else 0

    def progress(self, current: float, total: float | None = None, message: str = "") -> None:
        """Tell the page how far the job is; cheap, may be called for every row."""
        if (attempt := current_attempt()) is not None:
            write_progress(attempt.claimed, current, total, message)

    def retry(self, *args: Any, max_retries: int | None = None, **options: Any) -> Any:
        """As Celery's; a limit that the caller of the job set goes before the task's own."""
        attempt = current_attempt()
        if attempt is not None and attempt.claimed.max_retries is not None:
            max_retries = attempt.claimed.max_retries
        return super().retry(*args, max_retries=max_retries, **options)

    def replace(self, sig: Any) -> Any:
        """As Celery's; what the task wrote so far is kept, because the job goes on."""
        if (attempt := current_attempt()) is not None:
            attempt.replacing = True
        return super().replace(sig)


def strategy(task: Any, app: Any, consumer: Any, **_: Any) -> Callable[..., None]:
    """Celery's hook: answers the function that takes a message for `task`."""
    recorder = consumer.controller.recorder

    def take(message: Any, body: Any, ack: Any, reject: Any, callbacks: Any, **_: Any) -> None:
        try:
            request = read(message, body, ack, reject)
            request.check()
        except Exception as problem:  # noqa: BLE001 -- somebody else made it: anything may be wrong with it
            # Left to Celery it would end this worker, come back, and end the next one.
            logger.error("A message for %s cannot become a job and is rejected: %s", task.name, problem)
            message.reject_log_error(logger, consumer.connection_errors)
        else:
            recorder.offer(request)

    def read(message: Any, body: Any, ack: Any, reject: Any) -> JobRequest:
        if body is None and "args" not in message.payload:
            body, headers, decoded = message.body, message.headers, False
        elif "args" in message.payload:
            body, headers, decoded, _utc = hybrid_to_proto2(message, message.payload)
        else:
            body, headers, decoded, _utc = proto1_to_proto2(message, body)
        return JobRequest(
            message,
            on_ack=ack,
            on_reject=reject,
            app=app,
            hostname=consumer.hostname,
            eventer=consumer.event_dispatcher,
            task=task,
            connection_errors=consumer.connection_errors,
            body=body,
            headers=headers,
            decoded=decoded,
            recorder=recorder,
        )

    return take
