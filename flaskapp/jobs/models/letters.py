"""Messages that could not be jobs."""

from datetime import datetime

from sqlalchemy import BigInteger, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from flaskapp.extensions import Base
from flaskapp.jobs.clock import UtcDateTime, now
from flaskapp.jobs.models.columns import JobId, LongBytes, LongText


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
