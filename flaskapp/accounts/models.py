"""Who may come in: accounts, their sign-ins and tokens, and what they did.

Secrets are kept as hashes only: a copy of these tables opens no door. Names never change and are never used
again, because jobs and audit entries remember people by name.
"""

from datetime import datetime
from enum import StrEnum

from sqlalchemy import ForeignKey, String
from sqlalchemy.orm import Mapped, mapped_column

from flaskapp.extensions import Base
from flaskapp.jobs.clock import UtcDateTime, now

#: The longest name of an account; job.owner holds as much.
NAME_LENGTH = 80


class Role(StrEnum):
    #: Submits work, and sees and steers their own.
    VIEWER = "viewer"
    #: Sees and steers everybody's jobs, queues and schedules.
    OPERATOR = "operator"
    #: Adds accounts and lets them in or out, too.
    ADMIN = "admin"

    def includes(self, other: "Role") -> bool:
        order = list(Role)
        return order.index(self) >= order.index(other)


class Account(Base):
    __tablename__ = "account"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    name: Mapped[str] = mapped_column(String(NAME_LENGTH), unique=True)
    #: scrypt, with its own salt and cost.
    password_hash: Mapped[str] = mapped_column(String(255))
    role: Mapped[str] = mapped_column(String(10), default=Role.VIEWER)
    #: False closes every door at once: sign-ins and tokens too.
    is_active: Mapped[bool] = mapped_column(default=True)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now())


class SignIn(Base):
    """One browser that is signed in; signing out deletes the row, so that a copied cookie is worth nothing."""

    __tablename__ = "sign_in"

    #: SHA-256 of the random key in the session cookie.
    key_hash: Mapped[str] = mapped_column(String(64), primary_key=True)
    account_id: Mapped[int] = mapped_column(ForeignKey("account.id"), index=True)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now(), index=True)
    address: Mapped[str] = mapped_column(String(45), default="")


class Token(Base):
    """A key for scripts; acts with the role of its account."""

    __tablename__ = "token"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    #: SHA-256 of the whole token: 256 random bits need no slow hash.
    token_hash: Mapped[str] = mapped_column(String(64), unique=True)
    #: The first characters, so that people can tell their tokens apart.
    prefix: Mapped[str] = mapped_column(String(16))
    name: Mapped[str] = mapped_column(String(80))
    account_id: Mapped[int] = mapped_column(ForeignKey("account.id"), index=True)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now())
    #: Exact to a minute.
    last_used_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    revoked_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class AuditEntry(Base):
    """One changing action: who did what to which thing, from where."""

    __tablename__ = "audit_entry"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    at: Mapped[datetime] = mapped_column(UtcDateTime, default=now(), index=True)
    #: The account's name; empty when nobody is known.
    account: Mapped[str] = mapped_column(String(NAME_LENGTH), default="")
    action: Mapped[str] = mapped_column(String(80))
    #: The job, queue, account … it was done to.
    subject: Mapped[str] = mapped_column(String(255), default="")
    detail: Mapped[str] = mapped_column(String(500), default="")
    address: Mapped[str] = mapped_column(String(45), default="")
