"""The outbox relay: rows taken, sent, confirmed and marked, with a long line behind them; stock Celery's way beside it.

Ours relays what its window lets through of 100,000 waiting jobs, from PostgreSQL to RabbitMQ. Stock Celery sends the
same number of tasks one by one with `confirm_publish`, and marks nothing.
"""

import os
import sys
from collections.abc import Iterator

from bench.draining import run
from tests.services import PostgreSQL, RabbitMQ

#: A full window, with a pace that allows it.
JOBS = 10_000
WAITING = 100_000
STOCK_JOBS = 2000

_OURS = f"""
import time
from flaskapp import create_app
from flaskapp.broker import outbox, publisher
from flaskapp.extensions import control_engine, core_session
from flaskapp.jobs import lifecycle
from flaskapp.jobs.clock import seconds_from_now
from flaskapp.jobs.models import Worker
from flaskapp.jobs.outcomes import Wish
from flaskapp.jobs.window import Window
settings = create_app().config["SETTINGS"]
engine, broker, window = control_engine(settings.database_url), publisher.Publisher(settings.broker_url), Window()
row = dict(id="bench", kind="worker", host="bench", pid=1, queues="default", concurrency=2, pace=1000.0)
with core_session(engine) as session:
    for _ in range({WAITING} // 1000):
        lifecycle.submit(session, [Wish("diagnostics.echo", "[1]") for _ in range(1000)])
        session.commit()
    lifecycle.submit(session, [Wish("diagnostics.echo", "[1]", queue="mail")])
    session.commit()
outbox.send_due(engine, broker)
with core_session(engine) as session, session.begin():
    # Alive for as long as this takes.
    session.add(Worker(**row, heartbeat_at=seconds_from_now(3600)))
began = time.perf_counter()
sent = 0
while sent < {JOBS} and (count := outbox.send_due(engine, broker, window=window)):
    sent += count
seconds = time.perf_counter() - began
nudged = time.perf_counter()
for _ in range(100):
    outbox.send_due(engine, broker, window=window)
print(sent / seconds, (time.perf_counter() - nudged) * 10)
import os; os._exit(0)
"""

_STOCK = f"""
import time
from bench.stock import noop
noop.delay(0)
began = time.perf_counter()
for n in range({STOCK_JOBS}): noop.apply_async((n,))
print({STOCK_JOBS} / (time.perf_counter() - began))
"""


def rows(broker: RabbitMQ, database: PostgreSQL) -> Iterator[tuple[str, str, str, float | None]]:
    ours = {
        **os.environ,
        "BROKER_URL": broker.create_vhost("relaying"),
        "DATABASE_URL": database.create_database("relaying"),
    }
    stock = {
        **os.environ,
        "STOCK_BROKER": broker.create_vhost("stock-sending"),
        "STOCK_DATABASE": database.create_database("stock_sending"),
    }
    run([sys.executable, "-m", "flask", "--app", "flaskapp", "db", "upgrade"], ours)
    relayed, nudge = map(float, run([sys.executable, "-c", _OURS], ours).split())
    sent = float(run([sys.executable, "-c", _STOCK], stock))
    yield f"relaying {JOBS:,} of {WAITING:,} jobs; apply_async", f"{relayed:,.0f}/s", f"{sent:,.0f}/s", relayed / sent
    yield "  a nudge while the window is full", f"{nudge:.1f} ms", "", None
