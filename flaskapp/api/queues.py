"""Queues over HTTP: how much stands in each by SQL and by the broker, and holding one still."""

from typing import Any

from flask import Response
from werkzeug.exceptions import NotFound

from flaskapp.accounts.audit import nothing_changed, write_audit
from flaskapp.accounts.protection import requires
from flaskapp.api.blueprint import answer, api
from flaskapp.api.broker_view import broker_shape, management, queue_shape
from flaskapp.api.keys import changes
from flaskapp.api.parsing import json_object
from flaskapp.api.rules import read_rule, rule_shape
from flaskapp.api.shapes import moment
from flaskapp.broker.management import View
from flaskapp.extensions import db
from flaskapp.jobs import control, last_hour, queries
from flaskapp.jobs.models import QUEUES
from flaskapp.worker.sessions import wake_relay


@api.get("/queues")
def list_queues() -> Response:
    broker = management()
    view = broker.view() if broker else None
    return answer({"items": _queues(view), "broker": broker_shape(view)})


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


@api.post("/queues/<name>/drain")
@requires("operator")
@changes()
def drain_queue(name: str) -> Response:
    """New work is accepted and waits; what is at the broker finishes."""
    queue = _queue(name)
    if control.drain_queue(db.session(), queue["name"]):
        write_audit(db.session(), "queue.drain", name)
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


def _queues(view: View | None) -> list[dict[str, Any]]:
    ended = {one.queue: one.jobs for one in last_hour.minutes_of_queues(db.session(), 1) if one.minutes_ago == 0}
    return [
        {
            "name": depth.name,
            "waiting": depth.waiting,
            "queued": depth.queued,
            "running": depth.running,
            "oldest_run_at": moment(depth.oldest_run_at),
            "paused_at": moment(depth.paused_at),
            "draining_at": moment(depth.draining_at),
            "drained": depth.is_drained,
            "ended_last_minute": ended.get(depth.name, 0),
            **rule_shape(depth.rule),
            "broker": queue_shape(view.queue(depth.name)) if view else None,
        }
        for depth in queries.queue_depths(db.session(), QUEUES)
    ]


def _queue(name: str) -> dict[str, Any]:
    broker = management()
    # Who steers does not wait for the broker.
    for queue in _queues(broker.view(patience=0) if broker else None):
        if queue["name"] == name:
            return queue
    raise NotFound(f"There is no queue {name[:64]!r}. GET /api/v1/queues lists them.")
