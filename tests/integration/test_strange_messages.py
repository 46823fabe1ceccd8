"""What anybody may put into a queue: a real worker outlives it, and no job of ours waits for ever because of it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kombu import Connection, Producer
from sqlalchemy import text

from flaskapp.broker import topology
from flaskapp.broker.publisher import Publisher
from flaskapp.jobs.models import JobState
from tests.helpers import Bench, Process, environment, kill, make_app, start_worker, wait_until

FATE = {"task": "tests.fate", "id": "strange"}
GOOD = '[["ok"], {}, {}]'
STRANGE: list[tuple[str, Any]] = [
    ("null", FATE),
    ("5", FATE),
    ("{", FATE),
    ("[1, 2, 3]", FATE),
    ('[["ok"], {}, [1]]', FATE),
    (GOOD, {**FATE, "retries": "abc"}),
    (GOOD, {**FATE, "retries": 10**30}),
    (GOOD, {**FATE, "root_id": {"a": 1}}),
    (GOOD, {**FATE, "timelimit": ["a", "b"]}),
    (GOOD, {**FATE, "eta": "0001-01-01T00:00:00+14:00"}),
    (GOOD, {**FATE, "id": "\ud800"}),
    (GOOD, {**FATE, "id": ["a"]}),
    (GOOD, {**FATE, "id": "x" * 156}),
    (GOOD, {**FATE, "id": ["a"], "offload_send": 1}),
    (GOOD, {"task": "tests.fate"}),
    (GOOD, {"task": ["tests.fate"], "id": "strange"}),
    (GOOD, {"task": "nobody.knows", "id": "strange"}),
]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Bench, Process]]:
    folder: Path = tmp_path_factory.mktemp("strange")
    urls = f"sqlite:///{folder}/offload.sqlite3", f"folder://{folder}/broker"
    bench = Bench(make_app(*urls, folder))
    bench.celery.relay = relay = bench.celery.make_relay(0.2)
    relay.start()
    worker = start_worker(environment(*urls, folder))
    yield bench, worker
    kill(worker)
    relay.stop()
    bench.close()


@pytest.fixture
def broker(installed: tuple[Bench, Process]) -> str:
    return str(installed[0].celery.settings.broker_url)


def test_strange_messages_end_no_worker(installed: tuple[Bench, Process], broker: str) -> None:
    bench, worker = installed
    with Connection(broker) as connection:
        producer = Producer(connection.default_channel, exchange=topology.EXCHANGE, auto_declare=False)
        for body, headers in STRANGE:
            content = {"content_type": "application/json", "content_encoding": "utf-8"}
            producer.publish(body, routing_key="default", headers=headers, **content)

    bench.finished([bench.fate("ok")])

    assert worker.popen.poll() is None
    assert [job.id for job in bench.jobs() if job.id == "strange"] == []


def test_arguments_that_cannot_be_decoded_fail_their_job(installed: tuple[Bench, Process]) -> None:
    bench, _ = installed

    (job,) = bench.finished([bench.fate("ok", {"__type__": "unheard of", "__value__": 1})])

    assert (job.state, job.error_type) == (JobState.FAILED, "DecodeError")


def test_a_job_whose_task_the_worker_does_not_know_keeps_waiting(installed: tuple[Bench, Process]) -> None:
    bench, worker = installed
    job_id = bench.submit("tests.of_a_newer_version")

    wait_until(lambda: "No task 'tests.of_a_newer_version' here" in worker.says(), 10, "the worker says so")

    wait_until(lambda: bench.state(job_id) == JobState.WAITING, 5, "it waits")


def test_a_job_for_a_queue_that_does_not_exist_is_not_called_queued(
    installed: tuple[Bench, Process], broker: str
) -> None:
    bench, _ = installed
    good, bad = bench.fate("ok"), bench.submit("tests.fate", "ok", queue="nowhere")

    assert Publisher(broker).publish([bench.job(good), bench.job(bad)]) == {good}


def test_a_text_that_writes_is_part_of_its_transaction(installed: tuple[Bench, Process]) -> None:
    bench, _ = installed
    before = bench.account().pruned
    with bench.session() as session:
        session.execute(text("WITH one AS (SELECT 1) INSERT INTO job_tally (accepted, pruned) SELECT 0, 9 FROM one"))
        session.rollback()

    assert bench.account().pruned == before
