"""A child that holds its interpreter for a whole minute, while nothing else happens.

In a file of its own, so that it runs beside others (its services are this process's, and it only waits); on one stack,
for what the other could add is in test_workers.py, in four leases.
"""

import pytest

from tests.acceptance.conftest import Stack
from tests.faults.ledger import Ledger
from tests.faults.tasks import hold_interpreter
from tests.faults.test_workers import LEASE_SECONDS, outcomes, seconds_of

SECONDS = 60


@pytest.mark.parametrize("stack", ["PostgreSQL and RabbitMQ"], indirect=True)
def test_a_child_that_holds_the_interpreter_for_a_minute_is_not_rescued(stack: Stack, ledger: Ledger) -> None:
    stack.start_beat()
    stack.start_worker()

    job_id = hold_interpreter.delay("held", SECONDS).id

    ledger.reckon(stack, f"a child that holds its interpreter for {SECONDS} s", [job_id], ["held core"], seconds=90)
    assert seconds_of(stack, job_id) >= SECONDS > 4 * LEASE_SECONDS
    assert (stack.bench.job(job_id).attempt, outcomes(stack, job_id)) == (1, [])
