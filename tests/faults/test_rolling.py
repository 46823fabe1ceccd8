"""A new version is rolled out under load: each process is stopped and started, one after another."""

from tests.acceptance.conftest import Stack
from tests.faults.ledger import Ledger
from tests.faults.load import load
from tests.faults.servers import Web, make_token
from tests.helpers import stop, wait_until


def test_a_rolling_restart_under_load_loses_doubles_and_fails_nothing(stack: Stack, ledger: Ledger) -> None:
    fault = "workers, beat and web restarted one after another"
    token = make_token(stack)
    web = Web(stack, token).wait_until_ready()
    beat = stack.start_beat()
    workers = [stack.start_worker(), stack.start_worker()]
    # Some of them run whenever a worker is told to stop, and some outlast STOP_SECONDS.
    long = [stack.bench.fate("sleep_in_first", f"long {n}", 4) for n in range(4)]
    with load(web.submit, fault) as running:

        def until_the_load_went_on(count: int = 10) -> None:
            before = len(running.jobs)
            wait_until(lambda: len(running.jobs) > before + count, 60, "the load goes on")

        until_the_load_went_on()
        for worker in workers:
            stop(worker, 60)
            stack.start_worker()
            until_the_load_went_on()
        stop(beat, 60)
        stack.start_beat()
        until_the_load_went_on()
        assert running.refusals == []
        stop_web(web)
        Web(stack, token, web.port).wait_until_ready()
        until_the_load_went_on()

    ledger.reckon(stack, fault, [*running.jobs, *long], [*running.effects, *(f"long {n}" for n in range(4))], 120)
    assert {job.crashes for job in stack.bench.jobs()} == {0}


def stop_web(web: Web) -> None:
    web.popen.terminate()
    web.popen.wait(60)
