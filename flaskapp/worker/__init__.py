"""The hands: Celery, made to work from the job table."""

from flask import Flask

from flaskapp.broker import transports
from flaskapp.worker import sessions
from flaskapp.worker.celery_app import make_celery


def init_app(app: Flask) -> None:
    """Make the Celery application of this Flask application; it stands in `app.extensions["celery"]`."""
    from flaskapp.worker import tasks  # noqa: F401 -- importing registers them

    app.extensions["celery"] = make_celery(app)
    app.extensions["broker_check"] = lambda: transports.check(app.config["SETTINGS"].broker_url)
    sessions.watch(app)
