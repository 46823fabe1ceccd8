"""A canvas call is one transaction, inside an application context and outside one."""

from typing import Any

import pytest
from celery import chain, chord, group
from sqlalchemy import event, select

from flaskapp.errors import BadArguments
from flaskapp.extensions import db
from flaskapp.jobs.models import Job, Join
from tests.helpers import Bench
from tests.tasks_for_tests import add, fate

CANVASES = {
    "a group": lambda: group(add.si(n) for n in range(3)),
    "a chord": lambda: chord([add.si(n) for n in range(3)], add.s()),
    "a chord of chords": lambda: chord([chord([add.si(1), add.si(2)], add.s()), add.si(3)], add.s()),
    "a chain": lambda: chain(add.si(1), add.s(2)),
    "a chain that begins with a group": lambda: group(add.si(1), add.si(2)) | add.s() | add.s(1),
    "chunks": lambda: add.chunks([(1, 2), (3, 4), (5, 6)], 2),
}


@pytest.fixture
def commits(bench: Bench) -> Any:
    """How many transactions the application has committed."""
    counted: list[object] = []
    with bench.app.app_context():
        engine = db.engine
    listener = lambda _connection: counted.append(1)  # noqa: E731
    event.listen(engine, "commit", listener)
    yield counted
    event.remove(engine, "commit", listener)


@pytest.mark.parametrize("kind", CANVASES)
def test_a_canvas_call_outside_a_context_is_one_commit_and_one_nudge(
    bench: Bench, commits: list[object], kind: str
) -> None:
    CANVASES[kind]().apply_async()

    assert (len(commits), bench.celery.relay.count) == (1, 1)
    assert bench.jobs() != []


@pytest.mark.parametrize("kind", CANVASES)
def test_a_canvas_call_inside_a_context_waits_for_the_callers_commit(bench: Bench, kind: str) -> None:
    with bench.app.app_context():
        CANVASES[kind]().apply_async()
        assert bench.jobs() == []
        db.session.rollback()
    assert bench.jobs() == []

    with bench.app.app_context():
        CANVASES[kind]().apply_async()
        db.session.commit()
    assert bench.jobs() != []
    assert bench.celery.relay.count == 1


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize("shape", [group, lambda *tasks: chord(tasks, add.s())])
def test_a_call_with_one_wrong_member_writes_nothing(bench: Bench, shape: Any, inside: bool) -> None:
    canvas = shape(add.si(1), add.si(object()), add.si(2))
    if inside:
        with bench.app.app_context():
            with pytest.raises(BadArguments):
                canvas.apply_async()
            # Whoever catches it may go on with the session.
            fate.delay("ok")
            db.session.commit()
    else:
        with pytest.raises(BadArguments):
            canvas.apply_async()

    with bench.session() as session:
        assert session.scalars(select(Join)).all() == []
        assert [job.task for job in session.scalars(select(Job))] == ["tests.fate"] * inside
    assert bench.account().drift == 0


def test_a_canvas_called_by_a_task_is_rolled_back_with_it(bench: Bench) -> None:
    job_id = bench.fate("submit_chord_then_fail")
    bench.run()

    assert [job.id for job in bench.jobs()] == [job_id]
    with bench.session() as session:
        assert session.scalars(select(Join)).all() == []


def test_a_group_of_a_thousand_is_written_in_a_few_statements(bench: Bench) -> None:
    statements: list[str] = []
    with bench.app.app_context():
        engine = db.engine

        def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
            statements.append(statement)

        event.listen(engine, "before_cursor_execute", note)
        group(add.si(n) for n in range(1000)).apply_async()
        db.session.commit()
        event.remove(engine, "before_cursor_execute", note)

    assert len(bench.jobs()) == 1000
    assert len([text for text in statements if text.startswith("INSERT INTO job ")]) <= 2
    assert len(statements) < 20


def test_the_same_chord_sent_twice_counts_once(bench: Bench) -> None:
    canvas = chord([add.si(1), add.si(2)], add.s())
    canvas.freeze()
    first, second = canvas.apply_async(), canvas.apply_async()
    bench.run()

    assert first.get(timeout=1) == second.get(timeout=1) == 3
    assert bench.account().drift == 0


def test_a_chords_member_cannot_be_unique(bench: Bench) -> None:
    """Answered with a job that is there already, its own id would never have a row."""
    with pytest.raises(BadArguments, match="unique_key"):
        chord([add.si(1).set(unique_key="k"), add.si(2)])(add.s())
    assert bench.jobs() == []


def test_a_groups_member_may_be_unique(bench: Bench) -> None:
    fate.apply_async(("ok",), unique_key="k")
    group(add.si(1).set(unique_key="k"), add.si(2)).apply_async()

    assert sorted(job.task for job in bench.jobs()) == ["tests.add", "tests.fate"]
