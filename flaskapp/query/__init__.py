"""Query: people ask the results questions in SQL. Every question is a job, and none can change anything."""

from flask import Flask


def init_app(app: Flask) -> None:
    from flaskapp.query import models, tasks  # noqa: F401 -- importing registers them
