"""The API: the same verbs as the pages, as JSON under /api/v1."""

from flask import Flask


def init_app(app: Flask) -> None:
    """Open /api/v1. Call it after accounts, which decide who may come in."""
    from flaskapp.api import (  # noqa: F401 -- importing adds their routes
        broker_view,
        jobs,
        letters,
        limits,
        mail,
        merges,
        models,
        openapi,
        problems,
        queries,
        queues,
        recipients,
        reply_templates,
        schedules,
        stats,
        suppressions,
        uploads,
        workers,
    )
    from flaskapp.api.blueprint import api

    problems.init_app(app)
    broker_view.init_app(app)
    app.register_blueprint(api)
