"""What is set for queues and keys, and the starts that a rate counts."""

from datetime import datetime

from sqlalchemy import Index, String
from sqlalchemy.orm import Mapped, mapped_column

from flaskapp.extensions import Base
from flaskapp.jobs.clock import UtcDateTime


class Queue(Base):
    """What is set for a queue; a queue without a row runs without limits."""

    __tablename__ = "queue"

    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    #: No job of it starts; empty together with the next: it runs.
    paused_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    #: What is at the broker still starts, and nothing more is sent there.
    draining_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
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
