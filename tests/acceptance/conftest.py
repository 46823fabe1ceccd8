"""The two stacks on which real workers are tested: the embedded one and the big one."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

import pytest

from flaskapp.worker.celery_app import Offload
from tests import helpers
from tests.helpers import Bench, Process, environment, kill, make_app, make_current


@dataclass
class Stack:
    """One installation: its database, its broker, and the processes that a test starts on it."""

    name: str
    bench: Bench
    environment: dict[str, str]
    processes: list[Process] = field(default_factory=list)

    @property
    def celery(self) -> Offload:
        return self.bench.celery  # type: ignore[no-any-return]

    def start_worker(
        self, concurrency: int = 2, queues: Iterable[str] = (), options: Iterable[str] = (), **more: str
    ) -> Process:
        return self._started(helpers.start_worker(self.environment, concurrency, queues, options, **more))

    def start_beat(self, **more: str) -> Process:
        return self._started(helpers.start_beat(self.environment, **more))

    def end(self) -> None:
        for process in self.processes:
            kill(process)
        self.celery.relay.stop()
        self.bench.close()

    def _started(self, process: Process) -> Process:
        self.processes.append(process)
        return process


def make_stack(request: pytest.FixtureRequest, folder: Path) -> Iterator[Stack]:
    if request.param == "SQLite and folder":
        urls = f"sqlite:///{folder / 'offload.sqlite3'}", f"folder://{folder}/broker"
        with installation(request.param, *urls, folder) as stack:
            yield stack
    else:
        name = f"worker-{uuid4().hex}"
        rabbitmq = request.getfixturevalue("rabbitmq")
        urls = request.getfixturevalue("postgresql").create_database(name), rabbitmq.create_vhost(name)
        with installation(request.param, *urls, folder) as stack:
            yield stack
        rabbitmq.delete_vhost(name)


@contextmanager
def installation(name: str, database_url: str, broker_url: str, folder: Path) -> Iterator[Stack]:
    """On this database and broker, where nothing runs yet; what the test started ends with it, however it ends."""
    app = make_app(database_url, broker_url, folder)
    # Here jobs do leave: the web process's own relay sends them.
    app.extensions["celery"].relay = app.extensions["celery"].make_relay()
    stack = Stack(name, Bench(app), environment(database_url, broker_url, folder))
    try:
        yield stack
    finally:
        stack.end()


STACKS = ["SQLite and folder", "PostgreSQL and RabbitMQ"]


@pytest.fixture(scope="module", params=STACKS)
def running_stack(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """With a worker and a beat, for tests that harm neither."""
    for stack in make_stack(request, tmp_path_factory.mktemp("stack")):
        stack.start_worker()
        stack.start_beat()
        yield stack


@pytest.fixture
def calm(running_stack: Stack) -> Stack:
    make_current(running_stack.bench.app)
    return running_stack


@pytest.fixture(params=STACKS)
def stack(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Stack]:
    """An installation of the test's own, where nothing runs yet."""
    for stack in make_stack(request, tmp_path):
        make_current(stack.bench.app)
        yield stack
