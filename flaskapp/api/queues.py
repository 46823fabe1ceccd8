"""Queues over HTTP: how much stands in each, and holding one still."""

from typing import Any

from flask import Response
from werkzeug.exceptions import NotFound

from flaskapp.accounts.audit import nothing_changed, write_audit
from flaskapp.accounts.protection import requires
from flaskapp.api.blueprint import answer, api
from flaskapp.api.keys import changes
from flaskapp.api.shapes import moment
from flaskapp.extensions import db
from flaskapp.jobs import control, queries
from flaskapp.jobs.models import QUEUES


@api.get("/queues")
def list_queues() -> Response:
    return answer({"items": _queues()})


@api.post("/queues/<name>/pause")
@requires("operator")
@changes()
def pause_queue(name: str) -> Response:
    """Paused already is paused: asking twice is no mistake."""
    queue = _queue(name)
    if control.pause_queue(db.session(), queue["name"]):
        write_audit(db.session(), "queue.pause", name)
    else:
        nothing_changed()
    return answer(_queue(name))


@api.post("/queues/<name>/resume")
@requires("operator")
@changes()
def resume_queue(name: str) -> Response:
    queue = _queue(name)
    if control.resume_queue(db.session(), queue["name"]):
        write_audit(db.session(), "queue.resume", name)
    else:
        nothing_changed()
    return answer(_queue(name))


def _queues() -> list[dict[str, Any]]:
    return [
        {
            "name": depth.name,
            "waiting": depth.waiting,
            "queued": depth.queued,
            "running": depth.running,
            "oldest_run_at": moment(depth.oldest_run_at),
            "paused_at": moment(depth.paused_at),
        }
        for depth in queries.queue_depths(db.session(), QUEUES)
    ]


def _queue(name: str) -> dict[str, Any]:
    for queue in _queues():
        if queue["name"] == name:
            return queue
    raise NotFound(f"There is no queue {name[:64]!r}. GET /api/v1/queues lists them.")
