"""Services that may be broken here without disturbing other tests, and the ledger of what each fault cost."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import services
from tests.acceptance.conftest import calm, running_stack, stack  # noqa: F401 -- fixtures
from tests.faults.ledger import Ledger
from tests.services import PostgreSQL, RabbitMQ
from tests.services.fixtures import provided

LEDGER = Ledger()


@pytest.fixture(scope="session")
def rabbitmq(services_folder: Path) -> Iterator[RabbitMQ]:
    yield from provided(services.rabbitmq, services_folder / "rabbitmq for faults")


@pytest.fixture(scope="session")
def postgresql(services_folder: Path) -> Iterator[PostgreSQL]:
    yield from provided(services.postgresql, services_folder / "postgresql for faults")


@pytest.fixture(scope="session")
def ledger() -> Ledger:
    return LEDGER


def pytest_sessionfinish() -> None:
    if LEDGER.counts and (file := os.environ.get("FAULTS_TABLE")):
        Path(file).write_text(LEDGER.table() + "\n")
