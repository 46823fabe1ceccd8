"""The broker loses what it had, under real processes: everything that was accepted runs all the same."""

import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import pika
import pytest
from sqlalchemy import func, select

from flaskapp.broker.publisher import Publisher
from flaskapp.jobs.models import Job, JobState, Probe
from tests import services
from tests.acceptance.conftest import Stack, installation
from tests.helpers import make_current, wait_until
from tests.services import PostgreSQL, RabbitMQ

S, Q = JobState.SUCCEEDED, JobState.QUEUED
NOTHING = {"configure": "^$", "write": "^$", "read": "^$"}
#: A margin until the probe and one after it are half a minute.
PATIENCE = 90


def purge(stack: Stack) -> None:
    """Every message is gone; queues and exchanges stay."""
    if stack.environment["BROKER_URL"].startswith("folder"):
        for ready in folder_of(stack).glob("queues/*/ready"):
            for message in ready.iterdir():
                message.unlink(missing_ok=True)
        return
    connection = pika.BlockingConnection(pika.URLParameters(stack.environment["BROKER_URL"]))
    channel = connection.channel()
    for queue in ("default", "mail"):
        channel.queue_purge(queue)
    connection.close()


def folder_of(stack: Stack) -> Path:
    return Path(urlsplit(stack.environment["BROKER_URL"]).path)


def submitted(stack: Stack, count: int, what: str) -> list[str]:
    return [stack.bench.submit("diagnostics.effect", f"{what} {n}") for n in range(count)]


def all_queued(stack: Stack, ids: list[str]) -> None:
    def queued() -> bool:
        with stack.bench.session() as session:
            return session.scalar(select(func.count()).where(Job.state == Q, Job.id.in_(ids))) == len(ids)

    wait_until(queued, 30, "all are at the broker")


def all_ran_once(stack: Stack, ids: list[str], what: str) -> list[Job]:
    jobs = stack.bench.finished(ids, PATIENCE)
    assert {job.state for job in jobs} == {S}
    assert [len(stack.bench.effects(f"{what} {n}")) for n in range(len(ids))] == [1] * len(ids)
    assert stack.bench.account().drift == 0
    return jobs


def probe(stack: Stack, queue: str = "default") -> Probe | None:
    with stack.bench.session() as session:
        return session.scalars(select(Probe).where(Probe.queue == queue)).first()


def test_after_a_purge_every_job_is_sent_again_once(stack: Stack) -> None:
    ids = submitted(stack, 120, "purged")
    all_queued(stack, ids)
    purge(stack)

    stack.start_worker()
    stack.start_beat()

    jobs = all_ran_once(stack, ids, "purged")
    assert sum(job.sends - 1 for job in jobs) <= 1.01 * len(jobs)


def test_a_purge_also_takes_the_probe_that_is_under_way(stack: Stack) -> None:
    ids = submitted(stack, 20, "purged")
    all_queued(stack, ids)
    stack.start_beat()
    under_way = wait_until(lambda: (found := probe(stack)) and found.sent_at and found, 30, "a probe is under way")
    # It is noted before it is sent.
    publisher = Publisher(stack.environment["BROKER_URL"])
    wait_until(lambda: (publisher.count_messages(["default"])["default"] or 0) > len(ids), 30, "it is at the broker")
    publisher.close()
    purge(stack)

    stack.start_worker()

    all_ran_once(stack, ids, "purged")
    after = probe(stack)
    assert after is not None
    assert after.number > under_way.number


def test_nothing_is_sent_again_that_only_waits_for_a_slow_worker(stack: Stack) -> None:
    """Several margins long. The probe is behind them: it comes to the worker when the last of them is claimed."""
    ids = [stack.bench.fate("sleep", 4.0) for _ in range(10)]
    stack.start_beat()
    stack.start_worker(concurrency=1)

    jobs = stack.bench.finished(ids, 120)

    assert {job.sends for job in jobs} == {1}
    found = wait_until(lambda: (it := probe(stack)) and it.looked_at and it, 60, "a probe is judged")
    assert found.lost == 0


