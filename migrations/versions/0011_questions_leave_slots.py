"""One question runs at a time, unless somebody has set something else: a heavy one must not hold every slot."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"

_QUEUE = sa.table("queue", sa.column("name", sa.String), sa.column("max_running", sa.Integer))


def upgrade() -> None:
    here = sa.select(_QUEUE.c.name).where(_QUEUE.c.name == "query")
    if op.get_bind().execute(here).first() is None:
        op.execute(sa.insert(_QUEUE).values(name="query", max_running=1))


def downgrade() -> None:
    """Nothing: a limit is what people set, whoever set it first."""
