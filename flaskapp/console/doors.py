"""The three doors of the home page, and where the rail leads: only what exists in this installation is shown."""

from dataclasses import dataclass

from flask import Flask, current_app, request

from flaskapp.extensions import db
from flaskapp.jobs import queries
from flaskapp.jobs.models import Job
from flaskapp.jobs.queries import Filter


@dataclass(frozen=True)
class Door:
    endpoint: str
    title: str
    #: The icon's name in static/icons.svg.
    icon: str
    sentence: str
    verb: str
    #: What it hands over: not the housekeeping of its queue.
    task: str


DOORS = (
    Door(
        "uploads.index",
        "Upload",
        "upload",
        "Hand over a table; see what is in each column.",
        "Upload a file",
        "uploads.load_table",
    ),
    Door(
        "mail.index",
        "Mail",
        "mail",
        "Write once, send to many, know who got it.",
        "Write a message",
        "mail.deliver",
    ),
    Door(
        "query.index",
        "Query",
        "database",
        "Ask the database; the answer waits for you.",
        "Ask a question",
        "query.run",
    ),
)

#: endpoint, title, icon
_RAIL = (
    ("console.home", "Overview", "gauge"),
    *((door.endpoint, door.title, door.icon) for door in DOORS),
    ("console.jobs", "Jobs", "list"),
    ("console.schedules", "Schedules", "calendar"),
    ("console.queues", "Queues", "tray"),
    ("console.workers", "Workers", "worker"),
)


@dataclass(frozen=True)
class Entry:
    endpoint: str
    title: str
    icon: str
    is_here: bool


def init_app(app: Flask) -> None:
    app.jinja_env.globals.update(rail=rail, exists=exists)


def rail() -> list[Entry]:
    return [Entry(endpoint, title, icon, _is_here(endpoint)) for endpoint, title, icon in _RAIL if exists(endpoint)]


def _is_here(endpoint: str) -> bool:
    room, _, page = endpoint.partition(".")
    if room != "console":
        return request.blueprint == room
    # The page of one job belongs to the list of jobs.
    return request.endpoint in (endpoint, f"console.{page.removesuffix('s')}")


def exists(endpoint: str) -> bool:
    return endpoint in current_app.view_functions


def open_doors(owner: str | None) -> list[tuple[Door, list[Job]]]:
    """Each door that leads somewhere, with its newest jobs."""
    return [
        (door, queries.jobs(db.session(), Filter(task=door.task, owner=owner), limit=3).jobs)
        for door in DOORS
        if exists(door.endpoint)
    ]
