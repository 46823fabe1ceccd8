"""The memory: one row per job, and the few small tables beside it.

The rows are the truth; brokers and workers are only hints. Invariants stand as CHECK constraints.
Nothing here knows Flask, Celery or Kombu.
"""

from datetime import datetime
from enum import StrEnum

from sqlalchemy import BigInteger, CheckConstraint, Index, LargeBinary, String, Text, UniqueConstraint, or_
from sqlalchemy.dialects import mysql
from sqlalchemy.orm import Mapped, mapped_column

from flaskapp.extensions import Base
from flaskapp.jobs.clock import UtcDateTime, now

#: MariaDB's TEXT ends at 65,535 bytes.
LongText = Text().with_variant(mysql.LONGTEXT(), "mysql", "mariadb")
LongBytes = LargeBinary().with_variant(mysql.LONGBLOB(), "mysql", "mariadb")
#: The queues that every installation has: one per subject, and one for the rest.
QUEUES = ("default", "uploads", "mail", "query")
#: Celery's longest id; ids from callers and canvas are kept as they are.
JobId = String(155)
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


class Join(Base):
    """A chord's join: how many of its members have not succeeded yet; the last one's settlement makes the body due."""

    __tablename__ = "job_join"

    #: Joins are locked from the highest number down: whatever follows a join was written before it.
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    #: The id of the header's group, as Celery gave it.
    id: Mapped[str] = mapped_column(JobId, unique=True)
    #: JSON: the members' job ids in the order of their results; a list inside stands for a group.
    members: Mapped[str] = mapped_column(LongText)
    #: JSON: the parked jobs that become due with it; several if the body is a group.
    bodies: Mapped[str] = mapped_column(LongText)
    total: Mapped[int]
    missing: Mapped[int]
    #: The job that failed (or was cancelled), so that the body cannot run; run_again of it reopens the join.
    broken_by: Mapped[str | None] = mapped_column(JobId)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now())
    #: When the body became due, or could no longer.
    finished_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class Attempt(Base):
    """An attempt that a later one replaced; the last attempt of a job stands in its own row."""

    __tablename__ = "attempt"

    job_id: Mapped[str] = mapped_column(JobId, primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    worker: Mapped[str | None] = mapped_column(String(255))
    started_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    finished_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now())
    #: retried, stopped, crashed, rescued, failed, cancelled: why it was not the last.
    outcome: Mapped[str] = mapped_column(String(12))
    error_type: Mapped[str | None] = mapped_column(String(255))
    error_message: Mapped[str | None] = mapped_column(LongText)
    error_traceback: Mapped[str | None] = mapped_column(LongText)


class Progress(Base):
    """How far a running job says it is; written on a connection of its own."""

    __tablename__ = "job_progress"

    job_id: Mapped[str] = mapped_column(JobId, primary_key=True)
    attempt: Mapped[int]
    current: Mapped[float]
    total: Mapped[float | None]
    message: Mapped[str] = mapped_column(String(500), default="")
    #: What `update_state` set: Celery's state word and JSON.
    state: Mapped[str | None] = mapped_column(String(50))
    meta: Mapped[str | None] = mapped_column(LongText)
    at: Mapped[datetime] = mapped_column(UtcDateTime, default=now())


class Tally(Base):
    """What was accepted and pruned, counted on its own, so that a row deleted by hand raises the alarm."""

    __tablename__ = "job_tally"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    accepted: Mapped[int] = mapped_column(default=0)
    pruned: Mapped[int] = mapped_column(default=0)


