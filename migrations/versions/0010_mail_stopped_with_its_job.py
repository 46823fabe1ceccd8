"""Which cancelled job stopped a message, and where a contact form's words came from."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    with op.batch_alter_table("mail_message") as batch_op:
        batch_op.add_column(sa.Column("stopped_job_id", sa.String(length=155), nullable=True))
        batch_op.add_column(sa.Column("origin", sa.String(length=255), nullable=True))


def downgrade() -> None:
    with op.batch_alter_table("mail_message") as batch_op:
        batch_op.drop_column("origin")
        batch_op.drop_column("stopped_job_id")
