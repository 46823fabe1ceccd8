"""What is remembered beside a job's row: replaced attempts, progress, and the tally of the account."""

from datetime import datetime

from sqlalchemy import String
from sqlalchemy.orm import Mapped, mapped_column

from flaskapp.extensions import Base
from flaskapp.jobs.clock import UtcDateTime, now
from flaskapp.jobs.models.columns import JobId, LongText


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
