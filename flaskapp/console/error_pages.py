"""What a person sees when a request cannot be answered: what is wrong, and where to go from there.

The API answers its own errors as JSON; its paths are left to it.
"""

from flask import Flask, render_template, request
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import HTTPException

_TITLES = {404: "Nothing here", 403: "Not allowed", 413: "Too large", 429: "Too often", 500: "Something went wrong"}
_SENTENCES = {
    403: "Your account may not do this. Ask an administrator if it should.",
    404: "There is nothing at this address. It may have been removed, or the link is not complete.",
    405: "This address is not opened directly: it belongs to a button on a page.",
    413: "That was more than this installation accepts in one go.",
    429: "That was too often in too short a time. Wait a minute, then try again.",
    500: "Something went wrong here, not with what you did. It is written in the log; try again in a moment.",
}


def init_app(app: Flask) -> None:
    app.register_error_handler(HTTPException, error_page)


def error_page(problem: HTTPException) -> ResponseReturnValue:
    code = problem.code or 500
    if problem.response is not None or code < 400 or request.path.startswith("/api/"):
        return problem
    # The sentences of werkzeug are for developers; one that we wrote ourselves is for people.
    own = problem.description if problem.description != type(problem).description else None
    sentence = own or _SENTENCES.get(code) or problem.description
    page = render_template("error.html", code=code, name=_TITLES.get(code, problem.name), sentence=sentence)
    # Allow, Retry-After and their like stay as they are.
    return page, code, [header for header in problem.get_headers() if header[0] != "Content-Type"]
