"""What many tests need: waiting on conditions, an application on given services, and real processes.

Promises: a failed wait says what was last seen; a started process has a session of its own and is ended by its pid.
Does not know any one test.
"""

import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

from flask import Flask
from sqlalchemy import Engine, delete, select, update
from sqlalchemy.orm import Session

from flaskapp import config, create_app
from flaskapp.diagnostics.models import Effect
from flaskapp.extensions import Base, control_engine, db
from flaskapp.jobs import queries
from flaskapp.jobs.clock import now, seconds_from_now
from flaskapp.jobs.models import Attempt, Job

ROOT = Path(__file__).parent.parent
FRONT_DOOR = ("celery", "-A", "tests.worker_for_tests")

Seen = TypeVar("Seen")
_numbers = count()


def wait_until(condition: Callable[[], Seen], seconds: float, describe: str) -> Seen:
    """Ask until the answer is true, and return it; fails with `describe` and the last answer after `seconds`."""
    deadline = time.monotonic() + seconds
    while not (seen := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"Not within {seconds:g} s: {describe}; last seen: {seen!r}")
        time.sleep(0.03)
    return seen


# --- the application, in this process ---------------------------------------------------------------------


def environment(database_url: str, broker_url: str, folder: Path, **settings: object) -> dict[str, str]:
    """What the processes of one installation share."""
    return {
        "DATABASE_URL": database_url,
        "BROKER_URL": broker_url,
        "INSTANCE_PATH": str(folder),
        "LEASE_SECONDS": "3",
        "STOP_SECONDS": "1",
        **{name: str(value) for name, value in settings.items()},
    }


def make_app(database_url: str, broker_url: str, folder: Path, **settings: object) -> Flask:
    """The application with its tables, as this process's current one; its jobs leave only when a test says so."""
    app = create_app(config.from_environment(environment(database_url, broker_url, folder, **settings)))
    celery = app.extensions["celery"]
    celery.relay, celery.prober = Nudges(), Nudges()
    make_current(app)
    celery.loader.import_default_modules()
    with app.app_context():
        db.create_all()
    return app


def make_current(app: Flask) -> None:
    """Shared tasks belong to the current application; a test run has several."""
    app.extensions["celery"].set_current()
    app.extensions["celery"].set_default()


class Nudges:
    """Stands for the relay or the prober: counts the nudges and sends nothing."""

    def __init__(self) -> None:
        self.count = 0

    def nudge(self) -> None:
        self.count += 1

    def stop(self, seconds: float = 0) -> None:
        """Nothing runs."""

    def wait(self, seconds: float = 0) -> bool:
        return True


def empty(engine: Engine) -> None:
    """Forget everything that the job core knows."""
    with engine.begin() as connection:
        for table in _core_tables():
            connection.execute(delete(table))


def _core_tables() -> list[type]:
    """What flaskapp/jobs defines, and the effects."""
    models = [mapper.class_ for mapper in Base.registry.mappers]
    return [model for model in models if model.__module__.startswith("flaskapp.jobs.")] + [Effect]


class Bench:
    """One application and short words for what tests do with it; every look is on a connection of its own."""

    def __init__(self, app: Flask) -> None:
        self.app = app
        self.folder: Path = app.config["SETTINGS"].instance_path
        self.celery = app.extensions["celery"]
        self.engine = control_engine(app.config["SETTINGS"].database_url)

    def close(self) -> None:
        self.engine.dispose()
        with self.app.app_context():
            db.engine.dispose()

    def session(self) -> Session:
        return Session(self.engine, expire_on_commit=False)

    def submit(self, task: str = "tests.fate", *args: Any, **options: Any) -> str:
        """Outside an application context: committed at once. Answers the job's id."""
        return str(self.celery.send_task(task, args=args, **options).id)

    def fate(self, what: str, *args: Any, **options: Any) -> str:
        return self.submit("tests.fate", what, *args, **options)

    def run(self) -> list[str]:
        """Run what is due in this process, as a worker would."""
        from flaskapp.worker.testing import run_due_jobs

        with self.app.app_context():
            return run_due_jobs()

    def result(self, job_id: str) -> Any:
        return self.celery.AsyncResult(job_id)

    def job(self, job_id: str) -> Job:
        with self.session() as session:
            job = queries.job_by_id(session, job_id)
        assert job is not None, f"job {job_id} has no row"
        return job

    def state(self, job_id: str) -> str:
        return self.job(job_id).state

    def jobs(self) -> list[Job]:
        with self.session() as session:
            return list(session.scalars(select(Job).order_by(Job.created_at, Job.id)))

    def attempts(self, job_id: str) -> list[Attempt]:
        with self.session() as session:
            return queries.attempts(session, job_id)

    def effects(self, key: str) -> list[Effect]:
        with self.session() as session:
            return list(session.scalars(select(Effect).where(Effect.key == key)))

    def make_due(self, job_id: str) -> None:
        """Make time pass: what it waited for is over."""
        self.change(job_id, run_at=seconds_from_now(-1))

    def change(self, job_id: str, **values: Any) -> None:
        with self.session() as session, session.begin():
            session.execute(update(Job).where(Job.id == job_id).values(**values))

    def can_write(self) -> bool:
        """Nobody holds SQLite's one lock at this moment; elsewhere always true."""
        if self.engine.dialect.name != "sqlite":
            return True
        with contextlib.closing(sqlite3.connect(str(self.engine.url.database), timeout=1)) as connection:
            try:
                connection.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError:
                return False
            connection.execute("ROLLBACK")
        return True

    def account(self) -> queries.Account:
        with self.session() as session:
            return queries.account(session)

    def clock(self) -> Any:
        with self.session() as session:
            return session.execute(select(now())).scalar_one()

    def finished(self, job_ids: Iterable[str], seconds: float = 20) -> list[Job]:
        """Wait until all of them are final; answers their rows."""
        wanted = list(job_ids)

        def all_final() -> bool:
            return all(self.job(job_id).is_final for job_id in wanted)

        try:
            wait_until(all_final, seconds, "every job is final")
        except AssertionError as reason:
            jobs = [job for job in self.jobs() if job.id in wanted]
            seen = [(job.id, job.task, job.state, job.attempt, job.error_message) for job in jobs]
            raise AssertionError(f"{reason}: {seen}") from None
        return [self.job(job_id) for job_id in wanted]


