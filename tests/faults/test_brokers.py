"""A broker that is away, full, frozen, killed or empty: jobs are accepted meanwhile, and run when it is back."""

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from flaskapp.jobs.models import JobState
from tests.acceptance.conftest import STACKS, Stack, make_stack
from tests.faults.ledger import Ledger
from tests.faults.load import load, pass_time, submit_to, under_load
from tests.helpers import make_current, wait_until
from tests.services import RabbitMQ
from tests.tasks_for_tests import add

#: A quorum queue that is killed in its youth is lost with what it confirmed (RabbitMQ 3.10).
GROWN_UP_SECONDS = 10
#: Nobody who submits notices that the broker is away; a busy machine may make one commit slow.
PATIENCE_SECONDS = 3


@pytest.fixture(scope="module", params=STACKS)
def living(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """With a worker and a beat that outlive every fault, and queues that are no longer young."""
    for stack in make_stack(request, tmp_path_factory.mktemp("broker")):
        make_current(stack.bench.app)
        stack.start_worker(4)
        stack.start_beat()
        assert add.delay(1, 1).get(timeout=30) == 2
        pass_time(GROWN_UP_SECONDS)
        yield stack


big = pytest.mark.parametrize("living", ["PostgreSQL and RabbitMQ"], indirect=True)
embedded = pytest.mark.parametrize("living", ["SQLite and folder"], indirect=True)


@big
def test_what_is_submitted_while_the_broker_is_down_runs_when_it_is_back(
    living: Stack, rabbitmq: RabbitMQ, ledger: Ledger
) -> None:
    make_current(living.bench.app)
    rabbitmq.stop()
    try:
        started = time.monotonic()
        ids = [living.celery.send_task("diagnostics.effect", args=[f"down {n}"]).id for n in range(5)]
        took = time.monotonic() - started
        assert [living.bench.state(job_id) for job_id in ids] == [JobState.WAITING] * 5
    finally:
        rabbitmq.start()

    ledger.reckon(living, "the broker stopped and started", ids, [f"down {n}" for n in range(5)])
    assert took < PATIENCE_SECONDS


@big
@pytest.mark.parametrize("fault", ["the broker under a memory alarm", "the broker frozen", "the broker killed with -9"])
def test_a_broker_in_trouble_costs_nothing(living: Stack, rabbitmq: RabbitMQ, ledger: Ledger, fault: str) -> None:
    make_current(living.bench.app)
    with under_load(living, fault) as running:
        if "alarm" in fault:
            rabbitmq.ctl("set_vm_memory_high_watermark", "0.000001")
            pass_time(8)
            rabbitmq.ctl("set_vm_memory_high_watermark", "absolute", "512MB")
        elif "frozen" in fault:
            rabbitmq.freeze()
            pass_time(8)
            rabbitmq.resume()
        else:
            rabbitmq.kill()
            rabbitmq.start()

    ledger.reckon(living, fault, running.jobs, running.effects, 120)
    assert (running.refusals, running.slowest < PATIENCE_SECONDS) == ([], True)


@embedded
def test_a_folder_that_is_not_there_for_a_while_costs_nothing(living: Stack, ledger: Ledger) -> None:
    make_current(living.bench.app)
    fault = "the broker's folder unusable for 8 s"
    folder, elsewhere = living.bench.folder / "broker", living.bench.folder / "elsewhere"
    with under_load(living, fault) as running:
        folder.rename(elsewhere)
        # Like a disk that has gone: nothing can be read or written below it, not even by root.
        folder.write_text("not a folder")
        pass_time(8)
        folder.unlink()
        elsewhere.rename(folder)

    ledger.reckon(living, fault, running.jobs, running.effects, 120)
    assert (running.refusals, running.slowest < PATIENCE_SECONDS) == ([], True)


# The last one: RabbitMQ forgets the vhosts of all stacks.
def test_a_broker_that_lost_all_its_data_is_filled_again(
    stack: Stack, request: pytest.FixtureRequest, ledger: Ledger
) -> None:
    fault = "the broker's whole data lost"
    stack.start_beat()
    queued = [stack.celery.send_task("diagnostics.effect", args=[f"wiped {n}"]).id for n in range(20)]
    wait_until(lambda: {stack.bench.state(job_id) for job_id in queued} == {JobState.QUEUED}, 30, "all are queued")
    with load(submit_to(stack), fault, every=0.5) as running:
        if stack.name == "SQLite and folder":
            # At one moment, for those who write there meanwhile make what they need again.
            lost = (stack.bench.folder / "broker").rename(stack.bench.folder / "lost")
            shutil.rmtree(lost, ignore_errors=True)
        else:
            wipe(request.getfixturevalue("rabbitmq"), stack)
        stack.start_worker()

        wait_until(lambda: all(stack.bench.job(job_id).is_final for job_id in queued), 200, "they were sent again")

    effects = [*running.effects, *(f"wiped {n}" for n in range(20))]
    ledger.reckon(stack, fault, [*queued, *running.jobs], effects, 120)
    assert (running.refusals, running.slowest < PATIENCE_SECONDS) == ([], True)


def wipe(rabbitmq: RabbitMQ, stack: Stack) -> None:
    rabbitmq.wipe()
    rabbitmq.start()
    # What an operator's definitions file does: the vhost is there again, and empty.
    rabbitmq.create_vhost(Path(stack.environment["BROKER_URL"]).name)
