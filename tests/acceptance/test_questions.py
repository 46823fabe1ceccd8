"""Questions asked by real workers: cancelled ones end, heavy ones disturb nobody."""

import threading
import time
import urllib.request
from uuid import uuid4

import pytest
from sqlalchemy import insert, text
from werkzeug.serving import make_server

from flaskapp.accounts.models import Account
from flaskapp.extensions import db
from flaskapp.jobs import control
from flaskapp.jobs.limits import Rule
from flaskapp.query import actions
from flaskapp.query.models import QueryRun
from tests.acceptance.conftest import Stack
from tests.helpers import asking_below, wait_until

ENDLESS = (
    "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t WHERE n < 900) "
    "SELECT count(*) FROM t a, t b, t c, t d"
)


@pytest.fixture
def owner(calm: Stack) -> str:
    name = f"ada{uuid4().hex[:6]}"
    with calm.bench.app.app_context():
        db.session.execute(insert(Account).values(name=name, role="viewer", password_hash="x"))
        db.session.commit()
    return name


def ask(stack: Stack, owner: str, sql: str) -> QueryRun:
    with stack.bench.app.app_context():
        query = actions.ask(db.session(), sql, {}, owner)
        db.session.commit()
        db.session.refresh(query)
        db.session.expunge(query)
        return query


def statements_of_questions(stack: Stack) -> int:
    if stack.bench.engine.dialect.name != "postgresql":
        return 0
    with stack.bench.engine.connect() as connection:
        count = "SELECT count(*) FROM pg_stat_activity WHERE usename = current_database() || '_query'"
        return int(connection.scalar(text(count)) or 0)


def test_a_cancelled_question_ends_at_once_and_leaves_nothing(calm: Stack, owner: str) -> None:
    worker = calm.processes[0].pid
    query = ask(calm, owner, ENDLESS)
    wait_until(lambda: asking_below(worker), 20, "a process asks")
    calm.celery.control.revoke(query.job_id, terminate=True)
    wait_until(lambda: not asking_below(worker), 10, "its process is gone")
    wait_until(lambda: statements_of_questions(calm) == 0, 10, "and so is its statement")
    assert calm.bench.state(query.job_id) == "cancelled"


def test_twenty_heavy_questions_disturb_neither_the_site_nor_other_jobs(calm: Stack, owner: str) -> None:
    with calm.bench.app.app_context():
        # As the migrations leave it.
        control.set_queue_limits(db.session(), "query", Rule(max_running=1))
        db.session.commit()
    heavy = [ask(calm, owner, ENDLESS) for _ in range(20)]
    wait_until(lambda: len(asking_below(calm.processes[0].pid)) == 1, 30, "one of two slots asks")
    others = [calm.bench.submit("diagnostics.echo", number) for number in range(20)]
    wait_until(lambda: {calm.bench.state(other) for other in others} == {"succeeded"}, 40, "other jobs end")
    assert {"waiting", "queued"} & {calm.bench.state(query.job_id) for query in heavy}, "meanwhile questions wait"
    with _site(calm) as port:
        # Other tests may be as heavy: one quiet moment shows that it is not the questions.
        wait_until(lambda: _slow_answer(port) < 0.1, 60, "19 of 20 answers come within 100 ms")
    for query in heavy:
        calm.celery.control.revoke(query.job_id, terminate=True)
    wait_until(lambda: not asking_below(calm.processes[0].pid), 20, "all of them are gone")


def _slow_answer(port: int) -> float:
    """What 95 of 100 answers do not take."""
    waits = []
    for _ in range(60):
        began = time.monotonic()
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=5) as answer:
            assert answer.status == 200
        waits.append(time.monotonic() - began)
    return sorted(waits)[57]


class _site:
    def __init__(self, stack: Stack) -> None:
        self.server = make_server("127.0.0.1", 0, stack.bench.app, threaded=True)

    def __enter__(self) -> int:
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self.server.server_port

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()