class DeadLetter(Base):
    """A message that could not be delivered as a job: kept until somebody looks, or KEEP_FAILED_DAYS pass."""

    __tablename__ = "dead_letter"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    at: Mapped[datetime] = mapped_column(UtcDateTime, default=now())
    #: rejected, expired, maxlen, delivery_limit (the broker's words); malformed, unknown task, no job, stray (ours).
    reason: Mapped[str] = mapped_column(String(30))
    #: What else is known, as a sentence.
    detail: Mapped[str] = mapped_column(String(500), default="")
    #: Where it died.
    queue: Mapped[str | None] = mapped_column(String(255))
    exchange: Mapped[str] = mapped_column(String(255), default="")
    routing_key: Mapped[str] = mapped_column(String(255), default="")
    #: What its headers say, if that can be an id and a name; without a row of that id it never runs by itself.
    job_id: Mapped[str | None] = mapped_column(JobId)
    task: Mapped[str | None] = mapped_column(String(255))
    #: The number of our own sending; empty if somebody else sent it.
    send: Mapped[int | None]
    #: JSON.
    headers: Mapped[str] = mapped_column(LongText, default="{}")
    content_type: Mapped[str | None] = mapped_column(String(255))
    #: The beginning of the body; `size` is that of the whole.
    payload: Mapped[bytes] = mapped_column(LongBytes, default=b"")
    size: Mapped[int] = mapped_column(BigInteger, default=0)
    #: The same for the same death of the same message, however often the broker delivers it.
    fingerprint: Mapped[str] = mapped_column(String(64), index=True)
    #: When and by whom it was made a job again.
    replayed_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    replayed_by: Mapped[str | None] = mapped_column(String(80))


Index("dead_letter_prunable", DeadLetter.at)
Index("dead_letter_of_job", DeadLetter.job_id)


class Worker(Base):
    """One live process of the job core: a worker with its pool, or a beat."""

    __tablename__ = "worker"

    #: NAME@HOST plus a part that is new at every start.
    id: Mapped[str] = mapped_column(String(255), primary_key=True)
    #: `worker` or `beat`.
    kind: Mapped[str] = mapped_column(String(10))
    host: Mapped[str] = mapped_column(String(255))
    pid: Mapped[int]
    queues: Mapped[str] = mapped_column(String(1000), default="")
    concurrency: Mapped[int] = mapped_column(default=0)
    started_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now())
    heartbeat_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now())
    #: Counts heartbeats, so that a watcher needs no clock to see that they stopped.
    beats: Mapped[int] = mapped_column(default=0)
    #: JSON: {job id: attempt} that the worker really holds.
    holds: Mapped[str] = mapped_column(LongText, default="{}")
    #: JSON: ids of the jobs whose messages it has received and not yet claimed; empty while it does not listen.
    unclaimed: Mapped[str | None] = mapped_column(LongText)
    #: Jobs per second that its slots manage, judged by its latest ones; empty until it has run one.
    pace: Mapped[float | None]
    #: Memory of the process and its pool, in bytes.
    memory: Mapped[int | None] = mapped_column(BigInteger)
    #: JSON: the names of the tasks that it knows, so that others know whether anybody does.
    tasks: Mapped[str | None] = mapped_column(LongText)


class Queue(Base):
    """What is set for a queue; a queue without a row runs without limits."""

    __tablename__ = "queue"

    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    paused_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    #: The same words as in `job_limit`.
    max_running: Mapped[int | None]
    rate_count: Mapped[int | None]
    rate_seconds: Mapped[float | None]


class Limit(Base):
    """What the jobs of one `limit_key` share, in whichever queues they stand; a key without a row is not limited."""

    __tablename__ = "job_limit"

    key: Mapped[str] = mapped_column(String(255), primary_key=True)
    #: At most so many run at a time; empty: any number.
    max_running: Mapped[int | None]
    #: At most so many start in any span of `rate_seconds`; both are empty or neither.
    rate_count: Mapped[int | None]
    rate_seconds: Mapped[float | None]


class Start(Base):
    """When a job under a rate started; kept as long as it counts."""

    __tablename__ = "job_start"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    #: Whose rate it counts for: a `key` or a `queue`, and its name.
    kind: Mapped[str] = mapped_column(String(5))
    name: Mapped[str] = mapped_column(String(255))
    at: Mapped[datetime] = mapped_column(UtcDateTime)


Index("job_start_of_limit", Start.kind, Start.name, Start.at)


