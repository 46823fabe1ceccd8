"""Rates are held by all senders together: two processes, a message each, counted by the server that they send to."""

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from sqlalchemy.engine import Engine

from tests.helpers import ROOT, environment
from tests.integration.mail_fixtures import Post, mail_bench, post, server  # noqa: F401 -- fixtures

_SENDER = """
import os, sys
from flaskapp import create_app
from flaskapp.worker import testing
testing.WORKER = f"sender-{os.getpid()}"  # a worker of its own: what one claimed the other cannot
app = create_app()
app.extensions["celery"].relay.nudge = lambda: None  # nothing travels: each takes its job from the table
with app.app_context():
    print("ready", flush=True)
    sys.stdin.readline()
    testing.run_due_jobs()
"""
_ALL, _DOMAIN = 14, 6


@contextmanager
def senders(count: int, variables: dict[str, str]) -> Iterator[list["subprocess.Popen[str]"]]:
    """Processes that are ready to send, and begin at a line."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "cwd": ROOT}
    started = [
        subprocess.Popen([sys.executable, "-c", _SENDER], env={**os.environ, **variables}, **pipes)  # type: ignore[call-overload]
        for _ in range(count)
    ]
    try:
        for one in started:
            assert one.stdout.readline() == "ready\n"
        yield started
    finally:
        for one in started:
            one.kill()
            one.communicate()


def most_in_a_second(moments: Sequence[float]) -> int:
    return max(sum(0 <= other - begin < 1 for other in moments) for begin in moments)


def test_two_processes_keep_one_rate(post: Post):
    settings = {"MAIL_URL": post.server.url, "MAIL_RATE": _ALL, "MAIL_DOMAIN_RATE": _DOMAIN}
    url, folder = _address_of(post.bench.engine), post.bench.folder
    messages = [
        # Six to the same domain first, then eight to domains of their own: each rate is the narrow one for some.
        post.write(*(f"{name}{n}@x.example" for n in range(6)), *(f"{name}{n}@{name}{n}.example" for n in range(8)))
        for name in ("ada", "bob")
    ]
    with senders(2, environment(url, f"folder://{folder}/broker", folder, **settings)) as both:
        for one in both:
            one.stdin.write("now\n")  # type: ignore[union-attr]
            one.stdin.flush()  # type: ignore[union-attr]
        assert [one.wait(60) for one in both] == [0, 0]
    assert [post.states(message_id) for message_id in messages] == [["accepted"] * 14] * 2
    order = "".join(to[0] for to, _ in post.inbox.letters)
    assert ("ab" in order, "ba" in order) == (True, True), f"one message was sent after the other: {order}"
    check_rate([at for at, _ in post.inbox.taken], _ALL)
    check_rate([at for at, to in post.inbox.taken if to == "x.example"], _DOMAIN)


def check_rate(moments: Sequence[float], rate: int) -> None:
    # A process that is held up between its turn and its mail makes two mails come closer: one for each process.
    assert most_in_a_second(moments) <= rate + 1 + 2
    # Turns are evenly spaced, less what the first mail was held up.
    assert max(moments) - min(moments) >= (len(moments) - 1) / rate - 0.5


def _address_of(engine: Engine) -> str:
    return engine.url.render_as_string(hide_password=False)
