"""kill -9 in the middle of sending, many times: nobody is forgotten, nobody gets it twice, the rest is unknown.

On each stack 51 deaths, 34 of them between the commit of `sending` and that of the answer.
"""

from collections import Counter
from collections.abc import Iterator

import pytest
from sqlalchemy import select

from flaskapp.extensions import db
from flaskapp.jobs.models import Job
from flaskapp.mail import actions
from flaskapp.mail.models import Recipient
from tests.acceptance.conftest import Stack
from tests.helpers import wait_until
from tests.mail_server import Server

EACH = 17
PLACES = ("offered", "sending", "sent")


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        yield running


def test_a_killed_worker_loses_nobody_and_doubles_nobody(stack: Stack, server: Server) -> None:
    proofs = stack.bench.folder / "deaths"
    proofs.mkdir()
    stack.start_worker(MAIL_URL=server.url, MAIL_DIES=str(proofs))
    with stack.bench.app.app_context():
        for number in range(EACH):
            for place in PLACES:
                to = [
                    f"before{number}@{place}.example",
                    f"die-{place}{number}@x.example",
                    f"after{number}@{place}.example",
                ]
                actions.write(to, "Hello", "Dear reader")
        db.session.commit()

    def states() -> dict[str, str]:
        with stack.bench.session() as session:
            return dict(session.execute(select(Recipient.address, Recipient.state)).all())

    wait_until(
        lambda: not set(states().values()) & {"queued", "sending", "deferred"}, 90, f"{Counter(states().values())}"
    )

    kills = len(list(proofs.iterdir()))
    got, ended = server.inbox.counts(), states()
    assert kills == EACH * len(PLACES)
    # Nobody twice.
    assert max(got.values()) == 1
    # Nobody forgotten: who is called accepted has it, and who has it is accepted or unknown.
    assert {to for to, state in ended.items() if state == "accepted"} <= set(got)
    assert {ended[to] for to in got} <= {"accepted", "unknown"}
    # Unknown are those whose worker died between `sending` and the answer's commit. With a quick server that is the
    # commit of the next one's `sending`: who came just before an `offered` may be unknown too, and has it.
    unknown = {to for to, state in ended.items() if state == "unknown"}
    surely = {f"die-{place}{number}@x.example" for place in ("sending", "sent") for number in range(EACH)}
    just_before = {f"before{number}@offered.example" for number in range(EACH)}
    assert surely <= unknown <= surely | just_before
    assert unknown & just_before <= set(got)
    assert set(ended.values()) == {"accepted", "unknown"}

    def jobs() -> bool:
        with stack.bench.session() as session:
            return set(session.scalars(select(Job.state).where(Job.task == "mail.deliver"))) == {"succeeded"}

    wait_until(jobs, 20, "every job succeeded")


def test_two_workers_send_to_a_recipient_once(stack: Stack, server: Server) -> None:
    """Both hold a job for the same message, as after a rescue of a worker that was only frozen."""
    for _ in range(2):
        stack.start_worker(MAIL_URL=server.url)
    to = [f"reader{number}@x.example" for number in range(200)]
    with stack.bench.app.app_context():
        message = actions.write(to, "Hello", "Dear reader")
        actions.deliver.delay(message.id, 0)
        actions.deliver.delay(message.id, 0)
        message_id = message.id
        db.session.commit()

    def accepted() -> bool:
        with stack.bench.session() as session:
            found = session.execute(select(Recipient.state).where(Recipient.message_id == message_id)).scalars()
            return set(found) == {"accepted"}

    wait_until(accepted, 60, "all of them have it")
    assert server.inbox.counts() == dict.fromkeys(to, 1)
