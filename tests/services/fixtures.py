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
from typing import Any, NoReturn, TypeVar

import pytest

from tests import services
from tests.services import ServiceMissing

AnyService = TypeVar("AnyService")


@pytest.fixture(scope="session")
def services_folder() -> Iterator[Path]:
    # Not pytest's own folder: that is closed to the account under which root runs PostgreSQL.
    folder = Path(tempfile.mkdtemp(prefix="offload-services-"))
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder)


def service_fixture(service: Callable[[Path], AbstractContextManager[AnyService]], folder: str) -> Any:
    """A server for the whole run, with its data in a folder of this name."""

    @pytest.fixture(scope="session")
    def running(services_folder: Path) -> Iterator[AnyService]:
        yield from provided(service, services_folder / folder)

    return running


rabbitmq = service_fixture(services.rabbitmq, "rabbitmq")
postgresql = service_fixture(services.postgresql, "postgresql")
redis = service_fixture(services.redis, "redis")
mariadb = service_fixture(services.mariadb, "mariadb")


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
