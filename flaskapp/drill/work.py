"""What a drill submits, and which effects must come of it: each key exactly once.

Quick jobs meet a kill while they are claimed or committed, slow ones in mid-run; retries, children, chains and chords
must come through it too. Another kind is one more line in KINDS.
"""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import cycle
from typing import Any

from celery import chain, chord
from flask import Flask

from flaskapp.diagnostics.tasks import effect, fail
from flaskapp.drill.tasks import step
from flaskapp.extensions import db
from flaskapp.worker.sessions import uncommitted_jobs

OWNER = "verify"


@dataclass(frozen=True)
class Kind:
    name: str
    #: Of eleven submissions, how many are of this kind.
    share: int
    #: What is submitted under a key.
    signature: Callable[[str], Any]
    #: The keys that must have exactly one effect in the end; a follower's key begins with that of its origin.
    keys: Callable[[str], list[str]]
    #: How many jobs come of it.
    jobs: int = 1


def _slow(key: str) -> Any:
    return step.si(key, before=random.uniform(0.1, 0.6), after=0.02)  # noqa: S311 -- a pause, not a secret


# Asked for when they are needed: a shared task belongs to the application that is current then.
KINDS = (
    Kind("effect", 5, lambda key: effect.si(key), lambda key: [key]),
    Kind("slow effect", 2, _slow, lambda key: [key]),
    Kind("two failures, then success", 1, lambda key: fail.si(2), lambda key: []),
    Kind(
        "effect with three children",
        1,
        lambda key: step.si(key, before=0.1, children=3),
        lambda key: [key, *(f"{key}/{number}" for number in range(3))],
        jobs=4,
    ),
    Kind(
        "chain of two effects",
        1,
        lambda key: chain(effect.si(key), effect.si(f"{key}/next")),
        lambda key: [key, f"{key}/next"],
        jobs=2,
    ),
    Kind(
        "chord of three effects",
        1,
        lambda key: chord([effect.si(f"{key}/{number}") for number in range(3)], effect.si(f"{key}/body")),
        lambda key: [*(f"{key}/{number}" for number in range(3)), f"{key}/body"],
        jobs=4,
    ),
)


@dataclass(frozen=True)
class Sent:
    kind: str
    key: str


@dataclass
class Work:
    """Everything that one drill has submitted to its queue."""

    app: Flask
    queue: str
    expire_after: float
    #: Job id → what it is; children and later steps follow by themselves.
    accepted: dict[str, Sent] = field(default_factory=dict)
    #: The keys of which exactly one effect must stand in the end → the name of the kind.
    expected: dict[str, str] = field(default_factory=dict)
    #: How many jobs all of it becomes.
    jobs: int = 0
    _kinds: Iterator[Kind] = field(default_factory=lambda: cycle(_shuffled()))
    _number: int = 0

    def submit(self, jobs: int) -> None:
        """Submit about so many more, in one transaction; jobs that they submit themselves count."""
        wanted = self.jobs + jobs
        with self.app.app_context():
            accepted: dict[str, Sent] = {}
            expected: dict[str, str] = {}
            while self.jobs < wanted:
                kind = next(self._kinds)
                self._number += 1
                key = f"{self.queue}/{self._number}"
                accepted |= dict.fromkeys(self._send(kind.signature(key)), Sent(kind.name, key))
                expected |= dict.fromkeys(kind.keys(key), kind.name)
                self.jobs += kind.jobs
            db.session.commit()
        self.accepted |= accepted
        self.expected |= expected

    def kind_of(self, job_id: str, key: str) -> str:
        """The kind of a job, by its id or by the effect that it is to write."""
        return self.accepted[job_id].kind if job_id in self.accepted else self.expected.get(key, "")

    def _send(self, signature: Any) -> list[str]:
        """Answers the ids of the jobs that it became at once."""
        for each in _parts(signature):
            # Should the drill die, its jobs end by themselves.
            each.set(queue=self.queue, owner=OWNER, expires=self.expire_after)
        before = len(uncommitted_jobs())
        signature.apply_async()
        return uncommitted_jobs()[before:]


def _parts(signature: Any) -> list[Any]:
    """The single tasks of a workflow, a chord's body included."""
    if (tasks := getattr(signature, "tasks", None)) is None:
        return [signature]
    body = getattr(signature, "body", None)
    return [*getattr(tasks, "tasks", tasks), *([] if body is None else [body])]


def _shuffled() -> list[Kind]:
    """One of each kind in turn, the slow ones spread among the quick."""
    kinds = [(index / kind.share, kind) for kind in KINDS for index in range(kind.share)]
    return [kind for _, kind in sorted(kinds, key=lambda each: each[0])]
