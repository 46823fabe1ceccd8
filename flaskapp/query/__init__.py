"""Query: people ask the results questions in SQL. Every question is a job, and none can change anything."""

from flask import Flask


def init_app(app: Flask) -> None:
    from flaskapp.query import models, saved_views, tasks, views  # noqa: F401 -- importing registers them

    app.register_blueprint(views.query)
    for task in (tasks.run, tasks.run_saved):
        app.extensions.setdefault("job_titles", {})[task.name] = views.title_of
        app.extensions.setdefault("job_results", {})[task.name] = views.result_of
        app.extensions.setdefault("job_styles", {})[task.name] = "query.css"
