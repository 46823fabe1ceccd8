"""Services that may be broken here without disturbing other tests, and the ledger of what each fault cost."""

import os
from pathlib import Path

import pytest

from tests import services
from tests.acceptance.conftest import calm, running_stack, stack  # noqa: F401 -- fixtures
from tests.faults.ledger import Ledger
from tests.services.fixtures import service_fixture

LEDGER = Ledger()


# The same two fixtures once more: asked for here they are servers of their own.
rabbitmq = service_fixture(services.rabbitmq, "rabbitmq for faults")
postgresql = service_fixture(services.postgresql, "postgresql for faults")


@pytest.fixture(scope="session")
def ledger() -> Ledger:
    return LEDGER


def pytest_sessionfinish() -> None:
    if LEDGER.counts and (file := os.environ.get("FAULTS_TABLE")):
        Path(file).write_text(LEDGER.table() + "\n")
