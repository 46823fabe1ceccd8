"""What the search for lost messages needs, and the order in which the relay takes jobs."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

from flaskapp.jobs.clock import UtcDateTime

revision = "0003"
down_revision = "0002"


def LongText() -> sa.types.TypeEngine[str]:
    """MariaDB's TEXT ends at 65,535 bytes."""
    return sa.Text().with_variant(mysql.LONGTEXT(), "mysql", "mariadb")


def upgrade() -> None:
    op.create_table(
        "probe",
        sa.Column("queue", sa.String(length=64), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("sent_at", UtcDateTime(), nullable=True),
        sa.Column("seen_at", UtcDateTime(), nullable=True),
        sa.Column("missing", sa.Integer(), nullable=False),
        sa.Column("lost_ids", LongText(), nullable=False),
        sa.Column("lost", sa.Integer(), nullable=False),
        sa.Column("looked_at", UtcDateTime(), nullable=True),
        sa.Column("messages", sa.Integer(), nullable=True),
        sa.Column("gap", sa.Integer(), nullable=True),
        sa.Column("answered_at", UtcDateTime(), nullable=True),
        sa.PrimaryKeyConstraint("queue"),
    )
    with op.batch_alter_table("job", schema=None) as batch_op:
        # The default is for code of the version before, which may still run.
        batch_op.add_column(sa.Column("losses", sa.Integer(), nullable=False, server_default="0"))
        batch_op.create_index("job_line", ["state", "queue", "priority", "run_at", "id"], unique=False)
    if op.get_bind().dialect.name == "postgresql":
        # Counts for pages written from now on.
        op.execute("ALTER TABLE job SET (fillfactor = 70)")
    with op.batch_alter_table("worker", schema=None) as batch_op:
        batch_op.add_column(sa.Column("unclaimed", LongText(), nullable=True))
        batch_op.add_column(sa.Column("pace", sa.Double(), nullable=True))


def downgrade() -> None:
    with op.batch_alter_table("worker", schema=None) as batch_op:
        batch_op.drop_column("pace")
        batch_op.drop_column("unclaimed")
    if op.get_bind().dialect.name == "postgresql":
        op.execute("ALTER TABLE job RESET (fillfactor)")
    with op.batch_alter_table("job", schema=None) as batch_op:
        batch_op.drop_index("job_line")
        batch_op.drop_column("losses")
    op.drop_table("probe")
