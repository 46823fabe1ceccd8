"""Limits of keys over HTTP: what the jobs of one `limit_key` share. Those of a queue are set in queues.py."""

from typing import Any

from flask import Response
from werkzeug.exceptions import NotFound

from flaskapp.accounts.audit import nothing_changed, write_audit
from flaskapp.accounts.protection import requires
from flaskapp.api.blueprint import answer, api
from flaskapp.api.keys import changes
from flaskapp.api.parsing import json_object, text_field
from flaskapp.api.rules import read_rule, rule_shape
from flaskapp.errors import BadArguments
from flaskapp.extensions import db
from flaskapp.jobs import control, queries
from flaskapp.jobs.control import KeyLimit
from flaskapp.jobs.limits import Rule
from flaskapp.worker.sessions import wake_relay


@api.get("/limits")
@requires("operator")
def list_limits() -> Response:
    return answer({"items": _shapes(control.limits(db.session()))})


@api.get("/limits/<path:key>")
@requires("operator")
def show_limit(key: str) -> Response:
    return answer(_shape(_limit(key)))


@api.put("/limits/<path:key>")
@requires("operator")
@changes()
def set_limit(key: str) -> Response:
    """The whole limit: what is left out is not limited any more."""
    rule = read_rule(json_object())
    if rule == Rule():
        raise BadArguments("Give max_running, rate, or both. DELETE takes a limit away.")
    if control.set_limit(db.session(), _key(key), rule):
        write_audit(db.session(), "limit.set", key, rule.in_words())
        wake_relay(db.session())
    else:
        nothing_changed()
    return answer(_shape(KeyLimit(key, rule)))


@api.delete("/limits/<path:key>")
@requires("operator")
@changes()
def remove_limit(key: str) -> Response:
    limit = _limit(key)
    if control.remove_limit(db.session(), limit.key):
        write_audit(db.session(), "limit.remove", key, limit.rule.in_words())
        wake_relay(db.session())
    return answer(_shape(KeyLimit(limit.key, Rule())))


def _key(text: str) -> str:
    return str(text_field({"key": text}, "key", 255))


def _limit(text: str) -> KeyLimit:
    limit = control.limit_of(db.session(), _key(text))
    if limit is None:
        raise NotFound(f"The key {text[:80]!r} has no limit. PUT sets one; GET /api/v1/limits lists them.")
    return limit


def _shape(limit: KeyLimit) -> dict[str, Any]:
    return _shapes([limit])[0]


def _shapes(limits: list[KeyLimit]) -> list[dict[str, Any]]:
    depths = queries.key_depths(db.session(), [limit.key for limit in limits])
    return [{"key": limit.key, **rule_shape(limit.rule), **depths[limit.key]._asdict()} for limit in limits]
