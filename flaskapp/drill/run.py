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
from sqlalchemy import Engine, and_, delete, func, select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from flaskapp.diagnostics.models import Effect
from flaskapp.drill import scratch
from flaskapp.drill.count import LATE_SECONDS, STAND_IN_SECONDS, Count, Kill, Record, count
from flaskapp.drill.victim import Victim
from flaskapp.drill.work import Work
from flaskapp.errors import OffloadError
from flaskapp.extensions import control_engine, core_session
from flaskapp.jobs import lifecycle, queries
from flaskapp.jobs.clock import now, seconds_from_now
from flaskapp.jobs.models import Job, JobState, Worker
from flaskapp.jobs.pruning import prune_queue
from flaskapp.jobs.retry import MOST_CRASHES

#: Fewer live jobs than this, and the next kill might find nothing running.
_FEW = 12
_LOOK_EVERY = 0.05
#: How long at most a worker goes on once it runs a job.
_LONGEST_LIFE = 1.0
#: A job whose backoff is longer than this is not claimed before the next kill is done.
_REST_SECONDS = 2.0
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


@dataclass(frozen=True)
class Look:
    """What the table says about the drill's jobs at one moment."""

    live: int = 0
    done: int = 0
    #: In mid-run on the drill's worker.
    running: int = 0
    #: How many that lost their process twice could be hit a third time now.
    at_the_edge: int = 0


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
        self._began = time.monotonic()
        self._false_starts = self._done_at_start = 0
        self._beat_runs = False

    @property
    def elapsed(self) -> float:
        return time.monotonic() - self._began

    @property
    def useful_kills(self) -> int:
        return sum(1 for kill in self.kills if kill.hit)

    def run(self) -> Count:
        """Hold it and clean up, whatever happens; raises CannotRun when it cannot begin."""
        drift_before = self._prepare()
        self._began = time.monotonic()
        try:
            began_at = self._ask(lambda session: session.execute(select(now())).scalar_one())
            while self.useful_kills < self.plan.kills and not self._is_late():
                self._kill_once()
            self.work.submit(max(0, self.plan.jobs - self.work.jobs))
            self._until(lambda: self.look.live == 0 and self.look.done >= len(self.work.accepted))
            seconds = self.elapsed
            self._victim.stop()
            record = self._record(began_at, seconds)
            counted = self._ask(lambda session: count(session, record))
        finally:
            self._victim.kill()
            self._clean_up()
        return counted.with_drift(drift_before, self._ask(_drift))

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
                self._beat_runs = bool(queries.live_workers(session, _BEAT_SECONDS, kind="beat"))
                scratch.remove_abandoned(session, self.broker_url)
                drift = _drift(session)
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
        with core_session(self._engine) as session:
            self._rescue(session)
            live = select(Job.id).where(Job.queue == self.queue, Job.state.in_(sorted(lifecycle.LIVE_STATES)))
            for job_id in session.scalars(live).all():
                lifecycle.cancel(session, job_id, by="the end of the drill")
            session.commit()
            if not self.plan.keep:
                while prune_queue(session, self.queue):
                    session.commit()
                session.execute(delete(Effect).where(Effect.key.startswith(f"{self.queue}/", autoescape=True)))
                session.commit()
        scratch.remove(self.broker_url, self.queue)
        self._engine.dispose()

    # --- one kill ---

    def _kill_once(self) -> None:
        if not self._until(lambda: self._is_ripe(self.look)):
            return
        time.sleep(random.uniform(0, _LONGEST_LIFE))  # noqa: S311 -- any moment will do
        if not self._is_ripe(self._ask(self._see)):
            return
        self._victim.kill()
        at = self.elapsed
        is_last = self.useful_kills == self.plan.kills - 1
        hit = self._ask(self._held) if is_last else []
        if hit:
            self.left_at = self._ask(lambda session: session.execute(select(now())).scalar_one())
        else:
            hit = self._ask(self._rescue)
        self.kills.append(Kill(at, hit))
        self._relay.nudge()

    def _is_ripe(self, look: Look) -> bool:
        # A job that has lost its process twice is let finish: a third crash would park it, by the rule.
        return look.running > 0 and look.at_the_edge == 0

    def _held(self, session: Session) -> list[str]:
        return list(session.scalars(select(Job.id).where(self._victim.is_holder(), Job.state == JobState.RUNNING)))

    def _rescue(self, session: Session) -> list[str]:
        """Whatever the table gives to the worker, which is dead: back to waiting, counted as a crash."""
        holders = session.scalars(select(Job.worker).where(self._victim.is_holder(), Job.state == JobState.RUNNING))
        rescued = lifecycle.rescue(session, sorted({str(holder) for holder in holders}))
        session.execute(delete(Worker).where(self._victim.is_listed()).execution_options(synchronize_session=False))
        session.commit()
        return rescued

    # --- waiting ---

    def _until(self, condition: Callable[[], bool]) -> bool:
        """Keep the worker alive and supplied until the table says so; False if time is over first."""
        while not self._is_late():
            self._keep_alive()
            self.look = self._ask(self._see)
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
        if self.useful_kills >= self.plan.kills or self.look.at_the_edge:
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
            self._ask(self._rescue)
        self._done_at_start = self.look.done
        self._victim.start()

    def _see(self, session: Session) -> Look:
        mine = Job.queue == self.queue
        states = dict(session.execute(select(Job.state, func.count()).where(mine).group_by(Job.state)).all())
        done = sum(jobs for state, jobs in states.items() if JobState(state).is_final)
        running = select(func.count()).where(mine, self._victim.is_holder(), Job.state == JobState.RUNNING)
        resting = and_(Job.state == JobState.WAITING, Job.run_at > seconds_from_now(_REST_SECONDS))
        edge = and_(mine, Job.crashes >= MOST_CRASHES - 1, Job.state.in_(sorted(lifecycle.LIVE_STATES)), ~resting)
        at_the_edge = session.execute(select(func.count()).where(edge)).scalar_one()
        return Look(sum(states.values()) - done, done, session.execute(running).scalar_one(), at_the_edge)

    def _is_late(self) -> bool:
        return self.elapsed > self.plan.seconds

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


def _drift(session: Session) -> int:
    return queries.account(session).drift


def _first_line(trouble: object) -> str:
    return (str(trouble).strip().splitlines() or [""])[0][:200].rstrip(".")
