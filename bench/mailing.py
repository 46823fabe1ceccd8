"""Mail to a local server: one message to 5,000 people through a worker; a bare smtplib loop beside it.

The loop builds each mail and sends it; so do we, and commit `sending` before and the reply after each. Timed from the
first tenth to the end, the loop as a whole. Both wait for the same server most of the time, so what else the machine
does shows at once: they take turns, and of three rounds the middle one counts. `python -m bench.mailing 1000` is a
short run on SQLite alone; with `both` behind it also on PostgreSQL.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import create_engine

from bench.draining import ROOT, run, scalar, worker
from tests.services import PostgreSQL, RabbitMQ, free_port, postgresql, rabbitmq

MAILS = 5000
_ROUNDS = 3

_SERVER = """
import sys, time
from aiosmtpd.controller import Controller
class Sink:
    async def handle_DATA(self, server, session, envelope): return "250 taken"
Controller(Sink(), hostname="127.0.0.1", port=int(sys.argv[1])).start()
print("listens", flush=True)
time.sleep(900)
"""
_LOOP = """
import smtplib, sys, time
from email.message import EmailMessage
client, mails = smtplib.SMTP("127.0.0.1", int(sys.argv[1])), int(sys.argv[2])
began = time.perf_counter()
for n in range(mails):
    mail = EmailMessage()
    mail["From"], mail["To"], mail["Subject"] = "offload@localhost", f"reader{n}@example.org", "The ferry"
    mail["Message-ID"] = f"<{n}.bench@localhost>"
    mail.set_content("It leaves an hour later on Sunday.\\n" * 20)
    client.send_message(mail)
print(mails / (time.perf_counter() - began))
"""
_WRITE = """
import sys
from flaskapp import create_app
from flaskapp.extensions import db
from flaskapp.mail import actions
with create_app().app_context():
    to = [f"reader{n}@example.org" for n in range(int(sys.argv[1]))]
    actions.write(to, "The ferry", "It leaves an hour later on Sunday.\\n" * 20)
    db.session.commit()
import os; os._exit(0)
"""


def rows(
    broker: RabbitMQ | None, database: PostgreSQL | None, folder: Path, mails: int = MAILS
) -> Iterator[tuple[str, str, str, float]]:
    stacks = {"SQLite": (f"sqlite:///{folder}/mail.sqlite3", f"folder://{folder}/mail-broker")}
    if broker is not None and database is not None:
        stacks["PostgreSQL"] = database.create_database("mailing"), broker.create_vhost("mailing")
    for name, (database_url, broker_url) in stacks.items():
        rounds = []
        with server() as port:
            for _ in range(_ROUNDS):
                bare = float(run([sys.executable, "-c", _LOOP, str(port), str(mails)], dict(os.environ)))
                ours = per_second(database_url, broker_url, folder / f"mail-{name}", port, mails)
                rounds.append((ours / bare, ours, bare))
        ratio, ours, bare = sorted(rounds)[_ROUNDS // 2]
        yield (
            f"{mails:,} mails to a local server ({name}); a bare loop; of {_ROUNDS} rounds the middle one, "
            f"{min(rounds)[0]:.2f} to {max(rounds)[0]:.2f}",
            f"{ours:,.0f}/s",
            f"{bare:,.0f}/s",
            ratio,
        )


def per_second(database_url: str, broker_url: str, folder: Path, port: int, mails: int) -> float:
    environment = {
        **os.environ,
        "DATABASE_URL": database_url,
        "BROKER_URL": broker_url,
        "INSTANCE_PATH": str(folder),
        "MAIL_URL": f"smtp://127.0.0.1:{port}",
    }
    run([sys.executable, "-m", "flask", "--app", "flaskapp", "db", "upgrade"], environment)
    run([sys.executable, "-c", _WRITE, str(mails)], environment)
    engine = create_engine(database_url)
    left = "SELECT count(*) FROM mail_recipient WHERE state != 'accepted'"
    with worker(["-A", "celery_worker", "worker", "-c", "2", "-l", "WARNING"], environment):
        deadline, first = time.monotonic() + 120, None
        while (unsent := scalar(engine, left, mails)) and time.monotonic() < deadline:
            if first is None and unsent <= mails * 0.9:
                first = time.monotonic(), unsent
            time.sleep(0.1)
    engine.dispose()
    if unsent or first is None:
        raise SystemExit(f"{unsent} of {mails} mails were not sent within two minutes.")
    return first[1] / (time.monotonic() - first[0])


@contextmanager
def server() -> Iterator[int]:
    port = free_port()
    process = subprocess.Popen([sys.executable, "-c", _SERVER, str(port)], cwd=ROOT, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        process.stdout.readline()
        yield port
    finally:
        process.kill()
        process.wait(10)


if __name__ == "__main__":
    count = int(sys.argv[1]) if len(sys.argv) > 1 else MAILS
    with tempfile.TemporaryDirectory(prefix="offload-bench-") as scratch:
        folder = Path(scratch)
        folder.chmod(0o711)
        if sys.argv[2:] == ["both"]:
            with rabbitmq(folder / "rabbitmq") as broker, postgresql(folder / "postgresql") as database:
                for row in rows(broker, database, folder, count):
                    print(*row)
        else:
            for row in rows(None, None, folder, count):
                print(*row)
