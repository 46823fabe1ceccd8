"""One question runs at a time, unless somebody has set something else: a heavy one must not hold every slot."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"

_QUEUE = sa.table(
    "queue",
    sa.column("name", sa.String),
    sa.column("max_running", sa.Integer),
    sa.column("rate_count", sa.Integer),
)


def upgrade() -> None:
    here = sa.select(_QUEUE.c.name).where(_QUEUE.c.name == "query")
    if op.get_bind().execute(here).first() is None:
        op.execute(sa.insert(_QUEUE).values(name="query", max_running=1))
        return
    # A row without a limit is a pause's; nobody could say "none" while none was the rule.
    silent = sa.and_(_QUEUE.c.name == "query", _QUEUE.c.max_running.is_(None), _QUEUE.c.rate_count.is_(None))
    op.execute(sa.update(_QUEUE).where(silent).values(max_running=1))


def downgrade() -> None:
    """Nothing: a limit is what people set, whoever set it first."""
