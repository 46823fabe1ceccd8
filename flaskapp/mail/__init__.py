"""Mail: a message is written once and sent to each recipient by jobs of the queue `mail`; each one's fate is a row."""

from flask import Flask


def init_app(app: Flask) -> None:
    from flaskapp.mail import files, models, tasks, views, writing  # noqa: F401 -- importing registers them

    files.init_app(app)
    app.register_blueprint(views.mail)
    app.extensions.setdefault("job_titles", {})[tasks.deliver.name] = views.title_of
    app.extensions.setdefault("job_results", {})[tasks.deliver.name] = views.result_of
    app.extensions.setdefault("job_styles", {})[tasks.deliver.name] = "mail.css"
