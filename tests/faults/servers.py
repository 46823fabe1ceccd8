"""Processes of one installation that may die at any moment: a web process, spoken to over HTTP, and a beat."""

import http.client
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import insert

from flaskapp.accounts import actions
from flaskapp.accounts.models import Account
from flaskapp.extensions import db
from tests.acceptance.conftest import Stack
from tests.helpers import ROOT, Process, wait_until
from tests.services import free_port


def make_token(stack: Stack) -> str:
    """For an operator who never signs in with a password."""
    with stack.bench.app.app_context():
        db.session.execute(insert(Account).values(name="faults", role="operator", password_hash="!"))
        token = actions.create_token(db.session(), actions.existing_account(db.session(), "faults"), "faults")
        db.session.commit()
    return token


def launch_beat(stack: Stack, name: str, **more: str) -> Process:
    """Nobody waits until it ticks: it may be gone before."""
    beat = Process(["beat", "-l", "info"], {**stack.environment, **more}, stack.bench.folder / f"{name}.log")
    stack.processes.append(beat)
    return beat


class Web:
    def __init__(self, stack: Stack, token: str, port: int = 0, **more: str) -> None:
        self.port = port or free_port()
        self._token = token
        place = {"HOST": "127.0.0.1", "PORT": str(self.port)}
        with (stack.bench.folder / "web.log").open("ab") as log:
            self.popen = subprocess.Popen(
                [sys.executable, "-m", "gunicorn", "tests.faults.web:app"],
                cwd=ROOT,
                env={**os.environ, **stack.environment, **place, **more},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        stack.processes.append(self)

    @property
    def pid(self) -> int:
        return self.popen.pid

    def wait_until_ready(self) -> "Web":
        wait_until(self._answers, 60, "the web process answers")
        return self

    def submit(self, task: str, args: Sequence[Any]) -> str:
        """Answers the job's id; asked again after an error, it answers the id of the first time."""
        key = {"Idempotency-Key": f"{task} {args[0]}"}
        status, answer = self.ask("POST", "/api/v1/jobs", {"task": task, "args": list(args)}, key)
        assert status == 202, answer
        return str(answer["id"])

    def ask(self, method: str, path: str, body: Any = None, more: Mapping[str, str] | None = None) -> tuple[int, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            headers = {"Authorization": f"Bearer {self._token}", "Content-Type": "application/json", **(more or {})}
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read() or "null")
        finally:
            connection.close()

    def _answers(self) -> bool:
        try:
            return self.ask("GET", "/healthz")[0] == 200
        except (OSError, http.client.HTTPException, ValueError):
            return False
