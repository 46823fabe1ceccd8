"""The one row per job, and the words for its state."""

from datetime import datetime
from enum import StrEnum

from sqlalchemy import CheckConstraint, Index, String, or_
from sqlalchemy.orm import Mapped, mapped_column

from flaskapp.extensions import Base
from flaskapp.jobs.clock import UtcDateTime, now
from flaskapp.jobs.models.columns import JobId, LongText

#: The queues that every installation has: one per subject, and one for the rest.
QUEUES = ("default", "uploads", "mail", "query")
#: The sender of a job that waits for other steps of its workflow (or failed with them): no relay takes it.
PARKED = "parked"


class JobState(StrEnum):
    #: Committed and ours to send; due at `run_at` (now, later, or after a retry's backoff).
    WAITING = "waiting"
    #: The broker confirmed its message.
    QUEUED = "queued"
    #: Leased by one worker, which holds its attempt.
    RUNNING = "running"
    #: Finished well, once. Deleted by prune.
    SUCCEEDED = "succeeded"
    #: Finished with an error; run_again puts it back.
    FAILED = "failed"
    #: Stopped by a person, expired, or given up by its own task; run_again puts it back.
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        return self in FINAL_STATES


FINAL_STATES = frozenset({JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED})


class Job(Base):
    """One request to run a task."""

    __tablename__ = "job"
    # Room on each page: the relay's reservation then touches no index, and costs PostgreSQL half.
    __table_args__ = {"postgresql_with": {"fillfactor": 70}}  # noqa: RUF012 -- SQLAlchemy's own way

    #: The Celery task id: UUIDv7 when we make it.
    id: Mapped[str] = mapped_column(JobId, primary_key=True)
    task: Mapped[str] = mapped_column(String(255))
    queue: Mapped[str] = mapped_column(String(64))
    state: Mapped[str] = mapped_column(String(9), default=JobState.WAITING)
    #: Higher goes first.
    priority: Mapped[int] = mapped_column(default=0)
    #: The name of the account that asked for it; empty for schedules and foreign messages.
    owner: Mapped[str | None] = mapped_column(String(80))

    #: JSON as it travels in the message.
    args: Mapped[str] = mapped_column(LongText, default="[]")
    kwargs: Mapped[str] = mapped_column(LongText, default="{}")
    #: JSON: what else Celery's message carries (`headers` and `embed`: links, chain, chord).
    options: Mapped[str] = mapped_column(LongText, default="{}")

    #: When it is due; for a scheduled job its nominal time.
    run_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now())
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now())
    #: When the broker's confirm arrived; empty while the job is ours to send.
    queued_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    started_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    finished_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    #: After this time a worker cancels it instead of running it.
    expires_at: Mapped[datetime | None] = mapped_column(UtcDateTime)

    #: While a relay is sending it, who and until when nobody else may.
    sender: Mapped[str | None] = mapped_column(String(36))
    sending_until: Mapped[datetime | None] = mapped_column(UtcDateTime)
    #: The number of its newest sending (a new attempt makes older ones stale); each message carries it, claim compares.
    sends: Mapped[int] = mapped_column(default=0)
    #: How often its message was found lost since it last started: each time doubles how long the next one is given.
    losses: Mapped[int] = mapped_column(default=0)

    #: How often it was claimed: the number that fences.
    attempt: Mapped[int] = mapped_column(default=0)
    #: What `max_retries` limits.
    retries: Mapped[int] = mapped_column(default=0)
    #: Lost pool children and dead leases; three park the job as failed.
    crashes: Mapped[int] = mapped_column(default=0)
    #: The caller's own limit; empty leaves it to the task.
    max_retries: Mapped[int | None]
    #: Seconds; empty leaves it to the task.
    time_limit: Mapped[float | None]
    soft_time_limit: Mapped[float | None]
    #: Keep no value.
    ignore_result: Mapped[bool] = mapped_column(default=False)
    #: Who holds the lease: the id of a row in `worker`.
    worker: Mapped[str | None] = mapped_column(String(255))

    #: JSON; empty also when the task returned nothing to keep.
    result: Mapped[str | None] = mapped_column(LongText)
    error_type: Mapped[str | None] = mapped_column(String(255))
    error_message: Mapped[str | None] = mapped_column(LongText)
    error_traceback: Mapped[str | None] = mapped_column(LongText)
    #: JSON: the exception's module and arguments, so that AsyncResult.get can raise it again.
    error_data: Mapped[str | None] = mapped_column(LongText)

    #: Jobs with the same key share its limit, if one is set (`job_limit`).
    limit_key: Mapped[str | None] = mapped_column(String(255))
    unique_key: Mapped[str | None] = mapped_column(String(255))
    #: The unique key while the job is not final; MariaDB has no partial index.
    live_key: Mapped[str | None] = mapped_column(String(255), unique=True)
    #: The schedule that asked for it.
    schedule: Mapped[str | None] = mapped_column(String(255))
    root_id: Mapped[str | None] = mapped_column(JobId)
    parent_id: Mapped[str | None] = mapped_column(JobId)
    group_id: Mapped[str | None] = mapped_column(JobId)
    #: The join (a row of `job_join`) that its success counts down: it is a member of a chord.
    counts_for: Mapped[str | None] = mapped_column(JobId)

    @property
    def is_final(self) -> bool:
        return JobState(self.state).is_final

    @property
    def is_parked(self) -> bool:
        """It waits for other steps of its workflow, not for a time or a worker."""
        return self.sender == PARKED


_final = Job.state.in_(sorted(FINAL_STATES))
Job.__table__.append_constraint(  # type: ignore[attr-defined]
    CheckConstraint(Job.state.in_(list(JobState)), name="job_state_is_known")
)
Job.__table__.append_constraint(  # type: ignore[attr-defined]
    CheckConstraint(
        or_(_final & Job.finished_at.is_not(None), ~_final & Job.finished_at.is_(None)),
        name="job_final_means_finished",
    )
)
Job.__table__.append_constraint(  # type: ignore[attr-defined]
    CheckConstraint(
        or_(Job.state != JobState.RUNNING, Job.worker.is_not(None) & (Job.attempt > 0)),
        name="job_running_means_leased",
    )
)
Index("job_due", Job.state, Job.run_at)
#: What the relay takes next, queue by queue and priority by priority, and how much of a queue stands at the broker.
Index("job_line", Job.state, Job.queue, Job.priority, Job.run_at, Job.id)
Index("job_pages", Job.created_at, Job.id)
Index("job_pages_by_state", Job.state, Job.created_at, Job.id)
Index("job_pages_by_task", Job.task, Job.created_at, Job.id)
Index("job_pages_by_queue", Job.queue, Job.created_at, Job.id)
Index("job_pages_by_owner", Job.owner, Job.created_at, Job.id)
Index("job_prunable", Job.state, Job.finished_at)
Index("job_children", Job.parent_id)
Index("job_of_limit", Job.limit_key, Job.state)
Index("job_expiring", Job.state, Job.expires_at)
Index("job_tree", Job.root_id)
