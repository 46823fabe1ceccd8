"""The drill: submit in waves, kill the worker while it runs some of them, start it again, wait for the rest.

A killed worker is rescued here, by its own ids: we killed and reaped it, so no lease need run out, and nobody
else's worker can be meant. Only the last kill is left to the installation, which must notice by the lease.
"""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from flask import Flask
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from flaskapp.drill import scratch, tables
from flaskapp.drill.count import LATE_SECONDS, STAND_IN_SECONDS, Count, Kill, Record, count
from flaskapp.drill.tables import Look
from flaskapp.drill.victim import Victim
from flaskapp.drill.work import Work
from flaskapp.errors import OffloadError
from flaskapp.extensions import control_engine, core_session
from flaskapp.jobs import queries

#: Fewer live jobs than this, and the next kill might find nothing running.
_FEW = 12
_LOOK_EVERY = 0.05
#: How long at most a worker goes on once it runs a job.
_LONGEST_LIFE = 1.0
#: A worker that ends by itself so often without having run a job will not get better.
_MOST_FALSE_STARTS = 3
#: A beat that was not heard for so long does not run.
_BEAT_SECONDS = 10.0
#: What a job's expiry adds to the drill's own limit.
_EXPIRE_LATER = 600
_FRONT_DOOR = "celery_worker"

Answer = TypeVar("Answer")


class CannotRun(OffloadError):
    """The drill cannot be held here; the message says why and what to do."""


@dataclass(frozen=True)
class Plan:
    jobs: int
    kills: int
    seconds: float
    keep: bool = False


