"""A chord that another Celery sent: its members' settlements lead to its body, here too without polling."""

from typing import Any
from uuid import uuid4

import pytest
from celery import group
from kombu.utils.json import dumps
from sqlalchemy import select

from flaskapp.diagnostics.tasks import echo
from flaskapp.jobs import lifecycle
from flaskapp.jobs.models import JobState, Join
from flaskapp.jobs.outcomes import Wish
from tests.helpers import Bench
from tests.tasks_for_tests import fate

S, F = JobState.SUCCEEDED, JobState.FAILED


class Strangers:
    """The messages of one foreign chord, as their rows are once a worker has claimed them."""

    def __init__(self, bench: Bench, *fates: tuple[Any, ...]) -> None:
        self.bench, self.fates = bench, fates
        self.group_id = str(uuid4())
        self.ids = [str(uuid4()) for _ in fates]
        self.body = echo.s().set(task_id=str(uuid4()))
        self.body_id = self.body.id

    def send_members(self) -> None:
        wishes = [
            Wish(
                "tests.fate",
                dumps(list(fate)),
                job_id=job_id,
                options=dumps({"headers": {"group": self.group_id}, "embed": {"chord": dict(self.body)}}),
                group_id=self.group_id,
                counts_for=self.group_id,
            )
            for job_id, fate in zip(self.ids, self.fates, strict=True)
        ]
        with self.bench.session() as session, session.begin():
            lifecycle.submit(session, wishes)

    def send_unlock(self) -> str:
        """What Celery's usual result backends send: who the members are, and what to do with their results."""
        result = [[[job_id, None], None] for job_id in self.ids]
        options = {"kwargs": {"result": result, "interval": None, "max_retries": None}, "countdown": 0}
        return str(self.bench.celery.send_task("celery.chord_unlock", (self.group_id, dict(self.body)), **options).id)


@pytest.mark.parametrize("first", ["members", "unlock"])
def test_a_foreign_chord_leads_to_its_body_whatever_comes_first(bench: Bench, first: str) -> None:
    chord = Strangers(bench, ("ok", 1), ("ok", 2))
    if first == "members":
        chord.send_members()
        bench.run()
        unlock = chord.send_unlock()
    else:
        unlock = chord.send_unlock()
        bench.run()
        chord.send_members()
    bench.run()

    body = bench.job(chord.body_id)
    assert (body.state, body.result, body.attempt) == (S, "[1, 2]", 1)
    # It polled not once.
    assert (bench.state(unlock), bench.job(unlock).attempt) == (S, 1)
    assert bench.account().drift == 0


def test_a_foreign_chord_whose_member_failed_before_fails_its_body(bench: Bench) -> None:
    chord = Strangers(bench, ("fail", "boom"), ("ok", 2))
    chord.send_members()
    bench.run()
    chord.send_unlock()
    bench.run()

    body = bench.job(chord.body_id)
    assert (body.state, body.error_type) == (F, "ChordError")
    assert chord.ids[0] in (body.error_message or "")


def test_a_chord_that_nobody_announced_leaves_its_members_alone(bench: Bench) -> None:
    """A stranger's Redis counts it; here nothing says how many members it has."""
    chord = Strangers(bench, ("ok", 1), ("ok", 2))
    chord.send_members()
    bench.run()

    assert {job.state for job in bench.jobs()} == {S}
    with bench.session() as session:
        assert session.scalars(select(Join)).all() == []


def test_our_own_chords_send_no_polling_task(bench: Bench) -> None:
    (group(fate.si("ok", 1), fate.si("ok", 2)) | echo.s())()
    bench.run()

    assert "celery.chord_unlock" not in {job.task for job in bench.jobs()}
