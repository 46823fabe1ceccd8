"""Questions in SQL, questions that are kept, and which connection may see what."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

from flaskapp.jobs.clock import UtcDateTime

revision = "0009"
down_revision = "0008"


def LongText() -> sa.types.TypeEngine[str]:
    """MariaDB's TEXT ends at 65,535 bytes."""
    return sa.Text().with_variant(mysql.LONGTEXT(), "mysql", "mariadb")


def upgrade() -> None:
    op.create_table(
        "saved_query",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("owner", sa.String(length=80), nullable=False),
        sa.Column("name", sa.String(length=120), nullable=False),
        sa.Column("sql", LongText(), nullable=False),
        sa.Column("parameters", LongText(), nullable=False),
        sa.Column("chart", LongText(), nullable=True),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("changed_at", UtcDateTime(), nullable=False),
        sa.Column("crontab", sa.String(length=120), nullable=True),
        sa.Column("timezone", sa.String(length=64), nullable=False),
        sa.Column("next_due_at", UtcDateTime(), nullable=True),
        sa.Column("mail_to", LongText(), nullable=False),
        sa.Column("alert_column", sa.String(length=255), nullable=True),
        sa.Column("alert_sign", sa.String(length=2), nullable=True),
        sa.Column("alert_value", sa.Double(), nullable=True),
        sa.Column("alert_since", UtcDateTime(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    with op.batch_alter_table("saved_query", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_saved_query_owner"), ["owner"], unique=False)
        batch_op.create_index(batch_op.f("ix_saved_query_next_due_at"), ["next_due_at"], unique=False)
    op.create_table(
        "query_run",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("owner", sa.String(length=80), nullable=False),
        sa.Column("sql", LongText(), nullable=False),
        sa.Column("parameters", LongText(), nullable=False),
        sa.Column("saved_id", sa.String(length=36), nullable=True),
        sa.Column("job_id", sa.String(length=155), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("keep", sa.Boolean(), nullable=False),
        sa.Column("left_at", UtcDateTime(), nullable=True),
        sa.Column("columns", LongText(), nullable=True),
        sa.Column("rows", LongText(), nullable=True),
        sa.Column("row_count", sa.Integer(), nullable=True),
        sa.Column("truncated", sa.Boolean(), nullable=False),
        sa.Column("seconds", sa.Double(), nullable=True),
        sa.Column("plan", LongText(), nullable=True),
        sa.Column("error", LongText(), nullable=True),
        sa.ForeignKeyConstraint(["saved_id"], ["saved_query.id"]),
        sa.PrimaryKeyConstraint("id"),
    )
    with op.batch_alter_table("query_run", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_query_run_job_id"), ["job_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_query_run_saved_id"), ["saved_id"], unique=False)
        batch_op.create_index("query_run_history", ["owner", "created_at"], unique=False)
    op.create_table(
        "query_pass",
        sa.Column("connection", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("owner", sa.String(length=80), nullable=False),
        sa.Column("sees_all", sa.Boolean(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("connection"),
    )


def downgrade() -> None:
    op.drop_table("query_pass")
    op.drop_table("query_run")
    op.drop_table("saved_query")
