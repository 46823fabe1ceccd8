"""The rhythms, and what became of each due time."""

from datetime import datetime

from sqlalchemy import Index, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from flaskapp.extensions import Base
from flaskapp.jobs.clock import UtcDateTime, now
from flaskapp.jobs.models.columns import JobId, LongText


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
