"""Uploads: a table comes in as a file and becomes a SQL table with a profile of each column."""

from flask import Flask


def init_app(app: Flask) -> None:
    from flaskapp.uploads import models, receiving, tasks, views  # noqa: F401 -- importing registers them

    receiving.init_app(app)
    app.register_blueprint(views.uploads)
    app.extensions.setdefault("job_titles", {})[tasks.load_table.name] = views.title_of
    app.extensions.setdefault("job_results", {})[tasks.load_table.name] = views.result_of
    app.extensions.setdefault("job_styles", {})[tasks.load_table.name] = "uploads.css"
