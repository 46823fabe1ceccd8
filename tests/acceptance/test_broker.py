"""What only a real RabbitMQ shows: others send to it, and it keeps what nobody knows."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pika
import pytest
from celery import Celery, chord
from sqlalchemy import select

from flaskapp.broker import topology
from flaskapp.broker.publisher import PROBE_HEADER, SEND_HEADER
from flaskapp.jobs.models import DeadLetter, JobState
from tests.acceptance.conftest import Stack, make_stack
from tests.helpers import make_current, wait_until
from tests.tasks_for_tests import add

S, F = JobState.SUCCEEDED, JobState.FAILED
pytestmark = pytest.mark.parametrize("big", ["PostgreSQL and RabbitMQ"], indirect=True)


@pytest.fixture(scope="module")
def big(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The big stack, with a worker and a beat."""
    folder: Path = tmp_path_factory.mktemp("big")
    for stack in make_stack(request, folder):
        make_current(stack.bench.app)
        stack.start_worker()
        stack.start_beat()
        yield stack


def foreign(big: Stack) -> Celery:
    """A stock Celery application of somebody else, which knows nothing of our table."""
    app = Celery("stranger", broker=big.environment["BROKER_URL"], set_as_current=False)
    app.conf.update(task_default_exchange=topology.EXCHANGE.name, task_default_exchange_type="topic")
    app.conf.task_queues = topology.WORK_QUEUES
    app.conf.task_default_queue = "default"
    app.conf.task_default_routing_key = "default"
    return app


def test_a_chord_of_a_stock_celery_leads_to_its_body(big: Stack, tmp_path: Path) -> None:
    app = foreign(big)
    app.conf.result_backend = f"db+sqlite:///{tmp_path / 'strangers.sqlite3'}"
    header = [app.signature("diagnostics.echo", args=[n], immutable=True) for n in range(5)]

    body = chord(header, app=app)(app.signature("diagnostics.echo"))

    wait_until(lambda: row(big, body.id), 30, "the body has a row")
    (job,) = big.bench.finished([body.id], 30)
    assert (job.state, job.result, job.attempt) == (S, "[0, 1, 2, 3, 4]", 1)
    assert [job.attempt for job in big.bench.jobs() if job.task == "celery.chord_unlock"] == [1]
    assert big.bench.account().drift == 0


def row(big: Stack, job_id: str) -> Any:
    return next((job for job in big.bench.jobs() if job.id == job_id), None)


def test_a_message_of_a_stock_celery_gets_a_row_and_runs(big: Stack) -> None:
    job_id = foreign(big).send_task("diagnostics.effect", args=["stranger"]).id

    wait_until(lambda: row(big, job_id), 15, "the message has a row")
    (job,) = big.bench.finished([job_id])

    assert (job.state, job.task, job.queue, job.owner) == (S, "diagnostics.effect", "default", None)
    assert len(big.bench.effects("stranger")) == 1
    assert big.bench.account().drift == 0


def test_a_foreign_job_may_retry_and_be_told_when(big: Stack) -> None:
    retried = foreign(big).send_task("diagnostics.fail", args=[1]).id
    later = foreign(big).send_task("diagnostics.echo", args=[1], countdown=1).id

    wait_until(lambda: row(big, retried) and row(big, later), 15, "both have rows")
    jobs = big.bench.finished([retried, later])

    assert [(job.state, job.queue) for job in jobs] == [(S, "default")] * 2
    assert jobs[1].started_at >= jobs[1].run_at  # type: ignore[operator]


def test_a_message_of_ours_without_a_row_is_a_dead_letter(big: Stack) -> None:
    publish(big, "risen", b'[["risen"], {}, {}]', **{SEND_HEADER: 1})

    wait_until(lambda: "risen" in dead_letters(big), 45, "it is a dead letter")
    assert big.bench.effects("risen") == []
    assert row(big, "risen") is None


POISON = {
    "a body that is not ours": ("poison", b"[1]", {}),
    "a body that is no JSON": ("poison", b"[[1", {}),
    "an id that no database stores": ("a\x00b", b"[[1], {}, {}]", {}),
    "the same with our header": ("a\x00b", b"[[1], {}, {}]", {SEND_HEADER: 1}),
    "an id that is too long": ("x" * 200, b"[[1], {}, {}]", {}),
    "a root that is too long": ("poison", b"[[1], {}, {}]", {"root_id": "x" * 200}),
    "a time that is none": ("poison", b"[[1], {}, {}]", {"expires": "whenever"}),
    "a probe without a number": ("poison", b"{}", {PROBE_HEADER: "one"}),
    "a probe with a number that no database stores": ("poison", b"{}", {PROBE_HEADER: 2**40}),
    "retries that are no number": ("poison", b"[[1], {}, {}]", {"retries": "many"}),
}


@pytest.mark.parametrize("poison", POISON)
def test_a_poisonous_message_harms_nobody(big: Stack, poison: str) -> None:
    name, body, headers = POISON[poison]
    publish(big, name, body, **headers)

    assert add.delay(1, 1).get(timeout=15) == 2
    assert row(big, name) is None


def test_a_probe_that_nobody_waits_for_is_no_dead_letter(big: Stack) -> None:
    publish(big, "stale", b"{}", **{PROBE_HEADER: 99})

    assert add.delay(1, 1).get(timeout=15) == 2
    connection = pika.BlockingConnection(pika.URLParameters(big.environment["BROKER_URL"]))
    channel = connection.channel()
    # Neither dead nor back in its queue.
    for queue in ("offload.dead", "default"):
        left = iter(lambda queue=queue: channel.basic_get(queue, auto_ack=True), (None, None, None))
        assert "stale" not in [properties.correlation_id for _, properties, _ in left]
    connection.close()


def publish(big: Stack, job_id: str, body: bytes, **headers: Any) -> None:
    connection = pika.BlockingConnection(pika.URLParameters(big.environment["BROKER_URL"]))
    properties = pika.BasicProperties(
        content_type="application/json",
        content_encoding="utf-8",
        correlation_id=job_id,
        delivery_mode=2,
        headers={"lang": "py", "task": "diagnostics.effect", "id": job_id, **headers},
    )
    connection.channel().basic_publish("offload", "default", body, properties)
    connection.close()


def dead_letters(big: Stack) -> list[str | None]:
    """The jobs that the letters name; beat has moved them into rows."""
    with big.bench.session() as session:
        return list(session.scalars(select(DeadLetter.job_id)))
