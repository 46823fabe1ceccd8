"""No-op tasks through one worker with two processes: ours with claim, fence and history; stock Celery beside it.

Both drain the same number of messages that were all sent before, on quorum queues, results in PostgreSQL.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import create_engine, text

from tests.services import PostgreSQL, RabbitMQ

JOBS = 4000
ROOT = Path(__file__).parent.parent


def rows(broker: RabbitMQ, database: PostgreSQL, folder: Path) -> Iterator[tuple[str, str, str, float | None]]:
    ours, published = ours_per_second(broker, database, folder)
    stock, stock_published = stock_per_second(broker, database)
    yield "worker, no-op tasks with results in PostgreSQL", f"{ours:,.0f}/s", f"{stock:,.0f}/s", ours / stock
    yield (
        "submitting from one process (one commit for all; confirmed)",
        f"{published:,.0f}/s",
        f"{stock_published:,.0f}/s",
        published / stock_published,
    )


def ours_per_second(broker: RabbitMQ, database: PostgreSQL, folder: Path) -> tuple[float, float]:
    """(drained per second, submitted per second)"""
    environment = {
        **os.environ,
        "BROKER_URL": broker.create_vhost("ours"),
        "DATABASE_URL": database.create_database("ours"),
        "INSTANCE_PATH": str(folder / "instance"),
    }
    run([sys.executable, "-m", "flask", "--app", "flaskapp", "db", "upgrade"], environment)
    submit = (
        "import time; from flaskapp import create_app; from flaskapp.extensions import db\n"
        "from flaskapp.diagnostics.tasks import echo\n"
        f"app = create_app()\nwith app.app_context():\n    began = time.perf_counter()\n"
        f"    for n in range({JOBS}): echo.delay(n)\n    db.session.commit()\n"
        "    print(time.perf_counter() - began)\n"
        "import os; os._exit(0)\n"
    )
    seconds = float(run([sys.executable, "-c", submit], environment))
    engine = create_engine(environment["DATABASE_URL"])
    send_all = (
        "from flaskapp import create_app; from flaskapp.broker import outbox, publisher\n"
        "from flaskapp.jobs import window\n"
        # Before there is a worker the relay would send a small window only; stock Celery sends all.
        f"window.LEAST = {JOBS}\n"
        "app = create_app(); s = app.config['SETTINGS']\n"
        "from flaskapp.extensions import control_engine\n"
        "e, p = control_engine(s.database_url), publisher.Publisher(s.broker_url)\n"
        "while outbox.send_due(e, p): pass\n"
        "import os; os._exit(0)\n"
    )
    run([sys.executable, "-c", send_all], environment)
    left = "SELECT count(*) FROM job WHERE state != 'succeeded'"
    with worker(["-A", "celery_worker", "worker", "-c", "2", "-l", "WARNING"], environment):
        per_second = drain_rate(lambda: scalar(engine, left))
    engine.dispose()
    return per_second, JOBS / seconds


def stock_per_second(broker: RabbitMQ, database: PostgreSQL) -> tuple[float, float]:
    url = database.create_database("stock")
    environment = {**os.environ, "STOCK_BROKER": broker.create_vhost("stock"), "STOCK_DATABASE": url}
    publish = (
        f"import time; from bench.stock import noop\nbegan = time.perf_counter()\n"
        f"for n in range({JOBS}): noop.delay(n)\nprint(time.perf_counter() - began)\n"
    )
    seconds = float(run([sys.executable, "-c", publish], environment))
    engine = create_engine(url)
    left = f"SELECT {JOBS} - count(*) FROM celery_taskmeta WHERE status = 'SUCCESS'"
    with worker(["-A", "bench.stock", "worker", "-c", "2", "-l", "WARNING"], environment):
        per_second = drain_rate(lambda: scalar(engine, left, JOBS))
    engine.dispose()
    return per_second, JOBS / seconds


def drain_rate(left: Callable[[], int]) -> float:
    """From the first tenth to the end: starting the worker does not count."""
    deadline = time.monotonic() + 120
    first: tuple[float, int] | None = None
    while (open_jobs := left()) and time.monotonic() < deadline:
        if first is None and open_jobs <= JOBS * 0.9:
            first = time.monotonic(), open_jobs
        time.sleep(0.1)
    if open_jobs or first is None:
        raise SystemExit(f"{open_jobs} of {JOBS} jobs were not done within two minutes.")
    return first[1] / (time.monotonic() - first[0])


def scalar(engine: Any, query: str, otherwise: int = JOBS) -> int:
    from sqlalchemy.exc import DBAPIError

    try:
        with engine.connect() as connection:
            return int(connection.execute(text(query)).scalar_one())
    except DBAPIError:
        return otherwise  # stock Celery makes its table with the first result


@contextmanager
def worker(arguments: list[str], environment: dict[str, str]) -> Iterator[None]:
    process = subprocess.Popen(
        [sys.executable, "-m", "celery", *arguments],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(10)


def run(command: list[str], environment: dict[str, str]) -> str:
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    return done.stdout.strip()
