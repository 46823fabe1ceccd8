"""`make up` on a stand-in for the application: real gunicorn, real Celery worker and beat."""

import http.client
import os
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.services import free_port, wait_until
from tests.services.processes import family, running_processes

ROOT = Path(__file__).parents[2]
APPLICATION = """
    import os, time
    import click
    from flask import Flask

    def create_app():
        app = Flask(__name__)
        db, users = click.Group("db"), click.Group("users")
        app.cli.add_command(db)
        app.cli.add_command(users)

        @db.command("upgrade")
        def upgrade():
            if os.environ.get("STAND_IN") == "bad database":
                raise SystemExit("DATABASE_URL names no database.")
            if os.environ.get("STAND_IN") == "broken database":
                raise ConnectionError("nobody answers")

        @users.command("first-admin")
        def first_admin():
            print("first password: secret")

        @app.get("/readyz")
        def readyz():
            return "ready"

        @app.get("/setting/<name>")
        def setting(name):
            return os.environ.get(name, "")

        @app.get("/stream")
        def stream():
            def forever():
                while True:
                    yield "ping\\n"
                    time.sleep(0.1)
            return app.response_class(forever())

        return app
"""
CELERY = """
    import os, sys, time
    from celery import Celery
    from celery.signals import worker_ready

    if os.environ.get("STAND_IN") == "bad worker" and "worker" in sys.argv:
        sys.exit("BROKER_URL names no broker.")
    app = Celery(broker="memory://")
    app.conf.worker_concurrency = 1
    # A pool of processes takes six seconds to end on a polling transport: only where a test is about it.
    app.conf.worker_pool = "prefork" if os.environ.get("STAND_IN") == "long job" else "solo"

    @app.task
    def long():
        print("the long job runs", flush=True)
        time.sleep(60)

    @worker_ready.connect
    def busy(**_):
        if os.environ.get("STAND_IN") == "long job":
            long.delay()
"""


class Up:
    """One run of flaskapp.up in the stand-in's folder."""

    def __init__(self, folder: Path, port: int, **environment: str) -> None:
        self.port = port
        self.folder = folder
        self.output = folder / "output"
        kept = {name: value for name, value in os.environ.items() if name not in ("MAKELEVEL", "STOP_SECONDS")}
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "flaskapp.up"],
                cwd=folder,
                env={**kept, "HOST": "127.0.0.1", "PORT": str(port), **environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def text(self) -> str:
        return self.output.read_text()

    def wait_for(self, words: str) -> "Up":
        try:
            wait_until(lambda: words in self.text() or self.process.poll() is not None, 30, f"{words!r}")
        except TimeoutError:
            pytest.fail(f"{words!r} was not said:\n{self.text()}")
        assert words in self.text()
        return self

    def pids(self) -> set[int]:
        return family(self.process.pid)

    def pid_of(self, *words: str) -> int:
        """The first process whose command line holds all these words: a program, not its children."""
        for pid in sorted(self.pids() - {self.process.pid}):
            command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            if all(word.encode() in command for word in words):
                return pid
        raise LookupError(words)

    def get(self, path: str) -> str:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        connection.request("GET", path)
        text = connection.getresponse().read().decode()
        connection.close()
        return text

    def end(self) -> None:
        pids = self.pids()
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for pid in pids & alive(pids):
            os.kill(pid, signal.SIGKILL)


def alive(pids: set[int]) -> set[int]:
    return pids & {pid for pid, _, _ in running_processes()}


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Callable[..., Up]]:
    (tmp_path / "flaskapp").mkdir()
    for name in ("flaskapp/up.py", "flaskapp/supervisor.py", "gunicorn.conf.py"):
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "flaskapp/__init__.py").write_text(textwrap.dedent(APPLICATION))
    (tmp_path / "celery_worker.py").write_text(textwrap.dedent(CELERY))
    runs: list[Up] = []

    def start(**environment: str) -> Up:
        runs.append(Up(tmp_path, int(environment.pop("PORT", free_port())), **environment))
        return runs[-1]

    yield start
    for run in runs:
        run.end()


def refusal(run: Up) -> str:
    """The one sentence of a run that did not start."""
    assert run.process.wait(20) == 1
    lines = run.text().splitlines()
    assert len(lines) == 1, run.text()
    return lines[0]


# --- what can be wrong ------------------------------------------------------------------------------


def test_a_taken_port_gets_one_sentence(up: Callable[..., Up]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", free_port()))
        taken.listen()
        port = taken.getsockname()[1]

        said = refusal(up(PORT=str(port)))

    assert said.startswith(f"Port {port} on 127.0.0.1 is taken:")
    assert f"PORT={port + 1} make up" in said


def test_an_unwritable_folder_gets_one_sentence(up: Callable[..., Up], tmp_path: Path) -> None:
    (tmp_path / "a file").touch()

    said = refusal(up(INSTANCE_PATH=str(tmp_path / "a file/instance")))

    assert said.startswith(f"Offload cannot write to {tmp_path}/a file/instance (Not a directory):")
    assert "INSTANCE_PATH=" in said


def test_a_host_of_another_machine_gets_one_sentence(up: Callable[..., Up]) -> None:
    assert refusal(up(HOST="192.0.2.1")).startswith("HOST is '192.0.2.1', which is no address of this machine")


@pytest.mark.parametrize("port", ["http", "0", "65536", "-1"])
def test_a_port_that_is_none_gets_one_sentence(port: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "flaskapp.up"],
        cwd=ROOT,
        env={**os.environ, "PORT": port},
        capture_output=True,
        text=True,
    )

    assert done.returncode == 1
    assert done.stderr == f"PORT is {port!r}: write a number from 1 to 65535, e.g. PORT=8000 make up.\n"


