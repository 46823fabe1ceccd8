"""Since when a queue is being drained."""

import sqlalchemy as sa
from alembic import op

from flaskapp.jobs.clock import UtcDateTime

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    with op.batch_alter_table("queue", schema=None) as batch_op:
        batch_op.add_column(sa.Column("draining_at", UtcDateTime(), nullable=True))


def downgrade() -> None:
    with op.batch_alter_table("queue", schema=None) as batch_op:
        batch_op.drop_column("draining_at")
