"""Changing once: limits of bodies, one commit, and Idempotency-Key.

The key's row is written in the same transaction as the change, before it: of two requests at the same moment
the second waits for the first and then gives its answer. What fails leaves no row and may be tried again.
A long answer about something that can be looked at is not kept: it is looked at again.
"""

import hashlib
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, cast

from flask import Response, current_app, request
from flask.globals import request_ctx
from flask_login import current_user
from sqlalchemy import ColumnElement, and_, delete, insert, select, update
from sqlalchemy.exc import IntegrityError
from werkzeug.exceptions import Conflict, RequestEntityTooLarge
from werkzeug.routing import MapAdapter

from flaskapp.accounts.audit import nothing_changed
from flaskapp.api.blueprint import answer
from flaskapp.api.models import IdempotencyKey
from flaskapp.api.problems import StateForbids, problem
from flaskapp.errors import BadArguments
from flaskapp.extensions import db
from flaskapp.jobs.clock import seconds_from_now

KEPT_SECONDS = 86_400
#: A message to fifty thousand is megabytes: whoever sends a few bytes again and again must not fill the database.
MOST_KEPT = 100_000
P = ParamSpec("P")


def changes(body_limit: int = 10_000) -> Callable[[Callable[P, Response]], Callable[P, Response]]:
    """Wrap a POST view: it must not commit itself, and answers the same thing once per Idempotency-Key."""

    def decorate(view: Callable[P, Response]) -> Callable[P, Response]:
        @wraps(view)
        def wrapped(*args: P.args, **kwargs: P.kwargs) -> Response:
            # Refused by its Content-Length before a byte is read, and while reading if that lies or is absent.
            request.max_content_length = body_limit
            body = request.get_data()
            # Without a length Werkzeug stops at the limit and says nothing: half a body must not pass for a whole.
            if request.content_length is None and len(body) >= body_limit:
                raise RequestEntityTooLarge
            return once(body, lambda: view(*args, **kwargs))

        return wrapped

    return decorate


def once(body: bytes, act: Callable[[], Response]) -> Response:
    """Do `act` and commit; under a key that was used before, repeat the answer instead."""
    key = _sent_key()
    if key is None:
        response = act()
        db.session.commit()
        return response
    fingerprint = hashlib.sha256(b"\n".join([request.method.encode(), request.full_path.encode(), body])).hexdigest()
    known = _recorded(key)
    if known is None and not _reserve(key, fingerprint):
        known = _recorded(key)
        if known is None:
            raise Conflict("Another request with this Idempotency-Key was undone just now. Send this one again.")
    if known is not None:
        return _repeat(known, fingerprint)
    try:
        # The key is committed with a refusal, too; what was begun before it is not.
        with db.session.begin_nested():
            response = act()
    except StateForbids as refusal:
        response = problem(refusal)  # an answer like any other: it is repeated too
    _record(key, response)
    db.session.commit()
    return response


def _sent_key() -> str | None:
    key = request.headers.get("Idempotency-Key")
    if key is not None and not (1 <= len(key) <= 255 and key.isascii() and key.isprintable()):
        raise BadArguments("Idempotency-Key must have 1 to 255 ASCII characters, e.g. a UUID.")
    return key


def _recorded(key: str) -> IdempotencyKey | None:
    fresh = IdempotencyKey.created_at > seconds_from_now(-KEPT_SECONDS)
    return db.session.scalar(select(IdempotencyKey).where(_mine(key), fresh))


def _mine(key: str) -> ColumnElement[bool]:
    return and_(IdempotencyKey.account == current_user.name, IdempotencyKey.key == key)


def _reserve(key: str, fingerprint: str) -> bool:
    """False if another request has just taken the key."""
    db.session.execute(delete(IdempotencyKey).where(IdempotencyKey.created_at <= seconds_from_now(-KEPT_SECONDS)))
    try:
        db.session.execute(insert(IdempotencyKey).values(account=current_user.name, key=key, fingerprint=fingerprint))
    except IntegrityError:
        db.session.rollback()
        return False
    return True


def _record(key: str, response: Response) -> None:
    location, body = response.headers.get("Location"), response.get_data(True)
    kept = body if location is None or len(body) <= MOST_KEPT else ""
    db.session.execute(
        update(IdempotencyKey)
        .where(_mine(key))
        .values(status=response.status_code, location=location, body=kept)
        .execution_options(synchronize_session=False)
    )


def _repeat(known: IdempotencyKey, fingerprint: str) -> Response:
    if known.fingerprint != fingerprint:
        raise BadArguments("This Idempotency-Key was used for another request. Make a new key for each new request.")
    nothing_changed()
    response = answer(None, known.status, known.location)
    response.set_data(known.body if known.body or known.location is None else _look_at(known.location))
    if known.status >= 400:
        response.mimetype = "application/problem+json"
    response.headers["Idempotency-Replayed"] = "true"
    return response


def _look_at(location: str) -> bytes:
    """What a GET of it answers now; raises NotFound if it is gone."""
    adapter = cast(MapAdapter, request_ctx.url_adapter)
    endpoint, parts = adapter.match(location.removeprefix(request.script_root), method="GET")
    return cast(Response, current_app.view_functions[endpoint](**parts)).get_data()