def create_schema(engine: Engine) -> None:
    Base.metadata.create_all(engine)


# --- real processes ---------------------------------------------------------------------------------------


class Process:
    """A worker or a beat, in a session of its own."""

    def __init__(
        self, words: Iterable[str], environment: Mapping[str, str], log: Path, program: Iterable[str] = FRONT_DOOR
    ) -> None:
        self.log = log
        with log.open("ab") as output:
            self.popen = subprocess.Popen(
                [sys.executable, "-m", *program, *words],
                cwd=ROOT,
                # On SIGABRT it prints where each of its threads stood: see `where_it_stands`.
                env={**os.environ, "PYTHONFAULTHANDLER": "1", **environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self.popen.pid

    def says(self) -> str:
        return self.log.read_text(errors="replace")


def start_worker(
    environment: Mapping[str, str],
    concurrency: int = 2,
    queues: Iterable[str] = (),
    options: Iterable[str] = (),
    **more: str,
) -> Process:
    """A real worker, of all queues or of these; returns once it consumes."""
    number = next(_numbers)
    log = Path(environment["INSTANCE_PATH"]) / f"worker-{number}.log"
    words = ["worker", "-c", str(concurrency), "-l", "info", "-n", f"w{number}", *options]
    words += ["-Q", ",".join(queues)] if queues else []
    worker = Process(words, {**environment, **more}, log)
    _wait_for(worker, " ready.")
    return worker


def start_beat(environment: Mapping[str, str], **more: str) -> Process:
    """A real beat; returns once it ticks."""
    log = Path(environment["INSTANCE_PATH"]) / f"beat-{next(_numbers)}.log"
    beat = Process(["beat", "-l", "info"], {**environment, **more}, log)
    _wait_for(beat, "beat: Starting...")
    return beat


def _wait_for(process: Process, words: str) -> None:
    try:
        wait_until(lambda: words in process.says() or process.popen.poll() is not None, 60, words)
    except AssertionError as reason:
        raise AssertionError(f"{reason}: {where_it_stands(process)}") from None
    assert process.popen.poll() is None, process.says()[-3000:]


def kill(process: Process) -> None:
    """The power cut: kill -9 for the process and its pool."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.popen.wait(10)


def stop(process: Process, seconds: float = 20) -> None:
    """The polite end: TERM to the process itself; what is left after `seconds` is killed, and the test fails."""
    if process.popen.poll() is not None:
        return
    process.popen.terminate()
    wait_for_end(process, seconds)


def wait_for_end(process: Process, seconds: float = 20) -> None:
    """Its own end; what is left after `seconds` is killed, and the test fails with where it stood."""
    try:
        process.popen.wait(seconds)
    except subprocess.TimeoutExpired:
        raise AssertionError(f"{process.pid} did not end within {seconds:g} s: {where_it_stands(process)}") from None


def where_it_stands(process: Process) -> str:
    """Ends it, and returns the last of what it said with the stack of each of its threads."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(process.pid, signal.SIGABRT)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.popen.wait(5)
    kill(process)
    return process.says()[-8000:]


def asking_below(pid: int) -> list[int]:
    """The processes below this one that ask a question."""
    parents, asking = {}, []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            words = status.read_text().rpartition(")")[2].split()
            command = (status.parent / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        number = int(status.parent.name)
        parents[number] = int(words[1])
        if command[1:3] == [b"-m", b"child"] and words[0] != "Z":
            asking.append(number)

    def is_below(number: int) -> bool:
        while number in parents and number != pid:
            number = parents[number]
        return number == pid

    return [number for number in asking if is_below(number)]