# --- the whole broker is gone -----------------------------------------------------------------------------


@pytest.fixture
def own_rabbitmq(services_folder: Path) -> Iterator[RabbitMQ]:
    """A broker of this test's own, for its data will be deleted."""
    with services.rabbitmq(services_folder / f"rabbitmq-{uuid4().hex[:8]}") as running:
        yield running


def remade(broker: RabbitMQ, name: str) -> None:
    broker.delete_vhost(name)
    broker.create_vhost(name)


def reborn(broker: RabbitMQ, name: str) -> None:
    broker.kill()
    shutil.rmtree(broker.data)
    broker.start()
    broker.create_vhost(name)


@pytest.mark.parametrize("lose", [remade, reborn], ids=["vhost deleted", "data deleted"])
def test_rabbitmq_loses_everything_and_all_jobs_run(
    own_rabbitmq: RabbitMQ, postgresql: PostgreSQL, tmp_path: Path, lose: Callable[[RabbitMQ, str], None]
) -> None:
    urls = postgresql.create_database(f"wiped_{uuid4().hex}"), own_rabbitmq.create_vhost("wiped")
    with installation("wiped", *urls, tmp_path) as stack:
        make_current(stack.bench.app)
        loses_everything(stack, lambda: lose(own_rabbitmq, "wiped"))


@pytest.mark.parametrize("stack", ["SQLite and folder"], indirect=True)
def test_the_folder_is_deleted_and_all_jobs_run(stack: Stack) -> None:
    loses_everything(stack, lambda: shutil.rmtree(folder_of(stack), ignore_errors=True))


def loses_everything(stack: Stack, lose: Callable[[], None]) -> None:
    """Jobs before, during and after the loss; the worker and beat live through it."""
    stack.start_beat()
    worker = stack.start_worker()
    all_ran_once(stack, submitted(stack, 5, "before"), "before")
    # Longer than both slots are free: these stand at the broker when it loses them.
    sleeping = [stack.bench.fate("sleep", 3.0) for _ in range(2)]
    ids = submitted(stack, 60, "lost")
    usual = seconds_to_submit(stack, "usual")
    lose()
    meanwhile = seconds_to_submit(stack, "meanwhile")

    all_ran_once(stack, ids, "lost")
    all_ran_once(stack, submitted(stack, 5, "after"), "after")
    assert {job.state for job in stack.bench.finished(sleeping)} == {S}
    assert worker.popen.poll() is None
    # Generous: what would be wrong is a wait for the broker's time limits.
    assert meanwhile < 5 * usual + 1


def test_a_worker_outlives_a_broker_that_closes_its_channel(
    own_rabbitmq: RabbitMQ, postgresql: PostgreSQL, tmp_path: Path
) -> None:
    """RabbitMQ closes the channel, not the connection, over a right taken away or a virtual host being deleted."""
    urls = postgresql.create_database(f"closed_{uuid4().hex}"), own_rabbitmq.create_vhost("closed")
    with installation("closed", *urls, tmp_path) as stack:
        make_current(stack.bench.app)
        stack.start_beat()
        worker = stack.start_worker()
        all_ran_once(stack, submitted(stack, 5, "before"), "before")

        own_rabbitmq.api("PUT", f"/permissions/closed/{own_rabbitmq.user_name}", NOTHING)
        wait_until(lambda: "ACCESS_REFUSED" in worker.says(), 60, "the broker closed a channel of the worker")
        ids = submitted(stack, 20, "meanwhile")
        own_rabbitmq.create_vhost("closed")

        all_ran_once(stack, ids, "meanwhile")
        assert worker.popen.poll() is None


def seconds_to_submit(stack: Stack, what: str) -> float:
    began = time.perf_counter()
    submitted(stack, 30, what)
    return time.perf_counter() - began
