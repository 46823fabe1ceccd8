"""A stock Celery worker on the embedded broker.

Promises: tasks run once, remote control answers, and the tasks of killed and stopped workers are not lost.
Does not test the project's own worker.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from celery import Celery
from kombu import Connection

from flaskapp.broker.folder import register

register()

HERE = Path(__file__).parent


class Bench:
    """A folder, an application that publishes to it, and the workers started on it."""

    def __init__(self, folder: Path) -> None:
        self.notes_file = folder / "notes"
        self.environment = os.environ | {
            "BROKER_URL": f"folder://{folder}/broker",
            "NOTES": str(self.notes_file),
            "PYTHONPATH": f"{HERE}:{HERE.parents[1]}",
        }
        self.app = Celery("folder_test", broker=self.environment["BROKER_URL"], set_as_current=False)
        self.log_file = folder / "worker.log"
        self.workers: list[subprocess.Popen[bytes]] = []

    def start_worker(self) -> subprocess.Popen[bytes]:
        command = [
            sys.executable,
            "-m",
            "celery",
            "-A",
            "folder_worker_app",
            "worker",
            "-c",
            "2",
            "-l",
            "info",
        ]
        with open(self.log_file, "a") as log:
            worker = subprocess.Popen(
                command, env=self.environment, cwd=HERE, stdout=log, stderr=log, start_new_session=True
            )
        self.workers.append(worker)
        return worker

    def send(self, task: str, *args: str) -> None:
        self.app.send_task(f"folder_worker_app.{task}", args, ignore_result=True)

    def notes(self) -> list[str]:
        return self.notes_file.read_text().splitlines() if self.notes_file.exists() else []

    def stop(self) -> None:
        for worker in self.workers:
            if worker.poll() is None:
                os.killpg(worker.pid, signal.SIGKILL)
                worker.wait()
        self.app.close()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    bench.stop()


def wait_until(condition: Callable[[], object], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "the condition did not come true in time"
        time.sleep(0.01)


def test_two_hundred_tasks_run_once_each(bench: Bench) -> None:
    bench.start_worker()
    for n in range(200):
        bench.send("note", str(n))
    wait_until(lambda: len(bench.notes()) >= 200)
    assert sorted(bench.notes(), key=int) == [str(n) for n in range(200)]


def test_a_worker_answers_inspect_ping(bench: Bench) -> None:
    bench.start_worker()
    bench.send("note", "ready")
    wait_until(bench.notes)
    assert [*bench.app.control.inspect(timeout=5, limit=1).ping().values()] == [{"ok": "pong"}]


def test_a_killed_workers_task_runs_again_on_the_next_worker(bench: Bench, tmp_path: Path) -> None:
    worker = bench.start_worker()
    bench.send("wait_for", str(tmp_path / "go"))
    wait_until(bench.notes)
    os.killpg(worker.pid, signal.SIGKILL)
    worker.wait()
    bench.start_worker()
    wait_until(lambda: bench.notes() == ["begun", "begun"])


def test_a_stopped_worker_leaves_no_claim_and_loses_no_task(bench: Bench, tmp_path: Path) -> None:
    worker = bench.start_worker()
    for _ in range(6):
        bench.send("wait_for", str(tmp_path / "go"))
    wait_until(lambda: len(bench.notes()) == 2)
    worker.terminate()
    (tmp_path / "go").touch()
    worker.wait(30)
    with Connection(bench.environment["BROKER_URL"]) as connection:
        channel = connection.default_channel
        assert channel.claimed_count("celery") == 0
        assert len(bench.notes()) + channel._size("celery") == 6
