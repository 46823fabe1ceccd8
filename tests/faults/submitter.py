"""A process that submits its share of a storm's requests, at an even pace: SEED NUMBER FIRST STEP SECONDS.

It may be killed and started again at any moment: it goes on with the first request that has no witness.
"""

import sys
import time

from sqlalchemy import select
from sqlalchemy.exc import DBAPIError

import tests.faults.tasks  # noqa: F401 -- importing registers them
from flaskapp import create_app
from flaskapp.diagnostics.models import Effect
from flaskapp.extensions import db
from flaskapp.jobs import lifecycle
from tests.faults import plan


def main(seed: int, number: int, first: int, step: int, seconds: float) -> None:
    with create_app().app_context():
        requests = range(first, number, step)
        end = time.monotonic() + seconds * (len(left := missing(seed, requests)) / len(requests))
        for done, n in enumerate(left):
            submit(seed, n)
            # The later it is, the shorter the rest: what a fault held up is made good.
            time.sleep(max(0.0, (end - time.monotonic()) / (len(left) - done)))


def missing(seed: int, requests: range) -> list[int]:
    keys = set(patiently(lambda: list(db.session.scalars(select(Effect.key).where(Effect.key.like("% asked"))))))
    return [n for n in requests if plan.witness_of(plan.key_of(seed, n)) not in keys]


def submit(seed: int, n: int) -> None:
    def ask_once() -> None:
        # After an error: the commit may have gone through, and only its answer was lost.
        witness = plan.witness_of(plan.key_of(seed, n))
        if db.session.scalar(select(Effect.id).where(Effect.key == witness)) is None:
            plan.ask(seed, n)
        db.session.commit()

    patiently(ask_once)
    if n > 20 and plan.kind_of(seed, n - 20) == "cancelled":
        patiently(lambda: cancel(plan.key_of(seed, n - 20)))


def cancel(job_id: str) -> None:
    lifecycle.cancel(db.session(), job_id, by="the storm")
    db.session.commit()


def patiently(do):  # type: ignore[no-untyped-def]
    """Until the database takes it."""
    while True:
        try:
            return do()
        except DBAPIError:
            db.session.remove()
            time.sleep(0.2)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:5]), float(sys.argv[5]))
