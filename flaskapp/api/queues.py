"""Queues over HTTP: how much stands in each, and holding one still."""

from typing import Any

from flask import Response
from werkzeug.exceptions import NotFound

from flaskapp.accounts.audit import nothing_changed, write_audit
from flaskapp.accounts.protection import requires
from flaskapp.api.blueprint import answer, api
from flaskapp.api.keys import changes
from flaskapp.api.parsing import json_object
from flaskapp.api.rules import read_rule, rule_shape
from flaskapp.api.shapes import moment
from flaskapp.extensions import db
from flaskapp.jobs import control, queries
from flaskapp.jobs.models import QUEUES
from flaskapp.worker.sessions import wake_relay


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


@api.post("/queues/<name>/limits")
@requires("operator")
@changes()
def limit_queue(name: str) -> Response:
    """The whole limit: what is left out is not limited any more."""
    queue, rule = _queue(name), read_rule(json_object())
    if control.set_queue_limits(db.session(), queue["name"], rule):
        write_audit(db.session(), "queue.limits", name, rule.in_words() or "none")
        wake_relay(db.session())
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
        wake_relay(db.session())
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
            **rule_shape(depth.rule),
        }
        for depth in queries.queue_depths(db.session(), QUEUES)
    ]


def _queue(name: str) -> dict[str, Any]:
    for queue in _queues():
        if queue["name"] == name:
            return queue
    raise NotFound(f"There is no queue {name[:64]!r}. GET /api/v1/queues lists them.")
