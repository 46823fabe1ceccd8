"""A seeded storm of faults over a whole installation, and the account of it: `python -m tests.faults.storm`.

SECONDS, SEED, REQUESTS and STACK (postgresql or sqlite) come from the environment. Jobs that its kills have parked are
counted in a column of their own and run again, as an operator would; then every effect must be there once. Ends with
0 if nothing is lost, doubled or failed.
"""

import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import select

from flaskapp.jobs import lifecycle
from flaskapp.jobs.models import Job, JobState
from tests import services
from tests.acceptance.conftest import Stack
from tests.faults import plan
from tests.faults.crew import Crew
from tests.faults.ledger import count_effects, until_calm
from tests.faults.load import pass_time
from tests.faults.weather import BigWeather, SmallWeather, Weather
from tests.helpers import Bench, environment, make_app, wait_until

#: Long enough for a lost message to be noticed and for all that waits behind it.
CALM_SECONDS = 600


@dataclass
class Report:
    seed: int
    stack: str
    requests: int
    jobs: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    hits: int = 0
    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    parked: int = 0
    repeated: int = 0
    cancelled: int = 0
    late: list[float] = field(default_factory=list)
    drift: int = 0
    seconds: float = 0.0

    @property
    def is_clean(self) -> bool:
        return not (self.lost or self.doubled or self.failed or self.drift)

    def table(self) -> str:
        rows: list[tuple[str, object]] = [
            ("seed", self.seed),
            ("stack", self.stack),
            ("requests", self.requests),
            *((f"· {kind}", number) for kind, number in sorted(self.kinds.items())),
            ("jobs, with children and members", self.jobs),
            ("faults", sum(self.faults.values())),
            *((f"· {fault}", number) for fault, number in sorted(self.faults.items())),
            ("kills that hit their boundary", self.hits),
            ("jobs that took more than one attempt", self.repeated),
            ("lost", len(self.lost)),
            ("doubled", len(self.doubled)),
            ("failed", len(self.failed)),
            ("parked after three crashes, and run again", self.parked),
            ("cancelled in time", self.cancelled),
            ("late, median", f"{percentile(self.late, 50):.2f} s"),
            ("late, 99th percentile", f"{percentile(self.late, 99):.2f} s"),
            ("drift", self.drift),
            ("seconds", f"{self.seconds:.0f}"),
        ]
        return "\n".join(["| storm | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows)])


def percentile(values: list[float], per_cent: int) -> float:
    return sorted(values)[min(len(values) - 1, len(values) * per_cent // 100)] if values else 0.0


def storm(stack: Stack, seed: int, seconds: float, requests: int, weather_of: Any) -> Report:
    """Submit and break for `seconds`; then wait for the end of all jobs, and count."""
    report = Report(seed, stack.name, requests)
    started = time.monotonic()
    words = [[str(word) for word in (seed, requests, first, 2, seconds)] for first in range(2)]
    crew = Crew(stack, {f"submitter {n + 1}": ["tests.faults.submitter", *words[n]] for n in range(2)})
    try:
        crew.restore()
        chance = random.Random(seed)
        rage(crew, weather_of(crew, chance), chance, seconds, report)
        settle_down(crew, report)
    finally:
        crew.end_all()
    report.hits = crew.hits()
    reckon(stack.bench, report)
    report.seconds = time.monotonic() - started
    return report


def rage(crew: Crew, weather: Weather, chance: random.Random, seconds: float, report: Report) -> None:
    end = time.monotonic() + seconds
    faults = weather.faults()
    while time.monotonic() < end:
        pass_time(chance.uniform(0.5, 2))
        name = chance.choice(sorted(faults))
        if faults[name]() is not False:
            report.faults[name] += 1
        crew.restore()


def settle_down(crew: Crew, report: Report) -> None:
    """Nothing dies any more: the rest is submitted, and every job comes to its end."""

    def all_said() -> bool:
        crew.restore()
        return all(crew.has_said_all(role) for role in crew.roles if "submitter" in role)

    wait_until(all_said, CALM_SECONDS, "the submitters have said all")
    until_calm(crew.stack.bench, [], CALM_SECONDS)
    if parked := parked_jobs(crew.stack.bench):
        report.parked = len(parked)
        with crew.stack.bench.session() as session, session.begin():
            for job_id in parked:
                lifecycle.run_again(session, job_id)
        until_calm(crew.stack.bench, [], CALM_SECONDS)


def parked_jobs(bench: Bench) -> list[str]:
    with bench.session() as session:
        crashed = select(Job.id).where(Job.state == JobState.FAILED, Job.error_message.like("Stopped after 3 crashes%"))
        return list(session.scalars(crashed))


def reckon(bench: Bench, report: Report) -> None:
    seen = count_effects(bench)
    jobs = [job for job in bench.jobs() if job.schedule is None]
    cancelled = {job.id for job in jobs if job.state == JobState.CANCELLED}
    for number in range(report.requests):
        key = plan.key_of(report.seed, number)
        report.kinds[plan.kind_of(report.seed, number)] += 1
        wanted = [] if key in cancelled else plan.effects_of(report.seed, number)
        for effect in (plan.witness_of(key), *wanted):
            (report.lost if seen[effect] == 0 else report.doubled if seen[effect] > 1 else []).append(effect)
        if key in cancelled:
            report.doubled += [effect for effect in plan.effects_of(report.seed, number) if seen[effect]]
    report.jobs = len(jobs)
    report.cancelled = len(cancelled)
    report.lost += [f"{job.id} is {job.state}" for job in jobs if not job.is_final]
    report.failed = [f"{job.id} {job.task}: {job.error_message}" for job in jobs if job.state == JobState.FAILED]
    report.repeated = len([job for job in jobs if job.attempt > job.retries + 1])
    report.late = [(job.started_at - job.run_at).total_seconds() for job in jobs if job.started_at is not None]
    report.drift = bench.account().drift


# --- from the command line --------------------------------------------------------------------------------


@contextmanager
def installation(name: str) -> Iterator[tuple[Stack, Any]]:
    """A stack of the storm's own, and what its weather is made of."""
    folder = Path(tempfile.mkdtemp(prefix="offload-storm-"))
    # PostgreSQL runs as another account when we are root.
    folder.chmod(0o711)
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        (folder / "instance").mkdir()
        if name == "sqlite":
            urls = f"sqlite:///{folder}/instance/offload.sqlite3", f"folder://{folder}/instance/broker"
            title = "SQLite and folder"

            def weather(crew: Crew, chance: random.Random) -> Weather:
                return SmallWeather(crew, chance)
        else:
            rabbitmq = stack.enter_context(services.rabbitmq(folder / "rabbitmq"))
            postgresql = stack.enter_context(services.postgresql(folder / "postgresql"))
            urls = postgresql.create_database("storm"), rabbitmq.create_vhost("storm")
            title = "PostgreSQL and RabbitMQ"

            def weather(crew: Crew, chance: random.Random) -> Weather:
                return BigWeather(crew, chance, rabbitmq, postgresql)

        bench = Bench(make_app(*urls, folder / "instance"))
        stack.callback(bench.close)
        yield Stack(title, bench, environment(*urls, folder / "instance")), weather


def main() -> int:
    # Whoever ends us ends the crew and the services with us.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    seed = int(os.environ.get("SEED") or int(time.time()) % 100_000)
    seconds, requests = float(os.environ.get("SECONDS") or 120), int(os.environ.get("REQUESTS") or 4000)
    name = os.environ.get("STACK") or "postgresql"
    print(f"A storm of {seconds:g} s over {name}, {requests} requests, SEED={seed}", flush=True)
    with installation(name) as (stack, weather):
        report = storm(stack, seed, seconds, requests, weather)
        print(report.table())
        for what in ("lost", "doubled", "failed"):
            for line in getattr(report, what)[:20]:
                print(f"{what}: {line}")
    return 0 if report.is_clean else 1


if __name__ == "__main__":
    sys.exit(main())
