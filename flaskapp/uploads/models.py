"""What a person handed over, and the table that came of it. How far it is stands in its job."""

from datetime import datetime

from sqlalchemy import BigInteger, String
from sqlalchemy.orm import Mapped, mapped_column

from flaskapp.extensions import Base
from flaskapp.jobs.clock import UtcDateTime, now
from flaskapp.jobs.models import JobId, LongText


class Upload(Base):
    __tablename__ = "upload"

    #: Also the file's name in storage: nothing a person typed ever becomes a path.
    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    owner: Mapped[str] = mapped_column(String(80), index=True)
    #: As the browser named it, without folders and control characters; only for display.
    name: Mapped[str] = mapped_column(String(255))
    #: Bytes.
    size: Mapped[int] = mapped_column(BigInteger)
    #: SHA-256 of the content, in hex.
    digest: Mapped[str] = mapped_column(String(64))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now())
    job_id: Mapped[str] = mapped_column(JobId, index=True)

    #: The loaded table; set by the transaction that records the job's success, empty until then.
    table_name: Mapped[str | None] = mapped_column(String(63))
    #: The table of its bad rows: row number, reason, raw text.
    bad_table_name: Mapped[str | None] = mapped_column(String(63))
    rows: Mapped[int | None] = mapped_column(BigInteger)
    bad_rows: Mapped[int | None] = mapped_column(BigInteger)
    #: JSON: the dialect, and a profile of each column.
    report: Mapped[str | None] = mapped_column(LongText)
