"""The door: closed by default, opened by a session cookie or, for scripts, a Bearer token.

Every endpoint needs an account unless its view is marked `public`. A change that comes with a session needs
the CSRF token; one that comes with a Bearer token does not, because no foreign page can send that.
"""

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from flask import Flask, abort, current_app, g, redirect, request, session, url_for
from flask.typing import ResponseReturnValue
from flask_login import LoginManager, current_user, login_user
from flask_wtf.csrf import CSRFProtect, validate_csrf
from werkzeug.datastructures import WWWAuthenticate
from werkzeug.exceptions import BadRequest, Unauthorized
from wtforms import ValidationError

from flaskapp.accounts import actions
from flaskapp.accounts.audit import CHANGING_METHODS
from flaskapp.accounts.identity import Identity
from flaskapp.extensions import db

csrf = CSRFProtect()
login_manager = LoginManager()
#: Health is asked by machines that have no account; the pages before the login need their style.
PUBLIC_ENDPOINTS = frozenset({"static", "health.healthz", "health.readyz"})

P = ParamSpec("P")
R = TypeVar("R")


def public(view: Callable[P, R]) -> Callable[P, R]:
    """Mark a view that needs no account."""
    view.is_public = True  # type: ignore[attr-defined]
    return view


def signed(view: Callable[P, R]) -> Callable[P, R]:
    """Mark a view whose address carries a signature: no foreign page can make one, so it needs no CSRF token."""
    view.is_signed = True  # type: ignore[attr-defined]
    return view


def requires(role: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Refuse with 403 whoever may do less than `role`."""

    def decorate(view: Callable[P, R]) -> Callable[P, R]:
        @wraps(view)
        def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
            if not current_user.may(role):
                abort(403, f"This needs the role {role}; {current_user.name} is {current_user.role}. Ask an admin.")
            return view(*args, **kwargs)

        return guarded

    return decorate


def init_app(app: Flask) -> None:
    # Checked in _admit: after the account is known, and from the header before the body is read.
    app.config.update(WTF_CSRF_CHECK_DEFAULT=False, WTF_CSRF_TIME_LIMIT=None)
    csrf.init_app(app)
    login_manager.init_app(app)
    login_manager.session_protection = None
    app.before_request(_admit)


def _admit() -> ResponseReturnValue | None:
    """Let the request pass (None), or answer in its place."""
    if request.endpoint is None:
        return None  # no such page: nothing to protect
    if "\0" in request.path:
        abort(404)  # no id has one, and PostgreSQL refuses to look for it
    if not _is_public(request.endpoint):
        if not current_user.is_authenticated:
            return _ask_to_sign_in()
        g.job_owner = current_user.name
    if request.method in CHANGING_METHODS and not (_came_with_token() or _is_signed(request.endpoint)):
        _check_csrf()
    return None


def _is_public(endpoint: str) -> bool:
    view = current_app.view_functions.get(endpoint)
    return endpoint in PUBLIC_ENDPOINTS or endpoint.endswith(".static") or getattr(view, "is_public", False)


def _is_signed(endpoint: str) -> bool:
    return getattr(current_app.view_functions.get(endpoint), "is_signed", False)


def _came_with_token() -> bool:
    return bool(current_user.is_authenticated and current_user.via == "token")


def _ask_to_sign_in() -> ResponseReturnValue:
    if _is_for_scripts():
        raise Unauthorized(
            "Send Authorization: Bearer TOKEN. `flask users token NAME` or the account page makes a token.",
            www_authenticate=WWWAuthenticate("bearer", {"realm": "Offload"}),
        )
    if request.accept_mimetypes.best == "text/event-stream":
        raise Unauthorized("Sign in first.")
    came_from = request.full_path.rstrip("?") if request.method == "GET" else None
    return redirect(url_for("accounts.login", next=came_from), 303)


def _is_for_scripts() -> bool:
    return request.path.startswith("/api/") or request.path == "/metrics"


def _check_csrf() -> None:
    token = request.headers.get("X-CSRFToken")
    if token is None and not _is_for_scripts():
        token = request.form.get("csrf_token")
    try:
        validate_csrf(token)
    except ValidationError as problem:
        raise BadRequest(
            "With a session cookie the header X-CSRFToken is needed. Scripts send Authorization: Bearer TOKEN instead."
            if _is_for_scripts()
            else "This page was open through a sign-in or sign-out, or cookies are off. Load it again and repeat."
        ) from problem
    g.csrf_valid = True  # forms need not look again


@login_manager.user_loader
def _by_session(key: str) -> Identity | None:
    return actions.identity_of_sign_in(db.session(), key) if _bearer_token() is None else None


@login_manager.request_loader
def _by_token(_request: object) -> Identity | None:
    token = _bearer_token()
    return actions.identity_of_token(db.session(), token) if token is not None else None


def _bearer_token() -> str | None:
    sent = request.authorization
    return sent.token or "" if sent is not None and sent.type == "bearer" and _is_for_scripts() else None


def start_session(identity: Identity) -> None:
    """Nothing that stood in the cookie before the sign-in is believed after it."""
    session.clear()
    g.pop("csrf_token", None)
    login_user(identity)
    g.job_owner = identity.name
