"""Messages that come too often, and jobs that are pruned while others run: each effect is there once."""

import threading

from kombu import Connection, Producer

from flaskapp.broker import publisher, topology, transports
from flaskapp.jobs import lifecycle
from flaskapp.jobs.clock import seconds_from_now
from flaskapp.jobs.models import JobState
from tests.acceptance.conftest import Stack
from tests.faults.ledger import Ledger
from tests.faults.load import load, submit_to
from tests.helpers import wait_until
from tests.tasks_for_tests import add

S = JobState.SUCCEEDED


def test_a_hundred_duplicates_of_a_message_are_one_success(calm: Stack, ledger: Ledger) -> None:
    job_id = unsent(calm, "duplicated", number=1)

    publish(calm, job_id, [1] * 100)

    calm.bench.finished([job_id])
    assert add.delay(1).get(timeout=15) == 1
    ledger.reckon(calm, "a message delivered 100 times", [job_id], ["duplicated"])
    assert calm.bench.job(job_id).attempt == 1


def test_a_stale_duplicate_does_not_swallow_the_newest_message(calm: Stack) -> None:
    job_id = unsent(calm, "newest", number=2)

    publish(calm, job_id, [1] * 10 + [2] + [1] * 10)

    (job,) = calm.bench.finished([job_id])
    assert (job.state, job.attempt, len(calm.bench.effects("newest"))) == (S, 1, 1)


def unsent(calm: Stack, key: str, number: int) -> str:
    """A due job that no relay sends, at its sending of that number."""
    job_id = calm.bench.fate("write_then_ok", key, countdown=3600)
    calm.bench.change(job_id, sends=number, sending_until=seconds_from_now(3600), run_at=seconds_from_now(-1))
    return job_id


def publish(calm: Stack, job_id: str, numbers: list[int]) -> None:
    """Send it as the relay does, once for each of the numbers."""
    job = calm.bench.job(job_id)
    url = calm.environment["BROKER_URL"]
    with Connection(url, transport_options=transports.options(url)) as connection:
        producer = Producer(connection.default_channel, exchange=topology.EXCHANGE, auto_declare=False)
        for number in numbers:
            producer.publish(
                f"[{job.args}, {job.kwargs}, {publisher.embed(job)}]",
                routing_key=job.queue,
                content_type="application/json",
                content_encoding="utf-8",
                headers={**publisher.headers(job), publisher.SEND_HEADER: number},
                correlation_id=job.id,
            )


def test_pruning_while_jobs_run_deletes_nothing_that_lives(calm: Stack, ledger: Ledger) -> None:
    fault = "jobs pruned every 100 ms while others run"
    end, drifts = threading.Event(), []

    def prune() -> None:
        while not end.wait(0.1):
            with calm.bench.session() as session, session.begin():
                lifecycle.prune(session, 0, 0)
            drifts.append(calm.bench.account().drift)

    pruner = threading.Thread(target=prune)
    pruner.start()
    try:
        with load(submit_to(calm), fault, every=0.01) as running:
            wait_until(lambda: len(running.jobs) > 100, 60, "the load has run for a while")
        ledger.reckon(calm, fault, running.jobs, running.effects, pruned=True)
    finally:
        end.set()
        pruner.join(30)
    assert set(drifts) == {0}
    assert calm.bench.account().pruned > 100
