"""Mail: a message is written once and sent to each recipient by jobs of the queue `mail`; each one's fate is a row."""

from flask import Flask


def init_app(app: Flask) -> None:
    from flaskapp.mail import files, models, tasks  # noqa: F401 -- importing registers them

    files.init_app(app)
