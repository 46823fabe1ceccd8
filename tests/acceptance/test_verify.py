"""`flask jobs verify` as a person runs it: on both stacks, beside a worker that has other work."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from flaskapp.broker.folder.queues import names_in
from flaskapp.diagnostics.models import Effect
from flaskapp.drill import commands, scratch
from flaskapp.drill.run import Drill
from flaskapp.jobs.models import Job, JobState, Probe, Worker
from tests.acceptance.conftest import Stack
from tests.helpers import ROOT, wait_until
from tests.services import RabbitMQ
from tests.services.processes import running_processes

S = JobState.SUCCEEDED


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "flask", "--app", "flaskapp", "jobs", "verify", *words]


def verify(stack: Stack, *words: str, **settings: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **stack.environment, **settings}
    return subprocess.run(
        command(*words),
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=110,
    )


@contextlib.contextmanager
def begun(stack: Stack, *words: str) -> Iterator[subprocess.Popen[str]]:
    """A drill whose worker runs jobs; whatever happens, it ends with the test."""
    drill = subprocess.Popen(
        command(*words),
        cwd=ROOT,
        env={**os.environ, **stack.environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        wait_until(lambda: any(job.state == JobState.RUNNING for job in of_drills(stack)), 40, "the drill runs a job")
        yield drill
    finally:
        listed = set(workers(stack).values())
        drill.kill()
        drill.communicate()
        # Only of a broken drill is one left.
        for pid in listed & {session for _, _, session in running_processes()}:
            os.killpg(pid, signal.SIGKILL)


def of_drills(stack: Stack) -> list[Job]:
    return [job for job in stack.bench.jobs() if job.queue.startswith("verify-")]


def workers(stack: Stack) -> dict[str, int]:
    with stack.bench.session() as session:
        return {worker.id: worker.pid for worker in session.scalars(select(Worker)) if worker.id.startswith("verify-")}


def left_over(stack: Stack, request: pytest.FixtureRequest) -> dict[str, list[str]]:
    """Whatever of a drill is still there, in the tables and at the broker."""
    with stack.bench.session() as session:
        probes = [queue for queue in session.scalars(select(Probe.queue)) if queue.startswith("verify-")]
        keys = [key for key in session.scalars(select(Effect.key)) if key.startswith("verify-")]
    rest = {
        "jobs": [job.id for job in of_drills(stack)],
        "effects": keys,
        "probes": probes,
        "workers": sorted(workers(stack)),
    }
    return {what: those for what, those in {**rest, "broker": at_broker(stack, request)}.items() if those}


def at_broker(stack: Stack, request: pytest.FixtureRequest) -> list[str]:
    url = stack.environment["BROKER_URL"]
    if url.startswith("folder:"):
        folder = url.removeprefix("folder://")
        tables = "".join(path.read_text() for path in Path(folder, "exchanges").glob("*.json"))
        return [name for name in names_in(f"{folder}/queues") if "verify-" in name] + ["bound"] * ("verify-" in tables)
    rabbitmq: RabbitMQ = request.getfixturevalue("rabbitmq")
    vhost = url.rpartition("/")[2]
    found: list[Any] = [*rabbitmq.api("GET", f"/queues/{vhost}"), *rabbitmq.api("GET", f"/bindings/{vhost}")]  # type: ignore[misc]
    return [str(each) for each in found if "verify-" in json.dumps(each)]


def test_it_proves_it_beside_a_worker_that_goes_on_undisturbed(stack: Stack, request: pytest.FixtureRequest) -> None:
    stack.start_beat()
    worker = stack.start_worker()
    mine = [stack.bench.fate("write_and_sleep", f"mine {n}", 1.0) for n in range(20)]

    done = verify(
        stack, "--jobs", "40", "--kills", "3", "--json", "--report", str(stack.bench.app.instance_path) + "/r.html"
    )

    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(done.stdout)
    assert {told[what] for what in ("lost", "doubled", "failed", "parked", "drift_before", "drift_after")} == {0}
    assert told["ok"]
    assert (told["useful_kills"], told["succeeded"]) == (3, told["accepted"])
    assert told["accepted"] >= 40
    assert "✓ Nothing was lost" in Path(told["report"]).read_text()
    assert left_over(stack, request) == {}
    jobs = stack.bench.finished(mine, 60)
    assert [(job.state, job.crashes) for job in jobs] == [(S, 0)] * 20
    assert [len(stack.bench.effects(f"mine {n}")) for n in range(20)] == [1] * 20
    assert worker.popen.poll() is None
    assert stack.bench.account().drift == 0


@pytest.mark.parametrize(
    ("stack", "broken"), [("SQLite and folder", "lost"), ("PostgreSQL and RabbitMQ", "doubled")], indirect=["stack"]
)
def test_a_broken_core_turns_it_red(
    stack: Stack, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    stack.start_beat()
    monkeypatch.setenv("TEST_BREAK", broken)

    done = verify_here(stack, monkeypatch, "tests.broken_worker", "--jobs", "20", "--kills", "1", "--json")

    assert done.exit_code == 1, done.output
    told = json.loads(done.stdout)
    assert not told["ok"]
    assert told[broken] > 0
    assert "Not proven" in Path(told["report"]).read_text()
    assert left_over(stack, request) == {}


def verify_here(stack: Stack, monkeypatch: pytest.MonkeyPatch, front_door: str, *words: str) -> Any:
    """In this process, with a worker of another kind."""
    for name, value in stack.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(commands, "Drill", partial(Drill, front_door=front_door))
    return stack.bench.app.test_cli_runner().invoke(args=["jobs", "verify", "--seconds", "60", *words])


def test_what_is_not_done_in_time_is_lost_and_cleared_away(stack: Stack, request: pytest.FixtureRequest) -> None:
    done = verify(stack, "--jobs", "40", "--kills", "500", "--seconds", "8")

    assert done.returncode == 1, done.stderr
    assert "Not proven" in done.stdout
    assert "of 500 kills hit a running job in time" in done.stdout
    assert left_over(stack, request) == {}
    assert stack.bench.account().drift == 0


def test_ctrl_c_leaves_nothing_behind(stack: Stack, request: pytest.FixtureRequest) -> None:
    with begun(stack) as drill:
        pids = wait_until(lambda: list(workers(stack).values()), 20, "its worker is listed")

        drill.send_signal(signal.SIGINT)
        _, said = drill.communicate(timeout=60)

    assert drill.returncode == 1
    assert "Stopped." in said
    assert left_over(stack, request) == {}
    assert not [pid for pid, _, session in running_processes() if session in pids]
    assert stack.bench.account().drift == 0


def test_a_drill_that_is_killed_takes_its_worker_with_it_and_the_next_clears_up(
    stack: Stack, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    with begun(stack) as drill:
        pids = wait_until(lambda: list(workers(stack).values()), 20, "its worker is listed")
        drill.kill()
        drill.communicate(timeout=20)
        wait_until(
            lambda: not [pid for pid, _, session in running_processes() if session in pids], 20, "its worker is gone"
        )

    monkeypatch.setattr(scratch, "ABANDONED", timedelta(seconds=-60))
    with stack.bench.session() as session:
        scratch.remove_abandoned(session, stack.environment["BROKER_URL"])
    assert all(job.is_final for job in of_drills(stack))
    assert at_broker(stack, request) == []
    assert stack.bench.account().drift == 0


@pytest.mark.parametrize("stack", ["SQLite and folder"], indirect=True)
def test_it_keeps_jobs_and_effects_for_a_look(stack: Stack, request: pytest.FixtureRequest) -> None:
    done = verify(stack, "--jobs", "10", "--kills", "0", "--keep")

    assert done.returncode == 0, done.stdout + done.stderr
    assert {job.state for job in of_drills(stack)} == {S}
    assert set(left_over(stack, request)) == {"jobs", "effects"}


@pytest.mark.parametrize("stack", ["SQLite and folder"], indirect=True)
def test_a_worker_that_cannot_start_is_no_verdict(
    stack: Stack, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = verify_here(stack, monkeypatch, "tests.no_such_worker")

    assert done.exit_code == 2, done.output
    assert "The drill's worker ends by itself" in done.stderr
    assert left_over(stack, request) == {}


@pytest.mark.parametrize("stack", ["SQLite and folder"], indirect=True)
@pytest.mark.parametrize(
    ("setting", "value", "sentence"),
    [
        ("BROKER_URL", "amqp://127.0.0.1:1//", "The broker (amqp://) does not answer"),
        ("BROKER_URL", "memory://", "memory:// lives in one process"),
        ("DATABASE_URL", "postgresql://127.0.0.1:1/x", "The database does not answer"),
        ("DATABASE_URL", "sqlite:///{empty}", "flask --app flaskapp db upgrade"),
    ],
)
def test_where_it_cannot_be_held_it_says_why(stack: Stack, setting: str, value: str, sentence: str) -> None:
    value = value.format(empty=f"{stack.bench.app.instance_path}/empty.sqlite3")

    done = verify(stack, **{setting: value})

    assert done.returncode == 2, done.stdout + done.stderr
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr
