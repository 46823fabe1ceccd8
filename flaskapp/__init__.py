"""The application factory: settings, database, job core, subjects and windows, put together in this order.

The rooms and their rules are drawn in docs/job.md; imports go down only.
"""

from pathlib import Path

from flask import Flask
from werkzeug.middleware.proxy_fix import ProxyFix

from flaskapp import config
from flaskapp.extensions import db, engine_options, migrate, tune

ROOT = Path(__file__).parent.parent


def create_app(settings: config.Settings | None = None) -> Flask:
    """One application object; raises BadSetting with a sentence when the environment cannot work."""
    settings = settings or config.from_environment()
    app = Flask("flaskapp", instance_path=str(settings.instance_path), root_path=str(ROOT / "flaskapp"))
    app.config.update(
        SETTINGS=settings,
        SECRET_KEY=settings.secret_key,
        SQLALCHEMY_DATABASE_URI=settings.database_url,
        SQLALCHEMY_ENGINE_OPTIONS=engine_options(settings.database_url),
        # Forms are small; where a view takes files, uploads/receiving.py allows more.
        MAX_CONTENT_LENGTH=2_000_000,
    )
    if settings.trusted_proxies:
        hops = settings.trusted_proxies
        app.wsgi_app = ProxyFix(app.wsgi_app, x_for=hops, x_proto=hops, x_host=hops)  # type: ignore[method-assign]
    _init_database(app)
    _init_rooms(app)
    return app


def _init_database(app: Flask) -> None:
    db.init_app(app)
    # Compare types: a column that changed must not slip through the test that models equal migrations.
    migrate.init_app(app, db, directory=str(ROOT / "migrations"), compare_type=True)
    with app.app_context():
        tune(db.engine)


def _init_rooms(app: Flask) -> None:
    from flaskapp import accounts, api, cli, console, diagnostics, drill, mail, query, uploads, worker

    # The core first, then the door, then what stands behind it.
    for room in (worker, accounts, console, uploads, mail, query, diagnostics, drill, api, cli):
        room.init_app(app)
