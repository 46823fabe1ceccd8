"""Chains, groups and chords on the job table, in every nesting: what each step gets, and what AsyncResult answers."""

from datetime import timedelta
from typing import Any

import pytest
from celery import chain, chord, group
from celery.exceptions import ChordError, TimeoutError
from celery.result import GroupResult
from sqlalchemy import event, select

from flaskapp.diagnostics.models import Effect
from flaskapp.diagnostics.tasks import echo, effect
from flaskapp.errors import UncommittedJobs
from flaskapp.jobs.models import JobState, Join
from flaskapp.worker.testing import run_due_jobs
from tests.helpers import Bench
from tests.tasks_for_tests import add, fate, note_error, note_failed_id

W, S, F, C = JobState.WAITING, JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED


def joins(bench: Bench) -> list[Join]:
    with bench.session() as session:
        return list(session.scalars(select(Join).order_by(Join.number)))


def runs_well(bench: Bench, result: Any) -> Any:
    """Everything runs, each job once, every join is done, no task polled, and the books balance."""
    bench.run()
    value = result.get(timeout=1)
    jobs = bench.jobs()
    assert {(job.state, job.attempt) for job in jobs} == {(S, 1)}
    assert all(join.missing == 0 and join.finished_at is not None and join.broken_by is None for join in joins(bench))
    assert not [job for job in jobs if job.task.startswith("celery.chord")]
    assert bench.account().drift == 0
    return value


# --- chords -----------------------------------------------------------------------------------------------


def test_a_chords_body_gets_the_results_in_the_headers_order(bench: Bench) -> None:
    assert runs_well(bench, chord([add.si(n, 1) for n in range(4)])(echo.s())) == [1, 2, 3, 4]


def test_the_order_is_the_headers_not_the_ends(bench: Bench) -> None:
    header = [add.si(n, 0).set(priority=n) for n in range(5)]
    result = chord(header)(echo.s())
    ids = [member.id for member in result.parent]
    body = bench.job(result.id)
    assert body.args == f'["results of {result.parent.id}"]'

    ran = bench.run()

    assert ran == [*reversed(ids), result.id]
    assert result.get(timeout=1) == [0, 1, 2, 3, 4]


def test_a_bodys_own_arguments_come_after_the_results(bench: Bench) -> None:
    assert runs_well(bench, chord([add.si(1), add.si(2)])(add.s(100))) == 103


def test_an_immutable_body_gets_no_results(bench: Bench) -> None:
    assert runs_well(bench, chord([add.si(1), add.si(2)])(fate.si("ok", "mine"))) == "mine"


def test_an_empty_header_runs_the_body_with_nothing(bench: Bench) -> None:
    assert runs_well(bench, chord([])(add.s(7))) == 7


def test_a_chord_in_a_chain(bench: Bench) -> None:
    result = chain(add.s(1, 1), chord([add.s(10), add.s(20)], add.s()), add.s(1000))()

    assert runs_well(bench, result) == 1034


def test_a_group_in_a_chain_is_a_chord(bench: Bench) -> None:
    assert runs_well(bench, (add.s(1, 1) | group(add.s(10), add.s(20)) | add.s(1000))()) == 1034


def test_a_group_at_the_end_of_a_chain(bench: Bench) -> None:
    result = (add.s(1, 1) | group(add.s(10), add.s(20)))()

    assert runs_well(bench, result) == [12, 22]


def test_a_chain_in_a_chord(bench: Bench) -> None:
    assert runs_well(bench, chord([chain(add.s(1, 1), add.s(10)), add.s(5)])(add.s())) == 17


def test_a_chord_of_chords(bench: Bench) -> None:
    inner = [chord([add.si(n, 1), add.si(n, 2)], add.s()) for n in (10, 20)]

    assert runs_well(bench, chord(inner)(add.s())) == 23 + 43


