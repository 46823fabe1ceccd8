"""How Alembic reaches the database: through the application's own engine and models (Flask-Migrate calls it).

SQLite cannot alter most columns: batch mode copies the table instead. Each version is one transaction where the
database allows it.
"""

from alembic import context
from flask import current_app

from flaskapp.extensions import Base, db
from flaskapp.query.access import drop_views


def run() -> None:
    # One writer at a time: two processes that start together must not both create the tables.
    with db.engine.connect() as connection:
        context.configure(
            connection=connection,
            target_metadata=Base.metadata,
            include_object=_ours,
            render_as_batch=connection.dialect.name == "sqlite",
            transaction_per_migration=True,
            compare_type=True,
        )
        with context.begin_transaction():
            # PostgreSQL alters no column that a view reads; the next question makes the views again.
            drop_views(connection, current_app.config["SETTINGS"])
            context.run_migrations()
        connection.commit()


def _ours(thing: object, name: str | None, kind: str, reflected: bool, compare_to: object) -> bool:
    """Tables that uploads loaded are data, not schema."""
    return not (kind == "table" and reflected and compare_to is None and str(name).startswith("t_"))


run()
