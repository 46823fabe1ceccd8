"""What people wrote, and one row for each address it goes to: how far that is, and what the server said.

The counters of a message are a GROUP BY over its recipients; nothing is counted twice or kept apart.
"""

from datetime import datetime
from enum import StrEnum

from sqlalchemy import BigInteger, CheckConstraint, Index, Integer, String
from sqlalchemy.orm import Mapped, mapped_column

from flaskapp.extensions import Base
from flaskapp.jobs.clock import UtcDateTime, now
from flaskapp.jobs.models import JobId, LongText

#: SQLite counts only plain integers up by itself.
RowId = BigInteger().with_variant(Integer, "sqlite")


class RecipientState(StrEnum):
    #: To be sent from `next_at` on.
    QUEUED = "queued"
    #: Committed before the content leaves; only the attempt that is named in the row may end it.
    SENDING = "sending"
    #: The server took it; `reply` is what it said.
    ACCEPTED = "accepted"
    #: The server said "later", or could not be asked; tried again at `next_at`.
    DEFERRED = "deferred"
    #: The server refused it for good.
    REJECTED = "rejected"
    #: The address wants no mail from here.
    SUPPRESSED = "suppressed"
    CANCELLED = "cancelled"
    #: Not sent in time.
    EXPIRED = "expired"
    #: The worker or the connection died between the content and the answer: nobody can know.
    UNKNOWN = "unknown"


#: What is still to be done.
OPEN_STATES = (RecipientState.QUEUED, RecipientState.DEFERRED)
UNFINISHED_STATES = (*OPEN_STATES, RecipientState.SENDING)
#: What `retry` takes up; unknown only if asked for, because it may have arrived.
FAILED_STATES = (RecipientState.REJECTED, RecipientState.EXPIRED)


class Message(Base):
    __tablename__ = "mail_message"

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    owner: Mapped[str] = mapped_column(String(80))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now())
    sender: Mapped[str] = mapped_column(String(320))
    reply_to: Mapped[str | None] = mapped_column(String(320))
    subject: Mapped[str] = mapped_column(LongText)
    text: Mapped[str] = mapped_column(LongText)
    html: Mapped[str | None] = mapped_column(LongText)
    #: Subject and bodies are templates; each recipient has its variables.
    is_template: Mapped[bool] = mapped_column(default=False)
    #: Each mail carries a signed link by which its reader leaves the list.
    can_unsubscribe: Mapped[bool] = mapped_column(default=False)
    #: The sender prefers twice over never: `unknown` is sent again.
    at_least_once: Mapped[bool] = mapped_column(default=False)
    send_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now())
    #: What was not sent by then is given up.
    expires_at: Mapped[datetime] = mapped_column(UtcDateTime)
    #: How many jobs send it side by side, each its own share of the recipients.
    lanes: Mapped[int] = mapped_column(default=1)
    #: All recipients are there. Until then nothing is sent.
    is_ready: Mapped[bool] = mapped_column(default=True)
    paused_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    #: The job that somebody cancelled, and the message with it.
    stopped_job_id: Mapped[str | None] = mapped_column(JobId)
    #: From then on nobody is sent to, until somebody retries the failed.
    cancelled_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    #: Why nothing of it can be sent; for the person.
    problem: Mapped[str | None] = mapped_column(LongText)
    #: The job that makes its recipients, or sends the first share.
    job_id: Mapped[str | None] = mapped_column(JobId, index=True)
    #: Of the contact form: the network it came from, and in a second line the account, if somebody was signed in.
    origin: Mapped[str | None] = mapped_column(String(255))


class Recipient(Base):
    __tablename__ = "mail_recipient"

    id: Mapped[int] = mapped_column(RowId, primary_key=True, autoincrement=True)
    message_id: Mapped[str] = mapped_column(String(36))
    #: Its place in the message, from 0; also which lane sends it.
    number: Mapped[int]
    address: Mapped[str] = mapped_column(String(320))
    #: How it is called in the To line.
    name: Mapped[str] = mapped_column(String(255), default="")
    domain: Mapped[str] = mapped_column(String(255))
    #: JSON: what its template is filled with.
    variables: Mapped[str | None] = mapped_column(LongText)
    state: Mapped[str] = mapped_column(String(10), default=RecipientState.QUEUED)
    #: What the server said, literally, or why there is no answer.
    reply: Mapped[str | None] = mapped_column(LongText)
    tries: Mapped[int] = mapped_column(default=0)
    next_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now())
    changed_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now())
    #: Whose attempt sends it, while it is sending.
    job_id: Mapped[str | None] = mapped_column(JobId)
    attempt: Mapped[int | None]


Recipient.__table__.append_constraint(  # type: ignore[attr-defined]
    CheckConstraint(Recipient.state.in_(list(RecipientState)), name="mail_recipient_state_is_known")
)
Recipient.__table__.append_constraint(  # type: ignore[attr-defined]
    CheckConstraint(
        (Recipient.state != RecipientState.SENDING) | Recipient.job_id.is_not(None), name="mail_sending_means_held"
    )
)
Index("mail_message_pages", Message.created_at, Message.id)
Index("mail_message_pages_by_owner", Message.owner, Message.created_at, Message.id)
Index("mail_recipient_place", Recipient.message_id, Recipient.number, unique=True)
Index("mail_recipient_due", Recipient.message_id, Recipient.state, Recipient.number)
Index("mail_recipient_states", Recipient.state, Recipient.next_at, Recipient.message_id)


class Attachment(Base):
    """A file of a message. Its bytes lie in storage once, however many messages carry them."""

    __tablename__ = "mail_attachment"

    id: Mapped[int] = mapped_column(RowId, primary_key=True, autoincrement=True)
    message_id: Mapped[str] = mapped_column(String(36), index=True)
    #: The file's name in storage.
    file_id: Mapped[str] = mapped_column(String(36))
    name: Mapped[str] = mapped_column(String(255))
    content_type: Mapped[str] = mapped_column(String(100))
    size: Mapped[int] = mapped_column(BigInteger)
    digest: Mapped[str] = mapped_column(String(64), index=True)


class Suppression(Base):
    """An address that gets no more mail from here."""

    __tablename__ = "mail_suppression"

    #: In lower case.
    address: Mapped[str] = mapped_column(String(320), primary_key=True)
    reason: Mapped[str] = mapped_column(String(255))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now())


class ReplyTemplate(Base):
    """A text that people send again and again."""

    __tablename__ = "mail_template"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    name: Mapped[str] = mapped_column(String(80), unique=True)
    subject: Mapped[str] = mapped_column(LongText)
    text: Mapped[str] = mapped_column(LongText)
    changed_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now())


class Route(Base):
    """One way out: the server (its name is empty) or a destination domain. Its row is what all workers agree on."""

    __tablename__ = "mail_route"

    name: Mapped[str] = mapped_column(String(255), primary_key=True)
    #: Before this the rate lets nobody go.
    next_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now())
    #: Before this nobody tries, because the server said so.
    held_until: Mapped[datetime | None] = mapped_column(UtcDateTime)
    #: How often in a row it had to wait; the pause doubles with each.
    strikes: Mapped[int] = mapped_column(default=0)
    reason: Mapped[str | None] = mapped_column(LongText)
