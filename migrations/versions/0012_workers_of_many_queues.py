"""A worker may serve any number of queues: their names in one text were too long for its row."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0012"
down_revision = "0011"


def LongText() -> sa.types.TypeEngine[str]:
    """MariaDB's TEXT ends at 65,535 bytes."""
    return sa.Text().with_variant(mysql.LONGTEXT(), "mysql", "mariadb")


def upgrade() -> None:
    with op.batch_alter_table("worker") as batch_op:
        batch_op.alter_column("queues", existing_type=sa.String(1000), type_=LongText(), existing_nullable=False)


def downgrade() -> None:
    # What is too long for it is a sign of life: its worker writes it down again.
    op.execute(sa.text("DELETE FROM worker"))
    with op.batch_alter_table("worker") as batch_op:
        batch_op.alter_column("queues", existing_type=LongText(), type_=sa.String(1000), existing_nullable=False)
