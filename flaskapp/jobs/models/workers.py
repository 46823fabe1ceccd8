"""The live processes, and the probes that look for what they never got."""

from datetime import datetime

from sqlalchemy import BigInteger, String
from sqlalchemy.orm import Mapped, mapped_column

from flaskapp.extensions import Base
from flaskapp.jobs.clock import UtcDateTime, now
from flaskapp.jobs.models.columns import LongText


class Worker(Base):
    """One live process of the job core: a worker with its pool, or a beat."""

    __tablename__ = "worker"

    #: NAME@HOST plus a part that is new at every start.
    id: Mapped[str] = mapped_column(String(255), primary_key=True)
    #: `worker` or `beat`.
    kind: Mapped[str] = mapped_column(String(10))
    host: Mapped[str] = mapped_column(String(255))
    pid: Mapped[int]
    #: Names with commas between them; may be very many.
    queues: Mapped[str] = mapped_column(LongText, default="")
    concurrency: Mapped[int] = mapped_column(default=0)
    started_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now())
    heartbeat_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now())
    #: Counts heartbeats, so that a watcher needs no clock to see that they stopped.
    beats: Mapped[int] = mapped_column(default=0)
    #: JSON: {job id: attempt} that the worker really holds.
    holds: Mapped[str] = mapped_column(LongText, default="{}")
    #: JSON: ids of the jobs whose messages it has received and not yet claimed; empty while it does not listen.
    unclaimed: Mapped[str | None] = mapped_column(LongText)
    #: Jobs per second that its slots managed in the last seconds; empty while some are free or nothing is known.
    pace: Mapped[float | None]
    #: Memory of the process and its pool, in bytes.
    memory: Mapped[int | None] = mapped_column(BigInteger)
    #: JSON: the names of the tasks that it knows, so that others know whether anybody does.
    tasks: Mapped[str | None] = mapped_column(LongText)


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
