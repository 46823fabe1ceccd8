"""The faults of a storm. Each begins, lasts as long as it must, and leaves the crew to be restored."""

import os
import shutil
import signal
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from random import Random

from kombu import Connection, Producer
from sqlalchemy import select

from flaskapp.broker import publisher, topology, transports
from flaskapp.jobs.models import Job, JobState, Worker
from tests.faults.crew import Crew
from tests.faults.deadly import PLACES
from tests.faults.load import pass_time
from tests.services import PostgreSQL, RabbitMQ
from tests.services.processes import family

#: A quorum queue that is killed in its youth is lost with what it confirmed (RabbitMQ 3.10).
GROWN_UP_SECONDS = 12
WORKERS = ("worker 1", "worker 2")
#: A job that is killed three times is parked as failed, which is no loss; a storm kills nobody for the third time.
MOST_CRASHES = 2
Fault = Callable[[], bool | None]


class Weather:
    """Each fault answers False if it had to be left out at this moment."""

    def __init__(self, crew: Crew, random: Random) -> None:
        self.crew, self.random = crew, random
        self.bench = crew.stack.bench

    def faults(self) -> dict[str, Fault]:
        return {
            "a worker killed": self.kill_worker,
            "a worker killed without its pool": self.kill_parent,
            "a pool child killed": self.kill_child,
            "a worker killed at a boundary": self.deadly_worker,
            "a worker frozen past its lease": self.freeze_worker,
            "a worker stopped and started": self.stop_worker,
            "a beat killed": self.kill_beat,
            "a beat killed at a boundary": self.deadly_beat,
            "a submitter killed": self.kill_submitter,
            "a submitter killed at a boundary": self.deadly_submitter,
            "messages delivered again": self.duplicate,
        }

    def _worker(self) -> str:
        return self.random.choice(WORKERS)

    def _may_be_killed(self, role: str) -> bool:
        """Nothing that it runs has crashed so often that once more would park it."""
        pid = self.crew.processes[role].pid
        with self.bench.session() as session:
            holders = select(Worker.id).where(Worker.pid == pid)
            worn = select(Job.id).where(Job.state == JobState.RUNNING, Job.crashes >= MOST_CRASHES)
            return session.execute(worn.where(Job.worker.in_(holders)).limit(1)).first() is None

    def kill_worker(self) -> bool | None:
        role = self._worker()
        return self.crew.signal(role, signal.SIGKILL) if self._may_be_killed(role) else False

    def kill_parent(self) -> bool | None:
        role = self._worker()
        return self.crew.processes[role].popen.kill() if self._may_be_killed(role) else False

    def kill_child(self) -> bool | None:
        role = self._worker()
        process = self.crew.processes[role]
        children = sorted(family(process.pid) - {process.pid})
        if not children or not self._may_be_killed(role):
            return False
        return os.kill(self.random.choice(children), signal.SIGKILL)

    def deadly_worker(self) -> None:
        places = [place for place in PLACES if place != "after commit"]
        self.crew.start_deadly(self._worker(), self.random.choice(places))

    def freeze_worker(self) -> bool | None:
        role = self._worker()
        if not self._may_be_killed(role):
            return False
        self.crew.signal(role, signal.SIGSTOP)
        # SQLite's one lock would be frozen with its holder, for everybody.
        seen = self.bench.can_write()
        if seen:
            pass_time(5)
        self.crew.signal(role, signal.SIGCONT)
        return seen

    def stop_worker(self) -> None:
        process = self.crew.processes[self._worker()]
        process.popen.terminate()
        process.popen.wait(60)

    def kill_beat(self) -> None:
        self.crew.signal("beat", signal.SIGKILL)

    def deadly_beat(self) -> None:
        self.crew.start_deadly("beat", self.random.choice(["sent", "confirmed", "a lease rescued, before COMMIT"]))

    def _submitter(self) -> str | None:
        busy = [role for role in self.crew.roles if "submitter" in role and not self.crew.has_ended(role)]
        return self.random.choice(busy) if busy else None

    def kill_submitter(self) -> bool | None:
        role = self._submitter()
        return self.crew.signal(role, signal.SIGKILL) if role else False

    def deadly_submitter(self) -> bool | None:
        role = self._submitter()
        place = self.random.choice(["after commit", "sent", "confirmed"])
        return self.crew.start_deadly(role, place) if role else False

    def duplicate(self) -> None:
        """As an at-least-once broker may: twenty messages come once more."""
        with self.bench.session() as session:
            jobs = list(session.scalars(select(Job).where(Job.sends > 0).order_by(Job.created_at.desc()).limit(20)))
        url = self.crew.stack.environment["BROKER_URL"]
        with Connection(url, transport_options=transports.options(url)) as connection:
            producer = Producer(connection.default_channel, exchange=topology.EXCHANGE, auto_declare=False)
            for job in jobs:
                producer.publish(
                    f"[{job.args}, {job.kwargs}, {publisher.embed(job)}]",
                    routing_key=job.queue,
                    content_type="application/json",
                    content_encoding="utf-8",
                    headers=publisher.headers(job),
                    correlation_id=job.id,
                )


