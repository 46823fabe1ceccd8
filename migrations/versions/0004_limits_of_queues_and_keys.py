"""Limits of queues and keys, and the index by which overdue jobs are found."""

import sqlalchemy as sa
from alembic import op

from flaskapp.jobs.clock import UtcDateTime

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.create_table(
        "job_limit",
        sa.Column("key", sa.String(length=255), nullable=False),
        sa.Column("max_running", sa.Integer(), nullable=True),
        sa.Column("rate_count", sa.Integer(), nullable=True),
        sa.Column("rate_seconds", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("key"),
    )
    op.create_table(
        "job_start",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("kind", sa.String(length=5), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    with op.batch_alter_table("job_start", schema=None) as batch_op:
        batch_op.create_index("job_start_of_limit", ["kind", "name", "at"], unique=False)
    with op.batch_alter_table("queue", schema=None) as batch_op:
        batch_op.add_column(sa.Column("max_running", sa.Integer(), nullable=True))
        batch_op.add_column(sa.Column("rate_count", sa.Integer(), nullable=True))
        batch_op.add_column(sa.Column("rate_seconds", sa.Double(), nullable=True))
    with op.batch_alter_table("job", schema=None) as batch_op:
        batch_op.add_column(sa.Column("limit_key", sa.String(length=255), nullable=True))
        batch_op.create_index("job_of_limit", ["limit_key", "state"], unique=False)
        batch_op.create_index("job_expiring", ["state", "expires_at"], unique=False)


def downgrade() -> None:
    with op.batch_alter_table("job", schema=None) as batch_op:
        batch_op.drop_index("job_expiring")
        batch_op.drop_index("job_of_limit")
        batch_op.drop_column("limit_key")
    with op.batch_alter_table("queue", schema=None) as batch_op:
        batch_op.drop_column("rate_seconds")
        batch_op.drop_column("rate_count")
        batch_op.drop_column("max_running")
    op.drop_table("job_start")
    op.drop_table("job_limit")
