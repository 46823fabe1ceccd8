"""The task class of every task, and what happens when a message for one arrives.

A message is only a hint: it is offered to the recorder, which claims the row, acknowledges, and hands the
attempt to the pool.
"""

from collections.abc import Callable
from typing import Any

from celery import Task
from celery.exceptions import InvalidTaskError
from celery.worker.strategy import hybrid_to_proto2, proto1_to_proto2

from flaskapp.errors import BadArguments
from flaskapp.worker.attempt import current_attempt
from flaskapp.worker.progress import write_progress
from flaskapp.worker.request import JobRequest, is_ours

#: What reading a message raises that somebody else made up.
_UNREADABLE = (ValueError, TypeError, LookupError, AttributeError, OverflowError, RecursionError)


class JobTask(Task):
    """A Celery task whose jobs are rows."""

    Strategy = "flaskapp.worker.job_task:strategy"
    Request = "flaskapp.worker.request:JobRequest"

    #: Names of arguments that nobody may see on a page or in the API.
    secret_params: tuple[str, ...] = ()
    #: All its jobs share the limit of this key, unless their caller names another.
    limit_key: str | None = None

    @property
    def attempt_number(self) -> int:
        """The number of the running attempt, from 1; 0 when the task is called directly."""
        attempt = current_attempt()
        return attempt.claimed.number if attempt is not None else 0

    @property
    def job_id(self) -> str | None:
        """The running job: also of a task that chunks, map or starmap call in theirs, whose own request has no id."""
        attempt = current_attempt()
        found: str | None = attempt.claimed.job_id if attempt is not None else self.request.id
        return found

    def progress(self, current: float, total: float | None = None, message: str = "") -> None:
        """Tell the page how far the job is; cheap, may be called for every row."""
        if (attempt := current_attempt()) is not None:
            write_progress(attempt.claimed, current, total, message)

    def retry(self, *args: Any, max_retries: int | None = None, **options: Any) -> Any:
        """As Celery's; a limit that the caller of the job set goes before the task's own."""
        if (attempt := current_attempt()) is not None:
            attempt.asked_by_retry = frozenset(options)
            if attempt.claimed.max_retries is not None:
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
            body, headers, decoded = _taken_apart(message, body)
            request = JobRequest(
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
            if request.hint.send is None:
                # A stranger's: whatever cannot become a row is found out here.
                request.wish  # noqa: B018 -- kept for the recorder
        except (*_UNREADABLE, BadArguments) as problem:
            # Celery makes it a dead letter; anything else would end the worker.
            raise InvalidTaskError(f"{type(problem).__name__}: {problem}") from problem
        recorder.offer(request)

    return take


def _taken_apart(message: Any, body: Any) -> tuple[Any, dict[str, Any], bool]:
    """Body, headers, and whether the body is decoded; of ours, nothing is decoded in the event loop."""
    if is_ours(message.headers) or (body is None and "args" not in message.payload):
        return message.body, message.headers, False
    if "args" in message.payload:
        return hybrid_to_proto2(message, message.payload)[:3]  # type: ignore[no-any-return]
    return proto1_to_proto2(message, body)[:3]  # type: ignore[no-any-return]
