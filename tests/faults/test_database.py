"""A database that restarts, crashes, stalls or is held up: no job fails, and no live worker is taken for dead."""

import sqlite3

import pytest
from sqlalchemy import select

from flaskapp.jobs.models import Attempt
from tests.acceptance.conftest import Stack
from tests.faults.ledger import Ledger
from tests.faults.load import Load, pass_time, under_load
from tests.services import PostgreSQL

LEASE_SECONDS = 3
big = pytest.mark.parametrize("stack", ["PostgreSQL and RabbitMQ"], indirect=True)
embedded = pytest.mark.parametrize("stack", ["SQLite and folder"], indirect=True)


def start(stack: Stack) -> None:
    stack.start_beat()
    stack.start_worker(4)


def reckon(stack: Stack, ledger: Ledger, fault: str, running: Load) -> None:
    ledger.reckon(stack, fault, running.jobs, running.effects, 90)
    assert "rescued" not in outcomes(stack)
    assert {job.crashes for job in stack.bench.jobs()} == {0}


def outcomes(stack: Stack) -> set[str]:
    with stack.bench.session() as session:
        return set(session.scalars(select(Attempt.outcome).distinct()))


@big
@pytest.mark.parametrize("how", ["restarted, at leisure", "restarted, at once", "killed with -9"])
def test_a_database_that_restarts_fails_no_job(stack: Stack, postgresql: PostgreSQL, ledger: Ledger, how: str) -> None:
    fault = f"the database {how}"
    start(stack)
    with under_load(stack, fault) as running:
        if how == "restarted, at leisure":
            postgresql.stop()
        elif how == "restarted, at once":
            postgresql.stop_at_once()
        else:
            postgresql.kill()
        postgresql.start()
    reckon(stack, ledger, fault, running)


@big
@pytest.mark.parametrize("seconds", [LEASE_SECONDS + 1, 3 * LEASE_SECONDS])
def test_a_frozen_database_costs_no_worker_its_lease(
    stack: Stack, postgresql: PostgreSQL, ledger: Ledger, seconds: int
) -> None:
    fault = f"the database frozen for {seconds} s"
    start(stack)
    with under_load(stack, fault) as running:
        postgresql.freeze()
        pass_time(seconds)
        postgresql.resume()
    reckon(stack, ledger, fault, running)


@embedded
def test_a_strangers_lock_costs_no_worker_its_lease(stack: Stack, ledger: Ledger) -> None:
    fault = "SQLite's lock held by a stranger for 20 s"
    start(stack)
    with under_load(stack, fault) as running:
        connection = sqlite3.connect(str(stack.bench.engine.url.database), timeout=30, isolation_level=None)
        connection.execute("BEGIN IMMEDIATE")
        pass_time(20)
        connection.close()
    reckon(stack, ledger, fault, running)