class Probe(Base):
    """What is known about the messages of a queue: the numbered probe that goes through it, and the broker's count."""

    __tablename__ = "probe"

    queue: Mapped[str] = mapped_column(String(64), primary_key=True)
    #: Of the newest probe.
    number: Mapped[int] = mapped_column(default=0)
    #: When it was sent; empty while none is under way.
    sent_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    #: When a worker received it; a margin later it is looked who should have come before it.
    seen_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    #: How many went missing since one was last seen.
    missing: Mapped[int] = mapped_column(default=0)
    #: JSON: up to twenty of the jobs whose messages were proven lost at the last look, how many there were, and when.
    lost_ids: Mapped[str] = mapped_column(LongText, default="[]")
    lost: Mapped[int] = mapped_column(default=0)
    looked_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    #: How many messages the broker says are ready there (empty: it cannot tell), and when it last answered.
    messages: Mapped[int | None]
    #: At that moment: queued jobs in no worker's hands, less messages.
    gap: Mapped[int | None]
    answered_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class Schedule(Base):
    """A named rhythm that submits jobs; the entry itself is Python (beat_schedule.py), its memory is here."""

    __tablename__ = "schedule"

    name: Mapped[str] = mapped_column(String(255), primary_key=True)
    task: Mapped[str] = mapped_column(String(255))
    #: The rhythm as people read it, e.g. `every 60 s` or `0 3 * * *`.
    rhythm: Mapped[str] = mapped_column(String(255))
    #: Whose clock a crontab reads.
    timezone: Mapped[str] = mapped_column(String(64), default="UTC", server_default="UTC")
    #: What happens to times that nobody saw in time: skip, latest or all.
    missed: Mapped[str] = mapped_column(String(6), default="latest", server_default="latest")
    #: What happens while the job before is not final: allow or skip.
    overlap: Mapped[str] = mapped_column(String(5), default="allow", server_default="allow")
    #: JSON: what beat submits, so that other processes can without the entry; empty until a beat saw it.
    wish: Mapped[str | None] = mapped_column(LongText)
    #: What intervals count from.
    anchor_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    #: Up to here every due time is decided: it became a job, or a firing says why not. Beats compare and swap it.
    last_due_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now())
    next_due_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    #: When a beat last looked whether it was due, give or take some seconds.
    looked_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    paused_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    paused_by: Mapped[str | None] = mapped_column(String(80))
    #: When the last pause ended; what was due before is not made up.
    resumed_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    #: Since when no beat finds the entry in its code.
    gone_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    #: One sentence if its entry cannot be used.
    problem: Mapped[str | None] = mapped_column(String(500))
    last_job_id: Mapped[str | None] = mapped_column(JobId)

    @property
    def last_time(self) -> datetime | None:
        """The newest due time that was decided; None if none was yet."""
        return self.last_due_at if self.anchor_at is not None and self.last_due_at > self.anchor_at else None

    @property
    def next_time(self) -> datetime | None:
        """When it is due next; None if it is not going to be."""
        return None if self.paused_at or self.gone_at or self.problem else self.next_due_at


class Firing(Base):
    """What became of a due time: a job, or the reason why not. Written in the transaction that decides."""

    __tablename__ = "firing"
    __table_args__ = (
        # The database's own word that a schedule fires once per due time; empty times (by hand) do not collide.
        UniqueConstraint("schedule", "due_at", name="firing_once_per_due_time"),
        Index("firing_history", "schedule", "id"),
    )

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    schedule: Mapped[str] = mapped_column(String(255))
    #: The nominal due time, or the first of several; empty if a person asked.
    due_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    #: The last of several due times with one reason.
    until_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    #: How many they were; empty: too many to count.
    times: Mapped[int | None] = mapped_column(default=1)
    #: fired, asked (by a person), missed, skipped, paused.
    outcome: Mapped[str] = mapped_column(String(8))
    #: Why it made no job, as the end of a sentence; or who asked.
    reason: Mapped[str | None] = mapped_column(String(500))
    job_id: Mapped[str | None] = mapped_column(JobId)
    #: When it was decided.
    at: Mapped[datetime] = mapped_column(UtcDateTime, default=now())
