"""Mail: messages, one row for each recipient, attachments, unwanted addresses, reply templates, ways out."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

from flaskapp.jobs.clock import UtcDateTime

revision = "0008"
down_revision = "0007"


def LongText() -> sa.types.TypeEngine[str]:
    """MariaDB's TEXT ends at 65,535 bytes."""
    return sa.Text().with_variant(mysql.LONGTEXT(), "mysql", "mariadb")


def RowId() -> sa.types.TypeEngine[int]:
    """SQLite counts only plain integers up by itself."""
    return sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "mail_attachment",
        sa.Column("id", RowId(), autoincrement=True, nullable=False),
        sa.Column("message_id", sa.String(length=36), nullable=False),
        sa.Column("file_id", sa.String(length=36), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("content_type", sa.String(length=100), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    with op.batch_alter_table("mail_attachment", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_mail_attachment_digest"), ["digest"], unique=False)
        batch_op.create_index(batch_op.f("ix_mail_attachment_message_id"), ["message_id"], unique=False)

    op.create_table(
        "mail_message",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("owner", sa.String(length=80), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("sender", sa.String(length=320), nullable=False),
        sa.Column("reply_to", sa.String(length=320), nullable=True),
        sa.Column("subject", LongText(), nullable=False),
        sa.Column("text", LongText(), nullable=False),
        sa.Column("html", LongText(), nullable=True),
        sa.Column("is_template", sa.Boolean(), nullable=False),
        sa.Column("can_unsubscribe", sa.Boolean(), nullable=False),
        sa.Column("at_least_once", sa.Boolean(), nullable=False),
        sa.Column("send_at", UtcDateTime(), nullable=False),
        sa.Column("expires_at", UtcDateTime(), nullable=False),
        sa.Column("lanes", sa.Integer(), nullable=False),
        sa.Column("is_ready", sa.Boolean(), nullable=False),
        sa.Column("paused_at", UtcDateTime(), nullable=True),
        sa.Column("cancelled_at", UtcDateTime(), nullable=True),
        sa.Column("problem", LongText(), nullable=True),
        sa.Column("job_id", sa.String(length=155), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    with op.batch_alter_table("mail_message", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_mail_message_job_id"), ["job_id"], unique=False)
        batch_op.create_index("mail_message_pages", ["created_at", "id"], unique=False)
        batch_op.create_index("mail_message_pages_by_owner", ["owner", "created_at", "id"], unique=False)

    op.create_table(
        "mail_recipient",
        sa.Column("id", RowId(), autoincrement=True, nullable=False),
        sa.Column("message_id", sa.String(length=36), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("address", sa.String(length=320), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("domain", sa.String(length=255), nullable=False),
        sa.Column("variables", LongText(), nullable=True),
        sa.Column("state", sa.String(length=10), nullable=False),
        sa.Column("reply", LongText(), nullable=True),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("next_at", UtcDateTime(), nullable=False),
        sa.Column("changed_at", UtcDateTime(), nullable=False),
        sa.Column("job_id", sa.String(length=155), nullable=True),
        sa.Column("attempt", sa.Integer(), nullable=True),
        sa.CheckConstraint("state != 'sending' OR job_id IS NOT NULL", name="mail_sending_means_held"),
        sa.CheckConstraint(
            "state IN ('queued', 'sending', 'accepted', 'deferred', 'rejected', "
            "'suppressed', 'cancelled', 'expired', 'unknown')",
            name="mail_recipient_state_is_known",
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    with op.batch_alter_table("mail_recipient", schema=None) as batch_op:
        batch_op.create_index("mail_recipient_due", ["message_id", "state", "number"], unique=False)
        batch_op.create_index("mail_recipient_place", ["message_id", "number"], unique=True)
        batch_op.create_index("mail_recipient_states", ["state", "next_at", "message_id"], unique=False)

    op.create_table(
        "mail_route",
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("next_at", UtcDateTime(), nullable=False),
        sa.Column("held_until", UtcDateTime(), nullable=True),
        sa.Column("strikes", sa.Integer(), nullable=False),
        sa.Column("reason", LongText(), nullable=True),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "mail_suppression",
        sa.Column("address", sa.String(length=320), nullable=False),
        sa.Column("reason", sa.String(length=255), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("address"),
    )
    op.create_table(
        "mail_template",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("name", sa.String(length=80), nullable=False),
        sa.Column("subject", LongText(), nullable=False),
        sa.Column("text", LongText(), nullable=False),
        sa.Column("changed_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("name"),
    )


def downgrade() -> None:
    for table in ("template", "suppression", "route", "recipient", "message", "attachment"):
        op.drop_table(f"mail_{table}")
