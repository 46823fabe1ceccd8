"""What a storm submits: request number n of a seed is always of the same kind, and leaves the same effects.

With each request a row is written in the same transaction: who finds it knows that the jobs were accepted.
"""

import random
from collections.abc import Callable

from celery import chord

from flaskapp.diagnostics.models import Effect
from flaskapp.extensions import db
from tests.faults.tasks import (
    body,
    child,
    effects_of_chord,
    effects_of_everything,
    everything,
    nothing,
    slow,
    stubborn,
)

MEMBERS = 3


def _chord(key: str) -> None:
    chord([everything.s(f"{key} {n}") for n in range(MEMBERS)])(body.s(key=key))


#: kind → (its share, how it is submitted, the effects that must be there once)
KINDS: dict[str, tuple[int, Callable[[str], object], Callable[[str], list[str]]]] = {
    "by ORM and Core, with a child": (25, lambda key: everything.delay(key), effects_of_everything),
    "by Core": (25, lambda key: child.delay(key), lambda key: [f"{key} child core"]),
    "writes nothing": (25, lambda key: nothing.delay(key), lambda key: []),
    "retried twice": (10, lambda key: stubborn.delay(key, 2), lambda key: [f"{key} core"]),
    "slow": (7, lambda key: slow.delay(key, 0.5), lambda key: [f"{key} core"]),
    "chord": (3, _chord, lambda key: effects_of_chord(key, MEMBERS)),
    # Its number follows from its key, so that whoever submitted it can cancel it a moment later.
    "cancelled": (
        5,
        lambda key: slow.apply_async((key, 0.5), task_id=key, countdown=0.5),
        lambda key: [f"{key} core"],
    ),
}


def kind_of(seed: int, number: int) -> str:
    shares = [share for share, _, _ in KINDS.values()]
    return random.Random(f"{seed} {number}").choices(list(KINDS), shares)[0]


def key_of(seed: int, number: int) -> str:
    return f"storm {seed} {number}"


def witness_of(key: str) -> str:
    return f"{key} asked"


def ask(seed: int, number: int) -> None:
    """Submit request `number` in `db.session`, together with its witness; the caller commits."""
    key = key_of(seed, number)
    KINDS[kind_of(seed, number)][1](key)
    db.session.add(Effect(key=witness_of(key), job_id="", attempt=0))


def effects_of(seed: int, number: int) -> list[str]:
    return KINDS[kind_of(seed, number)][2](key_of(seed, number))
