"""kill -9 at each step of a job's way: whoever comes next brings it to the end it would have had, once.

All of them die on one installation, each before a queue of its own; then one clean worker takes what they left.
"""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path

import pytest
from celery import chord

from tests.acceptance.conftest import STACKS, Stack, make_stack
from tests.faults.deadly import PLACES
from tests.faults.ledger import Ledger
from tests.faults.servers import Web, launch_beat, make_token
from tests.faults.tasks import body, effects_of_chord, effects_of_everything, everything, nothing
from tests.helpers import Nudges, make_current, wait_until

SENDERS = ("sent", "confirmed")
WORKERS = [place for place in PLACES if place not in ("after commit", *SENDERS)]
CHILDREN = [place for place in WORKERS if place.startswith(("effect", "settled"))]


@dataclass
class Death:
    """One process that dies, and the jobs that were before it."""

    stack: Stack
    place: str
    alone: bool = False
    queue: str = "default"
    jobs: list[str] = field(default_factory=list)
    effects: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        return f"{self.place}{', its child alone' if self.alone else ''}"

    @property
    def proof(self) -> Path:
        return self.stack.bench.folder / f"{self.name}.proof"

    @property
    def environment(self) -> dict[str, str]:
        alone = {"DIE_ALONE": "1"} if self.alone else {}
        return {"DIE_AT": self.place, "DIE_PROOF": str(self.proof), **alone}

    def submit(self) -> None:
        """A chord, a plain job that leaves every kind of effect, and jobs that leave none."""
        here = {"queue": self.queue}
        header = [everything.s(f"{self.name} {n}").set(**here) for n in range(2)]
        joined = chord(header)(body.s(key=self.name).set(**here))
        plain = everything.apply_async((f"{self.name} plain",), **here)
        empty = [nothing.apply_async((n,), **here) for n in range(2)]
        self.jobs += [joined.id, *(member.id for member in joined.parent), plain.id, *(each.id for each in empty)]
        self.effects += [*effects_of_chord(self.name, 2), *effects_of_everything(f"{self.name} plain")]

    def hit(self) -> list[str]:
        """The jobs that were at that place when somebody died there; none: nobody has."""
        with suppress(FileNotFoundError, ValueError):
            jobs: list[str] = json.loads(self.proof.read_text())["jobs"]
            return jobs
        return []


def die_sending(death: Death) -> None:
    """A beat is killed between the broker and the table."""
    death.submit()
    launch_beat(death.stack, death.place, **death.environment).popen.wait(60)


def die_committed(death: Death) -> None:
    """A web process is killed when it has committed a request's job and has told nobody."""
    web = Web(death.stack, make_token(death.stack), **death.environment).wait_until_ready()
    with suppress(OSError, HTTPException):
        web.submit("faults.everything", [death.name])
    web.popen.wait(60)
    (job,) = [job for job in death.stack.bench.jobs() if job.args == f'["{death.name}"]']
    death.jobs.append(job.id)
    death.effects += effects_of_everything(death.name)


@pytest.fixture(scope="module", params=STACKS)
def deaths(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Death]]:
    for stack in make_stack(request, tmp_path_factory.mktemp("boundaries")):
        make_current(stack.bench.app)
        yield {death.name: death for death in die_everywhere(stack)}


def die_everywhere(stack: Stack) -> list[Death]:
    # What is submitted here leaves by the processes that are to die, not by ours.
    stack.celery.relay = Nudges()
    senders = [Death(stack, place) for place in SENDERS]
    for death in senders:
        die_sending(death)
    committed = Death(stack, "after commit")
    die_committed(committed)

    workers = [Death(stack, place, queue=f"at.{n}") for n, place in enumerate(WORKERS)]
    workers += [Death(stack, place, alone=True, queue=f"alone.{n}") for n, place in enumerate(CHILDREN)]
    with ThreadPoolExecutor(4) as four:
        list(four.map(lambda death: stack.start_worker(1, [death.queue], **death.environment), workers))
    for death in workers:
        death.submit()
    stack.start_beat()
    wait_until(lambda: all(death.hit() for death in workers), 90, "everybody has died")
    stack.start_worker(2, ["default", *(death.queue for death in workers)])
    return [*senders, committed, *workers]


NAMES = [*PLACES, *(f"{place}, its child alone" for place in CHILDREN)]
#: Between the claim's COMMIT and the settlement's, a death costs the attempt: the lease, or the child's parent, tells.
COSTLY = ("claimed", "acknowledged", "effect written", "recorded, before COMMIT", "settled, before COMMIT")


@pytest.mark.parametrize("name", NAMES)
def test_a_process_killed_at_any_step_loses_and_doubles_nothing(
    deaths: dict[str, Death], ledger: Ledger, name: str
) -> None:
    death = deaths[name]
    assert death.hit(), f"nobody died {name}"

    ledger.reckon(death.stack, f"kill -9: {name}", death.jobs, death.effects, 120)

    hit = death.jobs if name == "after commit" else death.hit()
    jobs = [death.stack.bench.job(job_id) for job_id in hit]
    assert {(job.crashes, job.attempt) for job in jobs} == {(1, 2) if death.place in COSTLY else (0, 1)}