@dataclass
class Drill:
    app: Flask
    plan: Plan
    tell: Callable[["Drill"], None] = lambda drill: None
    front_door: str = _FRONT_DOOR
    queue: str = field(default_factory=scratch.new_name)
    kills: list[Kill] = field(default_factory=list)
    look: Look = field(default_factory=Look)
    #: When the worker died whose jobs were left to the installation.
    left_at: datetime | None = None

    def __post_init__(self) -> None:
        settings = self.app.config["SETTINGS"]
        self.lease_seconds: float = settings.lease_seconds
        self.broker_url: str = settings.broker_url
        self.log: Path = settings.instance_path / f"{self.queue}.log"
        self.work = Work(self.app, self.queue, self.plan.seconds + _EXPIRE_LATER)
        self._engine: Engine = control_engine(settings.database_url)
        self._relay: Any = self.app.extensions["celery"].relay
        self._victim = Victim(self.queue, self.log, self.front_door, settings.instance_path)
        self._tables = tables.Tables(self.queue, self._victim)
        self._began = time.monotonic()
        self._false_starts = self._done_at_start = 0
        self._beat_runs = self._kills_are_over = False
        self._deadline = self.plan.seconds

    @property
    def elapsed(self) -> float:
        return time.monotonic() - self._began

    @property
    def useful_kills(self) -> int:
        return sum(1 for kill in self.kills if kill.hit)

    def run(self) -> Count:
        """Hold it and clean up, whatever happens; raises CannotRun when it cannot begin."""
        drift_before = self._prepare()
        try:
            counted = self._hold()
        except DBAPIError as trouble:
            raise CannotRun(f"The database went away in mid-drill: {_first_line(trouble.orig)}.") from trouble
        finally:
            self._victim.kill()
            self._clean_up()
        return counted.with_drift(drift_before, self._ask(tables.drift))

    def _hold(self) -> Count:
        self._began = time.monotonic()
        began_at = self._ask(tables.moment)
        # The last third of the time is for what is left: a slow machine gets fewer kills, not lost jobs.
        self._deadline = self.plan.seconds * 2 / 3
        while self.useful_kills < self.plan.kills and not self._is_late():
            self._kill_once()
        self._deadline, self._kills_are_over = self.plan.seconds, True
        self.work.submit(max(0, self.plan.jobs - self.work.jobs))
        self._until(lambda: self.look.live == 0 and self.look.done >= len(self.work.accepted))
        seconds = self.elapsed
        self._victim.stop()
        record = self._record(began_at, seconds)
        return self._ask(lambda session: count(session, record))

    def _record(self, began_at: datetime, seconds: float) -> Record:
        left = self.kills[-1].hit if self.left_at is not None else ()
        wanted = self.plan.kills
        patience = LATE_SECONDS + self.lease_seconds + (0 if self._beat_runs else STAND_IN_SECONDS)
        return Record(self.work, self.kills, wanted, began_at, seconds, patience, left, self.left_at)

    # --- before and after ---

    def _prepare(self) -> int:
        if self.broker_url.startswith("memory:"):
            raise CannotRun(
                "A broker in memory:// lives in one process; the drill needs one that its worker reaches too."
            )
        try:
            with core_session(self._engine) as session:
                scratch.remove_abandoned(session, self.broker_url)
                drift = tables.drift(session)
        except DBAPIError as trouble:
            raise CannotRun(
                f"The database does not answer as it should: {_first_line(trouble.orig)}. "
                "Start it, run `flask --app flaskapp db upgrade`, and try again."
            ) from trouble
        except Exception as trouble:
            raise self._no_broker(trouble) from trouble
        try:
            scratch.make(self.broker_url, self.queue)
        except Exception as trouble:
            raise self._no_broker(trouble) from trouble
        return drift

    def _no_broker(self, trouble: Exception) -> CannotRun:
        scheme = self.broker_url.partition(":")[0]
        said = _first_line(trouble) or type(trouble).__name__
        return CannotRun(f"The broker ({scheme}://) does not answer: {said}. Start it and try again; nothing was done.")

    def _clean_up(self) -> None:
        """The worker is dead: its jobs, its row, the queue and the effects go; the books say how many there were."""
        try:
            with core_session(self._engine) as session:
                self._tables.clear(session, self.plan.keep)
            scratch.remove(self.broker_url, self.queue)
        except Exception as trouble:
            raise CannotRun(
                f"The drill could not clear up after itself: {_first_line(trouble)}. "
                f"What is left of {self.queue} goes with a drill that begins an hour from now or later."
            ) from trouble
        finally:
            self._engine.dispose()

    # --- one kill ---

    def _kill_once(self) -> None:
        if not self._until(lambda: self._is_ripe(self.look)):
            return
        time.sleep(random.uniform(0, _LONGEST_LIFE))  # noqa: S311 -- any moment will do
        if not self._is_ripe(self._ask(self._tables.look)):
            return
        self._victim.kill()
        at = self.elapsed
        is_last = self.useful_kills == self.plan.kills - 1
        hit = self._ask(self._tables.held) if is_last else []
        if hit:
            self.left_at = self._ask(tables.moment)
            self._beat_runs = self._ask(lambda session: bool(queries.live_workers(session, _BEAT_SECONDS, "beat")))
        else:
            hit = self._ask(self._tables.rescue)
        self.kills.append(Kill(at, hit))
        self._relay.nudge()

    def _is_ripe(self, look: Look) -> bool:
        # A job that has lost its process twice is let finish: a third crash would park it, by the rule.
        return look.running > 0 and look.at_the_edge == 0

    # --- waiting ---

    def _until(self, condition: Callable[[], bool]) -> bool:
        """Keep the worker alive and supplied until the table says so; False if time is over first."""
        while not self._is_late():
            self._keep_alive()
            self.look = self._ask(self._tables.look)
            if missing := self._missing():
                self.work.submit(missing)
            elif condition():
                return True
            # Retries and rescued jobs become due: send them, also where no beat runs.
            self._relay.nudge()
            self.tell(self)
            time.sleep(_LOOK_EVERY)
        return False

    def _missing(self) -> int:
        """How many jobs the next kill wants: its share of all, and more if there are too few that it could hit."""
        if self._kills_are_over or self.useful_kills >= self.plan.kills or self.look.at_the_edge:
            return 0
        share = self.plan.jobs * (self.useful_kills + 1) // (self.plan.kills + 1)
        return max(share - self.work.jobs, _FEW if self.look.live < _FEW else 0)

    def _keep_alive(self) -> None:
        if self._victim.lives:
            return
        if self._victim.died_by_itself:
            self._false_starts = self._false_starts + 1 if self.look.done == self._done_at_start else 0
            if self._false_starts >= _MOST_FALSE_STARTS:
                raise CannotRun(f"The drill's worker ends by itself: {self._victim.last_words()} (all in {self.log})")
            self._ask(self._tables.rescue)
        self._done_at_start = self.look.done
        self._victim.start()

    def _is_late(self) -> bool:
        return self.elapsed > self._deadline

    def _ask(self, question: Callable[[Session], Answer]) -> Answer:
        """On a connection of its own; a database that is away for a moment is asked again."""
        while True:
            try:
                with core_session(self._engine) as session:
                    return question(session)
            except DBAPIError:
                if self._is_late():
                    raise
                time.sleep(0.5)


def _first_line(trouble: object) -> str:
    return (str(trouble).strip().splitlines() or [""])[0][:200].rstrip(".")
