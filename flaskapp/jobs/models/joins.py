"""A chord's join."""

from datetime import datetime

from sqlalchemy.orm import Mapped, mapped_column

from flaskapp.extensions import Base
from flaskapp.jobs.clock import UtcDateTime, now
from flaskapp.jobs.models.columns import JobId, LongText


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
