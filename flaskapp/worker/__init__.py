"""The hands: Celery, made to work from the job table."""

from flask import Flask

from flaskapp.worker.celery_app import make_celery


def init_app(app: Flask) -> None:
    """Make the Celery application of this Flask application; it stands in `app.extensions["celery"]`."""
    app.extensions["celery"] = make_celery(app)
