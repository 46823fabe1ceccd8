"""What was asked, and what came of it; questions that are kept; and who may see what on which connection."""

from datetime import datetime

from sqlalchemy import BigInteger, Double, ForeignKey, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from flaskapp.extensions import Base
from flaskapp.jobs.clock import UtcDateTime, now
from flaskapp.jobs.models import JobId, LongText


class SavedQuery(Base):
    """A question with a name. Everybody may run one, each with their own rights."""

    __tablename__ = "saved_query"

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    owner: Mapped[str] = mapped_column(String(80), index=True)
    name: Mapped[str] = mapped_column(String(120))
    sql: Mapped[str] = mapped_column(LongText)
    #: JSON: the values that `:name` has unless somebody gives others.
    parameters: Mapped[str] = mapped_column(LongText, default="{}")
    #: JSON: what kind of chart, and of which columns; empty until one was chosen.
    chart: Mapped[str | None] = mapped_column(LongText)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now())
    changed_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now())

    #: Five fields of a crontab in `timezone`; empty: it runs when somebody asks.
    crontab: Mapped[str | None] = mapped_column(String(120))
    timezone: Mapped[str] = mapped_column(String(64), default="UTC")
    #: The nominal time of its next run; beats compare and swap it.
    next_due_at: Mapped[datetime | None] = mapped_column(UtcDateTime, index=True)
    #: Addresses, one a line, that get each scheduled answer.
    mail_to: Mapped[str] = mapped_column(LongText, default="")
    #: An alert: the column whose value in any row is compared, how (">", "<", …), and with what.
    alert_column: Mapped[str | None] = mapped_column(String(255))
    alert_sign: Mapped[str | None] = mapped_column(String(2))
    alert_value: Mapped[float | None] = mapped_column(Double)
    #: Since when the threshold is crossed, as the newest scheduled run saw it.
    alert_since: Mapped[datetime | None] = mapped_column(UtcDateTime)

    @property
    def alert_number(self) -> str:
        """Every digit of it: the form sends it back."""
        return "" if self.alert_value is None else repr(self.alert_value).removesuffix(".0")

    @property
    def alert_words(self) -> str:
        return f"{self.alert_column} {self.alert_sign} {self.alert_number}"


class QueryRun(Base):
    """One question that was asked. How far it is stands in its job."""

    __tablename__ = "query_run"

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    #: Whose rights it runs with.
    owner: Mapped[str] = mapped_column(String(80))
    sql: Mapped[str] = mapped_column(LongText)
    #: JSON, by name.
    parameters: Mapped[str] = mapped_column(LongText, default="{}")
    saved_id: Mapped[str | None] = mapped_column(ForeignKey("saved_query.id"), index=True)
    job_id: Mapped[str] = mapped_column(JobId, index=True)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now())

    #: True: it goes on when the page that asked is closed.
    keep: Mapped[bool] = mapped_column(default=True)
    #: Since when that page is closed; empty while it is open, or if nobody would tell.
    left_at: Mapped[datetime | None] = mapped_column(UtcDateTime)

    #: JSON: the columns' names; set by the transaction that records the job's success, empty until then.
    columns: Mapped[str | None] = mapped_column(LongText)
    #: JSON: the kept rows as lists. Only fetched where it is shown.
    rows: Mapped[str | None] = mapped_column(LongText, deferred=True)
    row_count: Mapped[int | None]
    #: True if there was more than is kept.
    truncated: Mapped[bool] = mapped_column(default=False)
    #: Of the question itself, without the time it waited.
    seconds: Mapped[float | None] = mapped_column(Double)
    #: What the database said it would do.
    plan: Mapped[str | None] = mapped_column(LongText)
    #: One sentence: why there is no answer.
    error: Mapped[str | None] = mapped_column(LongText)


Index("query_run_history", QueryRun.owner, QueryRun.created_at)


class QueryPass(Base):
    """What a connection of the account for questions may see. The views look here; that account cannot."""

    __tablename__ = "query_pass"

    #: PostgreSQL's backend, MariaDB's thread: the server says it, the question cannot change it.
    connection: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    owner: Mapped[str] = mapped_column(String(80))
    sees_all: Mapped[bool]
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now())
