"""One message in a worker's parent process, from its arrival to the end of its attempt in the pool.

Celery's own request settles through the backend on the event loop; this one only tells the recorder.
"""

import logging
import re
import time
from datetime import UTC, datetime
from typing import Any

from billiard.einfo import ExceptionInfo, ExceptionWithTraceback
from billiard.exceptions import TimeLimitExceeded, WorkerLostError
from celery.exceptions import InvalidTaskError
from celery.worker.request import Request
from celery.worker.state import task_ready
from kombu.transport.native_delayed_delivery import MAX_NUMBER_OF_BITS_TO_USE
from kombu.utils.json import dumps
from kombu.utils.objects import cached_property
from sqlalchemy.exc import InterfaceError, OperationalError

from flaskapp.broker.publisher import CRASHES_HEADER, SEND_HEADER
from flaskapp.jobs.outcomes import Claimed, Error, Hint, Outage, Outcome, Stopped, Wish, after_failure, clean_text
from flaskapp.worker import checks
from flaskapp.worker.attempt import CLAIM_KEY, Report, run
from flaskapp.worker.evidence import crashed

logger = logging.getLogger(__name__)
#: What a stock client's countdown puts before the queue's name (Celery's native delayed delivery).
_DELAY = re.compile(rf"^(?:[01]\.){{{MAX_NUMBER_OF_BITS_TO_USE}}}")