def test_a_database_that_cannot_be_migrated_starts_nothing(up: Callable[..., Up]) -> None:
    said = refusal(up(STAND_IN="bad database"))

    assert said.startswith("Offload did not start, migrating the database failed: DATABASE_URL names no database.")


def test_a_failure_while_preparing_shows_no_traceback_but_keeps_it(up: Callable[..., Up], tmp_path: Path) -> None:
    said = refusal(up(STAND_IN="broken database"))

    assert said == (
        "Offload did not start, migrating the database failed: ConnectionError: nobody answers"
        f" (All of it is in {tmp_path}/instance/up.log.)"
    )
    assert "Traceback" in (tmp_path / "instance/up.log").read_text()


def test_a_worker_that_cannot_start_ends_everything_and_is_named(up: Callable[..., Up]) -> None:
    run = up(STAND_IN="bad worker")

    assert run.process.wait(20) == 1
    assert "worker | BROKER_URL names no broker." in run.text()
    assert run.text().endswith("worker ended with code 1 while starting; its own words are above.\n")
    assert "Traceback" not in run.text()


# --- running ----------------------------------------------------------------------------------------


def test_it_says_where_it_is_and_the_first_password_once(up: Callable[..., Up]) -> None:
    run = up().wait_for("Offload is ready")

    assert f"Offload is ready at http://127.0.0.1:{run.port} after" in run.text()
    assert run.text().count("first password: secret") == 1


def test_settings_reach_the_programs(up: Callable[..., Up]) -> None:
    run = up(BROKER_URL="amqp://elsewhere").wait_for("Offload is ready")

    assert run.get("/setting/BROKER_URL") == "amqp://elsewhere"
    assert run.get("/setting/STOP_SECONDS") == "3"


def test_a_program_that_is_killed_starts_again(up: Callable[..., Up]) -> None:
    run = up().wait_for("Offload is ready")
    killed = run.pid_of("gunicorn")

    os.kill(killed, signal.SIGKILL)

    run.wait_for("web was ended by SIGKILL; it starts again in 1 s.")
    wait_until(lambda: f"at: http://127.0.0.1:{run.port} " in run.text().split("SIGKILL")[-1], 15, "web listens")
    assert run.get("/readyz") == "ready"


def test_a_program_that_ends_over_and_over_ends_everything(tmp_path: Path) -> None:
    script = """
        import sys, time
        from pathlib import Path
        from flaskapp.supervisor import GaveUp, Program, Supervisor
        weak = Program("weak", [sys.executable, "-c", "raise SystemExit(3)"], "31")
        strong = Program("strong", ["sleep", "60"], "32")
        supervisor = Supervisor([weak, strong], Path.cwd(), {}, 8)
        supervisor.is_ready, weak.deaths = True, [time.monotonic()] * 4
        try:
            supervisor.run(lambda: True)
        except GaveUp as reason:
            print(reason, strong.process.returncode)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], cwd=ROOT, capture_output=True, text=True, timeout=20
    )

    assert done.stdout == "weak ended with code 3, the 5th time within a minute. -15\n"


# --- ending -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_all(up: Callable[..., Up], number: signal.Signals) -> None:
    run = up().wait_for("Offload is ready").wait_for("ready.\n")
    pids = run.pids()
    assert len(pids) >= 6  # up, its guard, gunicorn and its process, the worker, beat

    run.process.send_signal(number)

    assert run.process.wait(10) == 0
    assert not alive(pids)


def test_an_open_stream_and_a_long_job_do_not_delay_the_end_past_ten_seconds(up: Callable[..., Up]) -> None:
    run = up(STAND_IN="long job").wait_for("Offload is ready").wait_for("the long job runs")
    stream = http.client.HTTPConnection("127.0.0.1", run.port, timeout=20)
    stream.request("GET", "/stream")
    assert stream.getresponse().read(4) == b"ping"
    pids, began = run.pids(), time.monotonic()

    run.process.terminate()

    assert run.process.wait(15) == 0
    assert time.monotonic() - began < 10
    assert not alive(pids)
    stream.close()


def test_a_second_ctrl_c_kills_at_once(up: Callable[..., Up]) -> None:
    run = up(STAND_IN="long job").wait_for("Offload is ready").wait_for("the long job runs")
    pids = run.pids()
    run.process.send_signal(signal.SIGINT)
    run.wait_for("Warm shutdown")
    began = time.monotonic()

    def pressed_until_gone() -> bool:
        run.process.send_signal(signal.SIGINT)
        return run.process.poll() is not None

    wait_until(pressed_until_gone, 5, "the second Ctrl-C works")

    assert time.monotonic() - began < 3
    assert not alive(pids)


def test_nothing_survives_a_supervisor_that_is_killed(up: Callable[..., Up]) -> None:
    run = up(STAND_IN="long job").wait_for("Offload is ready").wait_for("the long job runs")
    pids = run.pids()

    run.process.kill()

    wait_until(lambda: not alive(pids), 12, "all end by the guard")


def test_it_ends_when_make_is_killed(up: Callable[..., Up], tmp_path: Path) -> None:
    (tmp_path / "Makefile").write_text("up:\n\t@exec $(PYTHON) -m flaskapp.up\n")
    with (tmp_path / "output").open("wb") as output:
        make = subprocess.Popen(
            ["make", "up", f"PYTHON={sys.executable}"],
            cwd=tmp_path,
            env={**os.environ, "HOST": "127.0.0.1", "PORT": str(free_port())},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    wait_until(lambda: "Offload is ready" in (tmp_path / "output").read_text(), 30, "ready")
    pids = family(make.pid)

    make.kill()
    make.wait()

    wait_until(lambda: not alive(pids), 12, "all end with make")