class BigWeather(Weather):
    """Over RabbitMQ and PostgreSQL."""

    def __init__(self, crew: Crew, random: Random, rabbitmq: RabbitMQ, postgresql: PostgreSQL) -> None:
        super().__init__(crew, random)
        self.rabbitmq, self.postgresql = rabbitmq, postgresql
        self.up_since = time.monotonic()
        self.is_wiped = False

    def faults(self) -> dict[str, Fault]:
        return super().faults() | {
            "the database restarted": self.postgresql.restart,
            "the database killed": self.kill_database,
            "the database frozen": lambda: self.freeze(self.postgresql),
            "the broker frozen": lambda: self.freeze(self.rabbitmq),
            "the broker under a memory alarm": self.alarm,
            "the broker killed": self.kill_broker,
            "the broker's data lost": self.wipe,
        }

    def kill_database(self) -> None:
        self.postgresql.kill()
        self.postgresql.start()

    def freeze(self, service: PostgreSQL | RabbitMQ) -> None:
        service.freeze()
        pass_time(self.random.choice([2, 4, 6]))
        service.resume()

    def alarm(self) -> None:
        self.rabbitmq.ctl("set_vm_memory_high_watermark", "0.000001")
        pass_time(3)
        self.rabbitmq.ctl("set_vm_memory_high_watermark", "absolute", "512MB")

    def kill_broker(self) -> bool | None:
        if time.monotonic() - self.up_since < GROWN_UP_SECONDS:
            return False
        self.rabbitmq.kill()
        return self._start_broker()

    def wipe(self) -> bool | None:
        """Once in a storm."""
        if self.is_wiped:
            return False
        self.is_wiped = True
        self.rabbitmq.wipe()
        return self._start_broker()

    def _start_broker(self) -> None:
        self.rabbitmq.start()
        self.rabbitmq.create_vhost(Path(self.crew.stack.environment["BROKER_URL"]).name)
        self.up_since = time.monotonic()


class SmallWeather(Weather):
    """Over SQLite and the folder."""

    def __init__(self, crew: Crew, random: Random) -> None:
        super().__init__(crew, random)
        self.folder = self.bench.folder / "broker"
        self.is_wiped = False

    def faults(self) -> dict[str, Fault]:
        return super().faults() | {
            "SQLite locked by a stranger": self.lock,
            "the broker's folder unusable": self.hide_folder,
            "the broker's data lost": self.wipe,
        }

    def lock(self) -> None:
        with closing(
            sqlite3.connect(str(self.bench.engine.url.database), timeout=30, isolation_level=None)
        ) as stranger:
            stranger.execute("BEGIN IMMEDIATE")
            pass_time(self.random.choice([2, 4, 6]))

    def hide_folder(self) -> bool | None:
        hidden = self.folder.with_name("hidden")
        if not self.folder.is_dir():
            return False
        self.folder.rename(hidden)
        try:
            self.folder.write_text("not a folder")
        except OSError:
            # Somebody made it again in this very moment.
            shutil.rmtree(self.folder)
            hidden.rename(self.folder)
            return False
        pass_time(3)
        self.folder.unlink()
        hidden.rename(self.folder)
        return None

    def wipe(self) -> bool | None:
        """Once in a storm."""
        if self.is_wiped:
            return False
        self.is_wiped = True
        shutil.rmtree(self.folder, ignore_errors=True)
        return None
