"""Workflows of every shape give what Celery's own eager run of them gives."""

import random
from typing import Any

import pytest
from celery import chain, chord, group

from flaskapp.jobs.models import JobState
from flaskapp.worker.testing import run_due_jobs
from tests.helpers import Bench
from tests.tasks_for_tests import total


def canvas(dice: random.Random, depth: int) -> Any:
    """Tasks, chains, groups and chords in each other, some of them immutable."""
    kind = dice.choice(["task", "chain", "group", "chord"]) if depth else "task"
    if kind == "task":
        number = dice.randrange(100)
        return total.si(number) if dice.random() < 0.2 else total.s(number)
    parts = [canvas(dice, depth - 1) for _ in range(dice.randint(1, 3))]
    if kind == "chain":
        return chain(*parts)
    if kind == "group":
        return group(parts)
    return chord(parts, canvas(dice, depth - 1))


@pytest.mark.parametrize("seed", range(40))
def test_a_random_workflow_gives_what_celery_gives(bench: Bench, seed: int) -> None:
    shape = chain(total.si(1), canvas(random.Random(seed), 3), total.s(1))
    expected = canvas_result(shape.clone())

    result = shape.apply_async()
    with bench.app.app_context():
        run_due_jobs(5000)

    assert result.get(timeout=1) == expected
    jobs = bench.jobs()
    assert {(job.state, job.attempt) for job in jobs} == {(JobState.SUCCEEDED, 1)}
    assert bench.account().drift == 0


def canvas_result(shape: Any) -> Any:
    return shape.apply().get()
