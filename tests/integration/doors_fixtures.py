"""A site on a database of its own, and the people and scripts that knock at its doors.

Nothing is sent to a broker: jobs stay where the request left them. Pages have a plain frame around them if the
real one is not there.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from jinja2 import ChoiceLoader, DictLoader
from sqlalchemy import func, insert, select
from sqlalchemy.orm import Session
from werkzeug.security import generate_password_hash
from werkzeug.test import TestResponse

from flaskapp import config, create_app
from flaskapp.accounts import actions
from flaskapp.accounts.models import Account
from flaskapp.extensions import db
from flaskapp.jobs.models import Job

PASSWORD = "correct horse battery"
#: Made once, and cheaply: the tests are about doors, not about scrypt.
_HASH = generate_password_hash(PASSWORD, method="pbkdf2:sha256:1")
_FRAME = "<title>{% block title %}{% endblock %}</title>{% block main %}{% endblock %}"


class Script:
    """A program with a token."""

    def __init__(self, client: FlaskClient, token: str) -> None:
        self.client = client
        self.token = token

    def get(self, path: str, **more: Any) -> TestResponse:
        return self.client.get(f"/api/v1{path}", headers=self._headers(more), **more)

    def post(self, path: str, body: Any = None, **more: Any) -> TestResponse:
        headers = self._headers(more)
        if body is not None:
            more |= {"data": json.dumps(body), "content_type": "application/json"}
        return self.client.post(f"/api/v1{path}", headers=headers, **more)

    def ask(self, method: str, path: str, body: Any = None, **more: Any) -> TestResponse:
        """With any method; the body is sent as JSON."""
        if body is not None:
            more |= {"data": json.dumps(body), "content_type": "application/json"}
        return self.client.open(f"/api/v1{path}", method=method, headers=self._headers(more), **more)

    def submit(self, task: str = "diagnostics.echo", args: list[Any] | None = None, **fields: Any) -> dict[str, Any]:
        answer = self.post("/jobs", {"task": task, "args": [1] if args is None else args, **fields})
        assert answer.status_code == 202, answer.text
        return answer.json

    def _headers(self, more: dict[str, Any]) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}", **more.pop("headers", {})}


class Doors:
    """The site, and everybody who may come in."""

    def __init__(self, app: Flask) -> None:
        self.app = app

    def account(self, name: str, role: str = "viewer") -> str:
        with self.app.app_context():
            if actions.account_by_name(db.session(), name) is None:
                db.session.execute(insert(Account).values(name=name, role=role, password_hash=_HASH))
                db.session.commit()
        return name

    def script(self, name: str = "ada", role: str = "viewer") -> Script:
        self.account(name, role)
        with self.app.app_context():
            token = actions.create_token(db.session(), actions.existing_account(db.session(), name), "test")
            db.session.commit()
        return Script(self.app.test_client(), token)

    def browser(self) -> FlaskClient:
        return self.app.test_client()

    def signed_in(self, name: str = "ada", role: str = "viewer") -> FlaskClient:
        self.account(name, role)
        browser = self.browser()
        assert sign_in(browser, name).status_code == 303
        return browser

    def run(self, *words: str, stdin: str = "") -> Any:
        return self.app.test_cli_runner().invoke(args=list(words), input=stdin)

    def session(self) -> Session:
        """A session of its own: it sees what is committed."""
        with self.app.app_context():
            return Session(db.engine)


def jobs_in(doors: Doors) -> int:
    with doors.session() as session:
        return session.scalar(select(func.count()).select_from(Job)) or 0


def csrf_of(browser: FlaskClient, page: str = "/login") -> str:
    found = re.search(r'name="csrf_token" value="([^"]+)"', browser.get(page).text)
    assert found, "the page has no CSRF token"
    return found[1]


def sign_in(browser: FlaskClient, name: str, password: str = PASSWORD, target: str = "/login") -> TestResponse:
    form = {"name": name, "password": password, "csrf_token": csrf_of(browser)}
    return browser.post(target, data=form)


@pytest.fixture
def doors(tmp_path: Path) -> Iterator[Doors]:
    app = create_app(config.from_environment({"INSTANCE_PATH": str(tmp_path)}))
    app.jinja_loader = ChoiceLoader([app.jinja_loader, DictLoader({"base.html": _FRAME})])  # type: ignore[list-item]
    # A job's state is what the request made it: no relay sends it on in the middle of a test.
    app.extensions["celery"].relay.nudge = lambda: None
    with app.app_context():
        db.create_all()
    yield Doors(app)
    with app.app_context():
        db.engine.dispose()
