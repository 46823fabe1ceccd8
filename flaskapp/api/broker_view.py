"""The broker's own view of its queues, beside what SQL says: one for each process, for pages, API and commands."""

from typing import Any

from flask import Flask, current_app

from flaskapp.api.shapes import moment
from flaskapp.broker import topology
from flaskapp.broker.figures import QueueFigures
from flaskapp.broker.management import Management, View


def init_app(app: Flask) -> None:
    settings = app.config["SETTINGS"]
    app.extensions["management"] = (
        Management(settings.rabbitmq_management_url, settings.rabbitmq_ui_url, settings.broker_url)
        if settings.rabbitmq_management_url
        else None
    )


def management() -> Management | None:
    """None where nobody said where it is: then there is only SQL."""
    found: Management | None = current_app.extensions.get("management")
    return found


def broker_shape(view: View | None) -> dict[str, Any] | None:
    if view is None:
        return None
    figures = view.figures
    return {
        "version": figures.version if figures else None,
        "read_at": moment(view.read_at),
        "age_seconds": None if view.age_seconds is None else round(view.age_seconds, 1),
        "trouble": view.trouble or None,
        "alarms": view.alarms,
        "nodes": None if figures is None or figures.nodes is None else [node._asdict() for node in figures.nodes],
        "dead_letters": queue_shape(view.queue(topology.DEAD_QUEUE.name)),
    }


def queue_shape(figures: QueueFigures | None) -> dict[str, Any] | None:
    return None if figures is None else figures._asdict()
