"""Every refusal of the API is problem+json (RFC 9457): what is wrong, and how to mend it.

Also for addresses that do not exist, methods that are not allowed, and errors of our own; those say nothing
about their inside.
"""

import json

from flask import Flask, Response, current_app, request
from sqlalchemy.exc import OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from werkzeug.exceptions import (
    HTTPException,
    InternalServerError,
    MethodNotAllowed,
    NotFound,
    ServiceUnavailable,
    UnprocessableEntity,
)

from flaskapp.api.blueprint import api
from flaskapp.errors import BadArguments

_SENTENCES = {
    404: "There is nothing here that you may see. Check the address; /api/v1/openapi.json lists all of them.",
    405: "This address does not take {method}. It takes: {allowed}.",
    413: "This body is too large. Send less at a time.",
    500: "Something went wrong on our side; it is in the log. Nothing was changed by this request.",
}


class StateForbids(HTTPException):
    """The job is in a state that this arrow does not leave."""

    code = 409

    def __init__(self, sentence: str, state: str) -> None:
        super().__init__(sentence)
        self.state = state


def init_app(app: Flask) -> None:
    # A blueprint is not asked about addresses that it does not have.
    app.before_request(_no_such_address)


@api.errorhandler(HTTPException)
def problem(error: HTTPException) -> Response:
    status = error.code or 500
    body: dict[str, object] = {
        "type": "about:blank",
        "title": error.name,
        "status": status,
        "detail": _sentence(error, status),
    }
    if isinstance(error, StateForbids):
        body["state"] = error.state
    response = Response(json.dumps(body), status, mimetype="application/problem+json")
    for name, value in error.get_headers(request.environ):
        if name not in ("Content-Type", "Content-Length"):
            response.headers[name] = value
    return response


def _sentence(error: HTTPException, status: int) -> str:
    if isinstance(error, InternalServerError):
        return _SENTENCES[500]
    written_here = error.description is not None and error.description != type(error).description
    if written_here or status not in _SENTENCES:
        return error.description or error.name
    allowed = ", ".join(sorted(getattr(error, "valid_methods", None) or []))
    return _SENTENCES[status].format(method=request.method, allowed=allowed)


@api.errorhandler(BadArguments)
def _bad_arguments(error: BadArguments) -> Response:
    return problem(UnprocessableEntity(str(error)))


@api.errorhandler(OperationalError)
@api.errorhandler(PoolTimeout)
def _database_is_busy(error: Exception) -> Response:
    current_app.logger.error("The database did not answer in time: %s", error)
    sentence = "The database did not answer in time. Nothing was changed; try again in a few seconds."
    return problem(ServiceUnavailable(sentence, retry_after=5))


def _no_such_address() -> Response | None:
    missing = request.routing_exception
    is_ours = request.path.startswith("/api/") and isinstance(missing, NotFound | MethodNotAllowed)
    return problem(missing) if is_ours and missing is not None else None