class JobRequest(Request):
    """A message that was offered; once claimed, the attempt it stands for."""

    id: str

    def __init__(self, message: Any, *, recorder: Any, headers: Any, **options: Any) -> None:
        if is_ours(headers):
            # The child decodes it: what cannot be decoded fails its job there, instead of stopping us here.
            super().__init__(message, headers=headers, **{**options, "body": ([], {}, None), "decoded": True})
            self._body = message.body
            self._content_type, self._content_encoding = message.content_type, message.content_encoding
        else:
            super().__init__(message, headers=headers, **options)
        self.id = self._request_dict["id"] = _name("id", self.id, 155)
        _check_time_limits(headers.get("timelimit"))
        # The row's priority counts. Kombu's own transports write 0 here, which a retry would take for its own.
        self._request_dict["delivery_info"]["priority"] = None
        self.recorder = recorder
        self.arrived = time.monotonic()
        self.claimed: Claimed | None = None
        self.was_handed_over = False
        self.finished = False
        #: Cancelled or rescued while it ran: its row is final or somebody else's, there is nothing to record.
        self.taken_away = False
        #: Bytes that its process had at most, as far as we looked.
        self.memory: int | None = None

    @property
    def hint(self) -> Hint:
        return hint_of(self.request_dict)

    @property
    def queue(self) -> str:
        """The queues are bound by their own names."""
        return _DELAY.sub("", str(self.delivery_info.get("routing_key") or "")) or "default"

    @property
    def is_suspect(self) -> bool:
        """It has lost a process before; ours only."""
        return is_ours(self.request_dict) and bool(self.request_dict.get(CRASHES_HEADER))

    @cached_property
    def wish(self) -> Wish:
        """The row for a message that somebody else sent (a Django site, a Node client)."""
        headers = self.request_dict
        args, kwargs, embed = self._payload
        if not (isinstance(args, list | tuple) and isinstance(kwargs, dict) and isinstance(embed or {}, dict)):
            raise InvalidTaskError("The body is not a list, a mapping and a mapping.")
        kept = {name: headers[name] for name in ("group", "group_index", "shadow") if headers.get(name) is not None}
        wish = Wish(
            task=self.type,
            args=dumps(list(args)),
            kwargs=dumps(kwargs),
            options=dumps({"headers": kept, "embed": {k: v for k, v in (embed or {}).items() if v}}),
            queue=self.queue,
            job_id=self.id,
            retries=checks.whole_number("retries", headers.get("retries") or 0, least=0),
            run_at=_utc(self._eta),
            expires_at=_utc(self._expires),
            root_id=self.root_id,
            parent_id=self.parent_id,
            limit_key=self.task.limit_key,
            group_id=headers.get("group"),
            counts_for=headers.get("group") if (embed or {}).get("chord") else None,
        )
        return checks.checked(wish)

    def execute_using_pool(self, pool: Any, **_: Any) -> Any:
        """Hand the claimed attempt to a pool child."""
        time_limit, soft_time_limit = self.time_limits or (None, None)
        return pool.apply_async(
            run,
            args=(
                self.type,
                {**self.request_dict, CLAIM_KEY: self.claimed},
                self.body,
                self.content_type,
                self.content_encoding,
            ),
            accept_callback=self.on_accepted,
            timeout_callback=self.on_timeout,
            callback=self.on_success,
            error_callback=self.on_failure,
            soft_timeout=soft_time_limit or self.task.soft_time_limit,
            timeout=time_limit or self.task.time_limit,
            correlation_id=self.id,
        )

    def on_accepted(self, pid: int, time_accepted: float) -> None:
        self.worker_pid = pid
        super().on_accepted(pid, time_accepted)
        if self.taken_away:
            # It was on its way to the process then.
            self.recorder.take_away([self.id])

    def on_success(self, report: Report | ExceptionInfo, **_: Any) -> None:
        """The child reported: it settled the attempt itself, or leaves it to us."""
        if isinstance(report, ExceptionInfo):
            # Threads and solo say so when a task asks its process to exit.
            self.on_failure(report)
            return
        task_ready(self, successful=True)
        self._finish(report.outcome, report.seconds)
        self.send_event("task-succeeded", result=report.summary, runtime=report.seconds)

    def on_failure(self, exc_info: Any, send_failed_event: bool = True, return_ok: bool = False) -> None:
        """The attempt ended outside the trace: its process is gone, or settling it failed."""
        task_ready(self)
        exc = exc_info.exception
        exc = exc.exc if isinstance(exc, ExceptionWithTraceback) else exc
        self._finish(self._unsettled(exc, str(exc_info.traceback)))
        self.send_event("task-failed", exception=repr(exc), traceback=str(exc_info.traceback))

    def on_timeout(self, soft: bool, timeout: float) -> None:
        if soft:
            logger.warning("job=%s passed its soft time limit of %s s", self.id, timeout)
            return
        task_ready(self)
        if self.claimed is not None:
            self._finish(_ran_too_long(self.claimed, timeout))

    def give_back(self, reason: str) -> None:
        """It never came to the pool."""
        if self.claimed is not None:
            self._finish(Stopped(self.claimed, reason))

    def _unsettled(self, exc: BaseException, traceback: str) -> Outcome | None:
        if self.claimed is None or self.taken_away:
            return None
        if isinstance(exc, WorkerLostError | SystemExit | KeyboardInterrupt):
            if self.recorder.was_killed_by_us(self.worker_pid):
                return Stopped(self.claimed, "Its process was stopped together with another job's.")
            return crashed(self.claimed, exc, self.worker_pid, self.memory)
        if isinstance(exc, TimeLimitExceeded):
            # The prefork pool tells it as the attempt's failure before it calls on_timeout.
            return _ran_too_long(self.claimed, *exc.args)
        if isinstance(exc, OperationalError | InterfaceError):
            return Outage(self.claimed, Error(type(exc).__name__, str(exc), traceback), "while it was settled")
        return after_failure(self.claimed, Error(type(exc).__name__, str(exc), traceback))

    def _finish(self, outcome: Outcome | None, seconds: float | None = None) -> None:
        if not self.finished:
            self.finished = True
            self.recorder.ended(self, outcome, seconds)


def _ran_too_long(claimed: Claimed, seconds: float) -> Outcome:
    error = Error("TimeLimitExceeded", f"It ran longer than its time limit of {seconds:g} s and was stopped.")
    return after_failure(claimed, error)


def is_ours(headers: Any) -> bool:
    return isinstance(headers, dict) and isinstance(headers.get(SEND_HEADER), int)


def hint_of(headers: dict[str, Any]) -> Hint:
    return Hint(_name("id", headers.get("id"), 155), headers[SEND_HEADER] if is_ours(headers) else None)


def _name(header: str, value: object, longest: int) -> str:
    """A text that every database can hold; raises InvalidTaskError for anything else that a stranger may send."""
    text = str(value) if isinstance(value, str | int) else ""
    if not 0 < len(text) <= longest or clean_text(text) != text:
        raise InvalidTaskError(f"{header} is not a text of 1 to {longest} characters.")
    return text


def _utc(moment: datetime | None) -> datetime | None:
    return None if moment is None else moment.astimezone(UTC)


def _check_time_limits(sent: object) -> None:
    is_pair = isinstance(sent, list | tuple) and len(sent) == 2
    if sent is not None and not (is_pair and all(limit is None or isinstance(limit, int | float) for limit in sent)):  # type: ignore[attr-defined]
        raise InvalidTaskError("timelimit is not a pair of numbers.")
