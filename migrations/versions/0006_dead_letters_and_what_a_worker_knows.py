"""Dead letters as rows; which tasks a worker knows; more than two gigabytes of its memory."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

from flaskapp.jobs.clock import UtcDateTime

revision = "0006"
down_revision = "0005"


def LongText() -> sa.types.TypeEngine[str]:
    """MariaDB's TEXT ends at 65,535 bytes."""
    return sa.Text().with_variant(mysql.LONGTEXT(), "mysql", "mariadb")


def upgrade() -> None:
    op.create_table(
        "dead_letter",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("at", UtcDateTime(), nullable=False),
        sa.Column("reason", sa.String(length=30), nullable=False),
        sa.Column("detail", sa.String(length=500), nullable=False),
        sa.Column("queue", sa.String(length=255), nullable=True),
        sa.Column("exchange", sa.String(length=255), nullable=False),
        sa.Column("routing_key", sa.String(length=255), nullable=False),
        sa.Column("job_id", sa.String(length=155), nullable=True),
        sa.Column("task", sa.String(length=255), nullable=True),
        sa.Column("send", sa.Integer(), nullable=True),
        sa.Column("headers", LongText(), nullable=False),
        sa.Column("content_type", sa.String(length=255), nullable=True),
        sa.Column("payload", sa.LargeBinary().with_variant(mysql.LONGBLOB(), "mysql", "mariadb"), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("fingerprint", sa.String(length=64), nullable=False),
        sa.Column("replayed_at", UtcDateTime(), nullable=True),
        sa.Column("replayed_by", sa.String(length=80), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    with op.batch_alter_table("dead_letter", schema=None) as batch_op:
        batch_op.create_index("dead_letter_prunable", ["at"], unique=False)
        batch_op.create_index("dead_letter_of_job", ["job_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_dead_letter_fingerprint"), ["fingerprint"], unique=False)
    with op.batch_alter_table("worker", schema=None) as batch_op:
        batch_op.add_column(sa.Column("tasks", LongText(), nullable=True))
        batch_op.alter_column("memory", existing_type=sa.Integer(), type_=sa.BigInteger(), existing_nullable=True)


def downgrade() -> None:
    with op.batch_alter_table("worker", schema=None) as batch_op:
        batch_op.alter_column("memory", existing_type=sa.BigInteger(), type_=sa.Integer(), existing_nullable=True)
        batch_op.drop_column("tasks")
    op.drop_table("dead_letter")
