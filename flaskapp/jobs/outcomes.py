"""What passes between the rooms: a wish to be submitted, a hint that a job is due, a claim, and how it ended."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement

from flaskapp.jobs.clock import seconds_from_now
from flaskapp.jobs.models import Job
from flaskapp.jobs.retry import backoff_seconds, retry_is_left


@dataclass(frozen=True)
class Wish:
    """One request to run a task, before it is a row. `args` and `kwargs` are JSON texts."""

    task: str
    args: str = "[]"
    kwargs: str = "{}"
    queue: str = "default"
    #: JSON: what else Celery's message carries.
    options: str = "{}"
    #: Kept as it is (up to 155 characters); None lets submit make one.
    job_id: str | None = None
    priority: int = 0
    owner: str | None = None
    #: Due at this moment, or after so many seconds of the database's clock; both empty: now.
    run_at: datetime | None = None
    delay_seconds: float | None = None
    #: At this moment, or so many seconds from now by the database's clock.
    expires_at: datetime | None = None
    expires_seconds: float | None = None
    unique_key: str | None = None
    limit_key: str | None = None
    max_retries: int | None = None
    retries: int = 0
    time_limit: float | None = None
    soft_time_limit: float | None = None
    ignore_result: bool = False
    schedule: str | None = None
    root_id: str | None = None
    parent_id: str | None = None
    group_id: str | None = None
    #: The join that its success counts down.
    counts_for: str | None = None
    #: It stays waiting until another step of its workflow makes it due.
    parked: bool = False

    @property
    def expiry(self) -> datetime | ColumnElement[datetime] | None:
        """What its row says: a moment, or one that the database works out; None if it never expires."""
        return self.expires_at if self.expires_seconds is None else seconds_from_now(self.expires_seconds)

    def columns(self) -> dict[str, Any]:
        """The columns of the job row that are the same words as here."""
        apart = {"job_id", "run_at", "delay_seconds", "expires_seconds", "parked"}
        return {name: getattr(self, name) for name in self.__dataclass_fields__ if name not in apart}


@dataclass(frozen=True)
class Hint:
    """A message: the job may be due. `send` is its sending's number; None if somebody else sent it."""

    job_id: str
    send: int | None = None


@dataclass(frozen=True)
class Claimed:
    """A worker's right to one attempt of one job."""

    job_id: str
    number: int
    worker: str
    retries: int = 0
    max_retries: int | None = None
    owner: str | None = None
    ignore_result: bool = False
    #: It fell under a limit: when it ends, another may start.
    limited: bool = False


@dataclass(frozen=True)
class Error:
    """What went wrong, as text: safe for every database."""

    type: str
    message: str
    traceback: str | None = None
    #: JSON: the exception's module and arguments.
    data: str | None = None

    def __post_init__(self) -> None:
        # PostgreSQL refuses NUL in text, and every driver refuses a lone surrogate.
        for name in ("type", "message", "traceback"):
            if (text := getattr(self, name)) is not None:
                object.__setattr__(self, name, clean_text(text))

    @classmethod
    def of_row(cls, job: Job) -> "Error | None":
        if job.error_type is None:
            return None
        return cls(job.error_type, job.error_message or "", job.error_traceback, job.error_data)


def clean_text(text: str) -> str:
    return text.replace("\x00", "�").encode("utf-8", "replace").decode()


@dataclass(frozen=True)
class Succeeded:
    claimed: Claimed
    #: JSON; None keeps no value.
    result: str | None = None
    #: Jobs that it added to the chord of which it is a member.
    more_members: tuple[str, ...] = ()


@dataclass(frozen=True)
class Failed:
    claimed: Claimed
    error: Error


@dataclass(frozen=True)
class RetryLater:
    """Try again: after `delay_seconds`, or at `run_at`. `changes` are new values for the row (args, retries …)."""

    claimed: Claimed
    error: Error | None
    delay_seconds: float = 0
    run_at: datetime | None = None
    #: It waits for a later submit with its id (a task replaced by a chain), not for a time.
    parked: bool = False
    changes: dict[str, Any] = field(default_factory=dict)


def after_failure(claimed: Claimed, error: Error) -> "Failed | RetryLater":
    """What a failure of any kind leads to: the retry that the caller's own limit still allows, or the end."""
    retries, limit = claimed.retries, claimed.max_retries
    if limit is not None and retry_is_left(retries, limit):
        return RetryLater(claimed, error, backoff_seconds(retries), changes={"retries": retries + 1})
    return Failed(claimed, error)


@dataclass(frozen=True)
class Stopped:
    """The worker was asked to stop before the job was done."""

    claimed: Claimed
    reason: str = "Its worker was asked to stop."


@dataclass(frozen=True)
class Outage:
    """Our database went away under the attempt; the error is what was seen of it, `moment` says `while …`."""

    claimed: Claimed
    error: Error
    moment: str


@dataclass(frozen=True)
class Crashed:
    """The process that ran it is gone; the error carries the evidence."""

    claimed: Claimed
    error: Error
    #: The evidence in a few words: `signal 9, 2.1 GB`.
    brief: str = ""


@dataclass(frozen=True)
class Ignored:
    claimed: Claimed
    reason: str = ""


Outcome = Succeeded | Failed | RetryLater | Stopped | Outage | Crashed | Ignored