def test_chords_three_deep(bench: Bench) -> None:
    one = chord([add.si(1), add.si(2)], add.s())
    two = chord([one, add.si(10)], add.s())

    assert runs_well(bench, chord([two, add.si(100), chain(add.si(1), one)])(add.s())) == 116


def test_two_chords_one_after_the_other(bench: Bench) -> None:
    canvas = group(add.s(1), add.s(2)) | add.s() | group(add.s(10), add.s(20)) | add.s()

    assert runs_well(bench, canvas()) == 36


def test_a_chain_as_body(bench: Bench) -> None:
    assert runs_well(bench, chord([add.si(1), add.si(2)])(chain(add.s(), add.s(10), add.s(100)))) == 113


def test_a_group_as_body(bench: Bench) -> None:
    result = chord([add.si(1), add.si(2)])(group(add.s(10), add.s(20)))

    assert runs_well(bench, result) == [13, 23]


def test_a_chord_as_body(bench: Bench) -> None:
    result = chord([add.si(1), add.si(2)])(chord([add.s(10), add.s(20)], add.s()))

    assert runs_well(bench, result) == 36


def test_a_group_in_a_header_gives_a_list_of_its_own(bench: Bench) -> None:
    member = chain(add.si(1), group(add.s(10), add.s(20)))

    assert runs_well(bench, chord([member, add.si(5)])(echo.s())) == [[11, 21], 5]


def test_a_chord_in_a_group_in_a_chain_in_a_header_counts(bench: Bench) -> None:
    """Celery loses its word that this is a member."""
    member = chain(group([chord([add.si(71)], add.si(15)), add.si(3)]))

    assert runs_well(bench, chain(add.si(1), chord([member, add.s(7)], echo.s()))()) == [[15, 3], 8]


def test_a_link_of_the_body_runs_after_it(bench: Bench) -> None:
    result = chord([add.si(1), add.si(2)])(add.s().set(link=[add.s(100)]))
    bench.run()

    assert sorted(job.result for job in bench.jobs() if job.parent_id == result.id) == ["103"]


def test_a_body_with_a_countdown_counts_from_when_it_could_run(bench: Bench) -> None:
    result = chord([add.si(1)])(add.s().set(countdown=600, expires=1200))
    assert bench.job(result.id).expires_at is None
    bench.run()

    body = bench.job(result.id)
    assert (body.state, body.is_parked) == (W, False)
    assert 590 < (body.run_at - bench.clock()).total_seconds() < 601
    assert 1190 < (body.expires_at - bench.clock()).total_seconds() < 1201


def test_a_body_for_a_certain_time_waits_for_it(bench: Bench) -> None:
    when = bench.clock() + timedelta(hours=1)
    result = chord([add.si(1)])(add.s().set(eta=when))
    bench.run()

    assert (bench.job(result.id).run_at, bench.job(result.id).is_parked) == (when, False)


def test_results_of_every_kind_reach_the_body_as_they_are(bench: Bench) -> None:
    values = [None, 'ü\n"quoted"', 1.5, {"a": [1, None]}, [], True]

    assert runs_well(bench, chord([fate.si("ok", value) for value in values])(echo.s())) == values


# --- what a workflow looks like from outside --------------------------------------------------------------


def test_every_row_of_a_call_is_in_the_tree_of_its_first_job(bench: Bench) -> None:
    result = chord([chain(add.si(1), add.s(1)), add.si(2)])(add.s())
    bench.run()

    roots = {job.root_id or job.id for job in bench.jobs()}
    assert len(roots) == 1
    assert bench.job(roots.pop()).root_id is None
    assert result.get(timeout=1) == 4


def test_the_body_is_a_child_of_the_member_that_made_it_due(bench: Bench) -> None:
    result = chord([add.si(1).set(priority=1), add.si(2)])(add.s())
    bench.run()

    last = result.parent.results[1]
    assert bench.job(result.id).parent_id == last.id
    assert [child.id for child in last.children] == [result.id]
    assert {str(node) for node in last.graph} == {last.id, result.id}


