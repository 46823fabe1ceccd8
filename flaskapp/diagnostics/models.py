"""One table that drills count: each row is an effect that must have happened exactly once."""

from datetime import datetime

from sqlalchemy import String
from sqlalchemy.orm import Mapped, mapped_column

from flaskapp.extensions import Base
from flaskapp.jobs.clock import UtcDateTime, now


class Effect(Base):
    __tablename__ = "effect"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    #: Chosen by whoever asked; not unique, so that a doubled effect shows.
    key: Mapped[str] = mapped_column(String(255), index=True)
    job_id: Mapped[str] = mapped_column(String(155))
    attempt: Mapped[int]
    at: Mapped[datetime] = mapped_column(UtcDateTime, default=now())
