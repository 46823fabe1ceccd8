"""The services as session fixtures: each starts when the first test asks for it and stops with the run.

With CI=true a missing service fails the test that needs it; on a laptop the test is skipped with the reason.
A test that stops or kills a service starts it again before it ends.
"""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NoReturn, TypeVar

import pytest

from tests import services
from tests.services import MariaDB, PostgreSQL, RabbitMQ, Redis, ServiceMissing

AnyService = TypeVar("AnyService")


@pytest.fixture(scope="session")
def services_folder() -> Iterator[Path]:
    # Not pytest's own folder: that is closed to the account under which root runs PostgreSQL.
    folder = Path(tempfile.mkdtemp(prefix="offload-services-"))
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def rabbitmq(services_folder: Path) -> Iterator[RabbitMQ]:
    yield from provided(services.rabbitmq, services_folder / "rabbitmq")


@pytest.fixture(scope="session")
def postgresql(services_folder: Path) -> Iterator[PostgreSQL]:
    yield from provided(services.postgresql, services_folder / "postgresql")


@pytest.fixture(scope="session")
def redis(services_folder: Path) -> Iterator[Redis]:
    yield from provided(services.redis, services_folder / "redis")


@pytest.fixture(scope="session")
def mariadb(services_folder: Path) -> Iterator[MariaDB]:
    yield from provided(services.mariadb, services_folder / "mariadb")


@pytest.fixture(scope="session")
def chromium() -> str:
    """The browser's path, for Playwright's `launch(executable_path=…)`."""
    try:
        return str(services.find_chromium())
    except ServiceMissing as reason:
        do_without(reason)


def provided(service: Callable[[Path], AbstractContextManager[AnyService]], folder: Path) -> Iterator[AnyService]:
    try:
        with service(folder) as running:
            yield running
    except ServiceMissing as reason:
        do_without(reason)


def do_without(reason: ServiceMissing) -> NoReturn:
    """Fail where every service is promised, skip with the reason where it is not."""
    if os.environ.get("CI", "").lower() in ("true", "1"):
        pytest.fail(str(reason), pytrace=False)
    pytest.skip(str(reason))
