"""Joins: a chord's members count down a row, and its body waits for it."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

from flaskapp.jobs.clock import UtcDateTime

revision = "0005"
down_revision = "0004"


def LongText() -> sa.types.TypeEngine[str]:
    """MariaDB's TEXT ends at 65,535 bytes."""
    return sa.Text().with_variant(mysql.LONGTEXT(), "mysql", "mariadb")


def upgrade() -> None:
    op.create_table(
        "job_join",
        sa.Column("number", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("id", sa.String(length=155), nullable=False),
        sa.Column("members", LongText(), nullable=False),
        sa.Column("bodies", LongText(), nullable=False),
        sa.Column("total", sa.Integer(), nullable=False),
        sa.Column("missing", sa.Integer(), nullable=False),
        sa.Column("broken_by", sa.String(length=155), nullable=True),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("finished_at", UtcDateTime(), nullable=True),
        sa.PrimaryKeyConstraint("number"),
        sa.UniqueConstraint("id"),
    )
    # Not a copy of the table: that would lose its CHECK constraints on SQLite.
    with op.batch_alter_table("job", recreate="never") as batch_op:
        batch_op.add_column(sa.Column("counts_for", sa.String(length=155), nullable=True))
        batch_op.create_index("job_tree", ["root_id"], unique=False)


def downgrade() -> None:
    with op.batch_alter_table("job", recreate="never") as batch_op:
        batch_op.drop_index("job_tree")
        batch_op.drop_column("counts_for")
    op.drop_table("job_join")
