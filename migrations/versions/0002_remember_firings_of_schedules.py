"""Schedules remember what became of each due time, their zone and policies, and what beat would submit."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

from flaskapp.jobs.clock import UtcDateTime

revision = "0002"
down_revision = "0001"

_NEW = ("timezone", "missed", "overlap", "wish", "anchor_at", "looked_at", "paused_by", "resumed_at", "gone_at")


def upgrade() -> None:
    op.create_table(
        "firing",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("schedule", sa.String(length=255), nullable=False),
        sa.Column("due_at", UtcDateTime(), nullable=True),
        sa.Column("until_at", UtcDateTime(), nullable=True),
        sa.Column("times", sa.Integer(), nullable=True),
        sa.Column("outcome", sa.String(length=8), nullable=False),
        sa.Column("reason", sa.String(length=500), nullable=True),
        sa.Column("job_id", sa.String(length=155), nullable=True),
        sa.Column("at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("schedule", "due_at", name="firing_once_per_due_time"),
    )
    op.create_index("firing_history", "firing", ["schedule", "id"])
    long_text = sa.Text().with_variant(mysql.LONGTEXT(), "mysql", "mariadb")
    with op.batch_alter_table("schedule") as batch:
        batch.add_column(sa.Column("timezone", sa.String(length=64), server_default="UTC", nullable=False))
        batch.add_column(sa.Column("missed", sa.String(length=6), server_default="latest", nullable=False))
        batch.add_column(sa.Column("overlap", sa.String(length=5), server_default="allow", nullable=False))
        batch.add_column(sa.Column("wish", long_text, nullable=True))
        batch.add_column(sa.Column("anchor_at", UtcDateTime(), nullable=True))
        batch.add_column(sa.Column("looked_at", UtcDateTime(), nullable=True))
        batch.add_column(sa.Column("paused_by", sa.String(length=80), nullable=True))
        batch.add_column(sa.Column("resumed_at", UtcDateTime(), nullable=True))
        batch.add_column(sa.Column("gone_at", UtcDateTime(), nullable=True))
        batch.add_column(sa.Column("problem", sa.String(length=500), nullable=True))
    # The intervals of a schedule that was there before go on counting from its last time.
    op.execute("UPDATE schedule SET anchor_at = last_due_at")


def downgrade() -> None:
    with op.batch_alter_table("schedule") as batch:
        for name in (*_NEW, "problem"):
            batch.drop_column(name)
    op.drop_table("firing")