def test_a_nested_groups_result_answers_as_a_whole(bench: Bench) -> None:
    result = group(add.si(1), group(add.si(2), add.si(3)))()
    assert isinstance(result, GroupResult)
    assert (result.ready(), result.successful(), result.failed()) == (False, False, False)
    bench.run()

    assert (result.ready(), result.successful(), result.failed()) == (True, True, False)
    assert result.get(timeout=1) == [1, 2, 3]
    assert result.completed_count() == 3


def test_a_groups_results_are_read_together(bench: Bench) -> None:
    result = group(fate.si("ok", n) for n in range(20))()
    bench.run()
    asked: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        asked.append(statement)

    engine = bench.celery.backend._engine.get()
    event.listen(engine, "before_cursor_execute", note)
    assert result.get(timeout=1) == list(range(20))
    event.remove(engine, "before_cursor_execute", note)

    assert len(asked) == 1


def test_a_group_is_waited_for_until_its_time_is_over(bench: Bench) -> None:
    result = group(add.si(1), fate.si("fail", "boom"), add.si(2).set(countdown=600))()
    bench.run()

    with pytest.raises(ValueError, match="boom"):
        result.get(timeout=1)
    with pytest.raises(TimeoutError):
        result.get(timeout=0.1, propagate=False)


def test_a_group_that_is_not_committed_is_not_waited_for(bench: Bench) -> None:
    with bench.app.app_context():
        result = group(add.si(1), add.si(2))()
        with pytest.raises(UncommittedJobs):
            result.get(timeout=5)


def test_a_saved_group_is_restored_by_its_id(bench: Bench) -> None:
    result = group(add.si(1), group(add.si(2), add.si(3)))()
    result.save()
    bench.run()

    restored = GroupResult.restore(result.id, app=bench.celery)
    assert restored.get(timeout=1) == [1, 2, 3]
    restored.delete()
    assert GroupResult.restore(result.id, app=bench.celery) is None


def test_a_chords_header_is_restored_without_being_saved(bench: Bench) -> None:
    result = chord([add.si(1), chain(add.si(2), group(add.s(3), add.s(4)))])(echo.s())
    restored = GroupResult.restore(result.parent.id, app=bench.celery)
    restored.delete()

    assert runs_well(bench, result) == [1, [5, 6]]
    assert restored.get(timeout=1) == [1, [5, 6]]


def test_revoking_a_group_cancels_each_of_its_jobs(bench: Bench) -> None:
    result = group(add.si(1), group(add.si(2), add.si(3)))()
    result.revoke()

    assert {job.state for job in bench.jobs()} == {C}
    assert bench.run() == []


def test_revoking_a_chords_header_fails_its_body(bench: Bench) -> None:
    result = chord([add.si(1), add.si(2)])(add.s())
    result.parent.revoke(terminate=True)

    assert bench.state(result.id) == F


def test_chunks_give_a_list_for_each_chunk(bench: Bench) -> None:
    result = add.chunks(zip(range(7), range(7), strict=True), 3)()

    assert runs_well(bench, result) == [[0, 2, 4], [6, 8, 10], [12]]


def test_effects_of_a_chunk_belong_to_the_job_that_runs_it(bench: Bench) -> None:
    result = effect.chunks([("a",), ("b",), ("c",)], 2)()

    assert runs_well(bench, result) == [["a", "b"], ["c"]]
    assert [bench.effects(key)[0].job_id for key in "abc"] == [result[0].id, result[0].id, result[1].id]


def test_chunks_as_a_chords_header(bench: Bench) -> None:
    header = add.chunks(zip(range(7), range(7), strict=True), 3).group()

    assert runs_well(bench, (header | echo.s())()) == [[0, 2, 4], [6, 8, 10], [12]]


def test_a_chord_of_a_thousand_members(bench: Bench) -> None:
    result = chord(add.si(n) for n in range(1000))(add.s())
    with bench.app.app_context():
        run_due_jobs(limit=1001)

    assert result.get(timeout=1) == sum(range(1000))
    (join,) = joins(bench)
    assert (join.total, join.missing) == (1000, 0)


