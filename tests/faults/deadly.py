"""One deadly place in a process: the first time it gets there, it proves that and is gone, as by `kill -9`.

The product has no hooks for this: the function at the place is wrapped, in the test's process only. The proof is
a file that names the jobs at hand, synced before the end; once it is there, whoever comes next passes unharmed.
"""

import json
import os
import signal
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import wraps
from pathlib import Path
from typing import Any, NamedTuple

from flaskapp.broker import outbox
from flaskapp.broker.outbox import Relay
from flaskapp.broker.publisher import Publisher
from flaskapp.jobs import lifecycle
from flaskapp.worker.attempt import RunningAttempt, current_attempt
from flaskapp.worker.recording import Recording
from flaskapp.worker.slots import Slots


class Place(NamedTuple):
    """Just before or just after a function is called for some jobs; `jobs` tells which, from its arguments."""

    owner: Any
    function: str
    is_after: bool
    jobs: Callable[..., list[str]]


def before(owner: Any, function: str, jobs: Callable[..., list[str]]) -> Place:
    return Place(owner, function, False, jobs)


def after(owner: Any, function: str, jobs: Callable[..., list[str]]) -> Place:
    return Place(owner, function, True, jobs)


def _running() -> list[str]:
    attempt = current_attempt()
    return [attempt.claimed.job_id] if attempt is not None else []


PLACES: dict[str, Place] = {
    # In whoever commits a wish, or relays it.
    "after commit": before(Relay, "nudge", lambda relay: ["unknown here"]),
    "sent": after(Publisher, "_send", lambda publisher, producer, job: [job.id]),
    "confirmed": before(lifecycle, "mark_queued", lambda session, sender, ids: ids),
    # In the worker's parent.
    "delivered": before(lifecycle, "claim", lambda session, hints, worker: [hint.job_id for hint in hints]),
    "claimed": before(Recording, "_take_over", lambda _, offers, buried: [each.id for each in offers if each.claimed]),
    "acknowledged": before(Slots, "_hand_over", lambda slots, request: [request.id]),
    "recorded, before COMMIT": after(
        lifecycle, "settle", lambda session, outcomes: [] if _running() else [each.claimed.job_id for each in outcomes]
    ),
    "recorded, after COMMIT": before(Recording, "_forget", lambda _, outcomes, settled: sorted(settled)),
    # In a child of its pool.
    "effect written": before(RunningAttempt, "succeed", lambda attempt, result: _running()),
    "settled, before COMMIT": after(lifecycle, "settle", lambda session, outcomes: _running()),
    "settled, after COMMIT": after(RunningAttempt, "_commit_with", lambda attempt, outcome: _running()),
}

#: In a beat's turn.
TICKS: dict[str, Place] = {
    "a schedule fired, before COMMIT": after(
        lifecycle, "submit", lambda session, wishes: [wish.schedule for wish in wishes if wish.schedule]
    ),
    "a lease rescued, before COMMIT": after(lifecycle, "rescue", lambda session, workers: list(workers)),
}


def arm(environment: Mapping[str, str]) -> None:
    """Make the place that DIE_AT names deadly: for the whole process group or, with DIE_ALONE, the process only."""
    if name := environment.get("DIE_AT"):
        # What the dead had reserved is free again soon, so that the test need not wait for it.
        outbox.SENDING_SECONDS = 5
        place, proof, alone = (PLACES | TICKS)[name], Path(environment["DIE_PROOF"]), bool(environment.get("DIE_ALONE"))
        setattr(place.owner, place.function, _deadly(place, lambda jobs: die(jobs, proof, alone)))


def _deadly(place: Place, die: Callable[[list[str]], None]) -> Callable[..., Any]:
    function = getattr(place.owner, place.function)

    @wraps(function)
    def wrapper(*args: Any) -> Any:
        answer = function(*args) if place.is_after else None
        if jobs := place.jobs(*args):
            die(jobs)
        return answer if place.is_after else function(*args)

    return wrapper


def die(jobs: list[str], proof: Path, alone: bool) -> None:
    """The end, unless somebody died here before."""
    with suppress(FileExistsError):
        file = os.open(proof, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_SYNC)
        os.write(file, json.dumps({"pid": os.getpid(), "jobs": jobs}).encode())
        if alone:
            os.kill(os.getpid(), signal.SIGKILL)
        os.killpg(os.getpgid(0), signal.SIGKILL)
