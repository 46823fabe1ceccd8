"""The windows: pages that look at the job table, live; the layout; and the health of this process."""

from flask import Flask


def init_app(app: Flask) -> None:
    from flaskapp.console import (  # noqa: F401 -- importing adds their views
        assets,
        doors,
        error_pages,
        health,
        home,
        jobs,
        live,
        queues,
        remember,
        schedules,
        times,
        titles,
        workers,
    )
    from flaskapp.console.blueprint import console

    for part in (times, titles, doors, remember, live, assets, error_pages, health):
        part.init_app(app)
    app.register_blueprint(console)