# --- retried and replaced members -------------------------------------------------------------------------


def test_a_retried_member_counts_once(bench: Bench) -> None:
    result = chord([fate.si("retry", 2), add.si(1)])(add.s())
    bench.run()

    assert result.get(timeout=1) == 3
    assert joins(bench)[0].missing == 0


@pytest.mark.parametrize("way", ["replace_by_add", "replace_by_chain", "replace_by_group", "replace_by_chord"])
def test_a_replaced_member_counts_with_what_replaced_it(bench: Bench, way: str) -> None:
    result = chord([fate.si(way, 5), add.si(1)])(echo.s())
    bench.run()

    value = {"replace_by_add": 5, "replace_by_chain": 6, "replace_by_group": [5, 6], "replace_by_chord": 11}[way]
    assert result.get(timeout=1) == [value, 1]
    assert result.parent.get(timeout=1) == [value, 1]
    assert bench.account().drift == 0


def test_a_replaced_step_of_a_chain_hands_on_what_replaced_it(bench: Bench) -> None:
    assert runs_replaced(bench, "replace_by_chord") == 111
    assert runs_replaced(bench, "replace_by_chain") == 106


def runs_replaced(bench: Bench, way: str) -> Any:
    result = chain(fate.si(way, 5), add.s(100))()
    bench.run()
    return result.get(timeout=1)


def test_a_member_may_add_another(bench: Bench) -> None:
    result = chord([fate.si("add_to_chord", 7), add.si(1)])(echo.s())
    bench.run()

    assert result.get(timeout=1) == [7, 1, 7]
    assert [(join.total, join.missing) for join in joins(bench)] == [(3, 0)]


# --- failures ---------------------------------------------------------------------------------------------


def test_a_failed_member_fails_the_body_which_names_it(bench: Bench) -> None:
    result = chord([fate.si("fail", "boom"), add.si(1)])(add.s())
    failed = result.parent.results[0].id
    bench.run()

    with pytest.raises(ChordError, match=f"Dependency {failed} raised ValueError.*boom"):
        bench.celery.AsyncResult(result.id).get(timeout=1)
    assert bench.state(result.id) == F
    assert bench.account().drift == 0


def test_a_body_that_failed_before_it_ran_does_not_run_when_the_rest_succeeds(bench: Bench) -> None:
    result = chord([fate.si("fail").set(priority=1), add.si(1)])(fate.si("write_then_ok", "body"))
    bench.run()

    assert bench.effects("body") == []
    assert (bench.state(result.id), bench.job(result.id).attempt) == (F, 0)


def test_a_failure_travels_through_chords_and_chains(bench: Bench) -> None:
    inner = chord([chain(fate.si("fail", "deep"), add.s(1)), add.si(2)], add.s())
    result = chain(add.si(0), chord([inner, add.si(3)], add.s()), add.s(1), add.s(2))()
    bench.run()

    with pytest.raises(ChordError, match="deep"):
        result.get(timeout=1)
    waiting = [job for job in bench.jobs() if job.state not in (S, F)]
    assert waiting == []
    assert {join.broken_by for join in joins(bench)} == {job.id for job in bench.jobs() if job.error_message == "deep"}


def test_a_chain_that_ends_in_a_group_fails_each_of_its_results(bench: Bench) -> None:
    result = chain(fate.si("fail", "first"), group(add.s(1), add.s(2)))()
    bench.run()

    for one in result:
        with pytest.raises(ValueError, match="first"):
            one.get(timeout=1)


@pytest.mark.parametrize("kind", [note_error, note_failed_id])
def test_the_bodys_errback_is_called_once(bench: Bench, kind: Any) -> None:
    result = chord([fate.si("fail", "boom"), fate.si("fail", "too")])(add.s().on_error(kind.s()))
    bench.run()

    with bench.session() as session:
        assert list(session.scalars(select(Effect.job_id))) == [result.id]
