"""Mail: a message is written once and sent to each recipient by jobs of the queue `mail`; each one's fate is a row."""

from flask import Flask


def init_app(app: Flask) -> None:
    from flaskapp.mail import (  # noqa: F401 -- importing registers them
        contact,
        files,
        kept,
        merge_views,
        merging,
        models,
        stopping,
        tasks,
        unsubscribing,
        views,
        writing,
    )

    files.init_app(app)
    for blueprint in (views.mail, unsubscribing.leaving, contact.contact):
        app.register_blueprint(blueprint)
    for task in (tasks.deliver, merging.prepare):
        app.extensions.setdefault("job_titles", {})[task.name] = views.title_of
        app.extensions.setdefault("job_results", {})[task.name] = views.result_of
        app.extensions.setdefault("job_styles", {})[task.name] = "mail.css"
