"""What pages ask: filters, keyset pages, the account that notices a missing row, and queue depths."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import delete, insert, update
from sqlalchemy.orm import Session

from flaskapp.jobs import lifecycle, queries
from flaskapp.jobs.clock import now, seconds_from_now
from flaskapp.jobs.models import Job, JobState, Queue, Worker
from flaskapp.jobs.outcomes import Error, Failed, Succeeded
from flaskapp.jobs.queries import Filter
from tests.makers import claim, failed, in_state, pass_seconds, queued, running, succeeded, waiting


def ids(page: queries.Page) -> list[str]:
    return [job.id for job in page.jobs]


# --- filters ----------------------------------------------------------------------------------------------


def test_no_filter_shows_everything_newest_first(session: Session) -> None:
    made = [waiting(session) for _ in range(3)]
    for age, job_id in zip((30, 20, 10), made, strict=True):
        pass_seconds(session, job_id, age, "created_at")

    assert ids(queries.jobs(session, Filter())) == made[::-1]


def test_a_list_may_show_some_states(session: Session) -> None:
    made = {state: in_state(session, state) for state in JobState}

    page = queries.jobs(session, Filter(states=["failed", "running"]))

    assert set(ids(page)) == {made[JobState.FAILED], made[JobState.RUNNING]}


def test_a_list_may_show_one_queue_task_or_owner(session: Session) -> None:
    mail = waiting(session, queue="mail")
    ada = waiting(session, owner="ada")
    session.execute(update(Job).where(Job.id == ada).values(task="other.task"))

    assert ids(queries.jobs(session, Filter(queue="mail"))) == [mail]
    assert ids(queries.jobs(session, Filter(task="other.task"))) == [ada]
    assert ids(queries.jobs(session, Filter(owner="ada"))) == [ada]
    assert ids(queries.jobs(session, Filter(owner="ada", queue="mail"))) == []


@pytest.mark.parametrize("text", ["header row", "tests.fa", "100%", "a_b"])
def test_a_text_is_found_in_task_and_error(session: Session, text: str) -> None:
    claimed = running(session)
    lifecycle.settle(session, [Failed(claimed, Error("E", "no header row in 100% of a_b"))])

    assert ids(queries.jobs(session, Filter(text=text))) == [claimed.job_id]


@pytest.mark.parametrize("text", ["%", "_", "a%b", "\\", "'; DROP TABLE job; --"])
def test_signs_in_a_text_are_only_signs(session: Session, text: str) -> None:
    failed(session)
    named = waiting(session, job_id="a-plain id")

    assert ids(queries.jobs(session, Filter(text=text))) == []
    assert ids(queries.jobs(session, Filter(text="a-plain"))) == [named]


def test_a_job_is_not_shown_to_another_owner(session: Session) -> None:
    job_id = waiting(session, owner="ada")

    assert queries.job_by_id(session, job_id, owner="bob") is None
    assert queries.job_by_id(session, job_id, owner="ada") is not None
    assert queries.job_by_id(session, job_id) is not None


# --- pages ------------------------------------------------------------------------------------------------


def all_pages(session: Session, limit: int) -> list[str]:
    seen: list[str] = []
    position = None
    while True:
        page = queries.jobs(session, Filter(), limit, position)
        seen += ids(page)
        position = page.older
        if position is None:
            return seen


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 50])
def test_pages_show_each_job_once_also_when_made_at_one_moment(session: Session, limit: int) -> None:
    made = [waiting(session) for _ in range(7)]
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    session.execute(update(Job).where(Job.id.in_(made[:5])).values(created_at=moment))
    later = moment + timedelta(microseconds=1)
    session.execute(update(Job).where(Job.id.in_(made[5:])).values(created_at=later))
    session.flush()

    assert all_pages(session, limit) == sorted(made[5:], reverse=True) + sorted(made[:5], reverse=True)


def test_a_job_that_arrives_meanwhile_does_not_shift_the_pages(session: Session) -> None:
    made = [waiting(session) for _ in range(4)]
    for age, job_id in zip((40, 30, 20, 10), made, strict=True):
        pass_seconds(session, job_id, age, "created_at")
    first = queries.jobs(session, Filter(), 2)
    waiting(session)

    second = queries.jobs(session, Filter(), 2, first.older)

    assert ids(first) + ids(second) == made[::-1]
    assert second.older is None


# --- counts -----------------------------------------------------------------------------------------------


def test_every_state_is_a_key_even_if_empty(session: Session) -> None:
    waiting(session)

    assert queries.count_by_state(session) == {state.value: int(state == "waiting") for state in JobState}
    assert set(queries.count_by_state(session, owner="nobody").values()) == {0}


def test_the_account_of_an_empty_table_balances(session: Session) -> None:
    account = queries.account(session)

    assert (account.accepted, account.pruned, account.drift) == (0, 0, 0)


def test_a_row_deleted_by_hand_shows_as_drift(session: Session) -> None:
    kept, lost = waiting(session), waiting(session)
    session.execute(delete(Job).where(Job.id == lost))

    account = queries.account(session)

    assert (account.accepted, account.drift, account.states["waiting"]) == (2, 1, 1)
    assert queries.job_by_id(session, kept) is not None


def test_a_row_inserted_by_hand_shows_as_drift_too(session: Session) -> None:
    session.execute(insert(Job).values(id="smuggled", task="x", queue="default"))

    assert queries.account(session).drift == -1


def test_queue_depths_count_live_jobs_by_state(session: Session) -> None:
    waiting(session), waiting(session, delay_seconds=60)
    queued(session)
    running(session)
    succeeded(session)
    running(session, queue="mail")
    session.execute(insert(Queue).values(name="query", paused_at=now()))

    depths = {depth.name: depth for depth in queries.queue_depths(session, known=["uploads"])}

    assert sorted(depths) == ["default", "mail", "query", "uploads"]
    assert (depths["default"].waiting, depths["default"].queued, depths["default"].running) == (2, 1, 1)
    assert (depths["mail"].running, depths["mail"].oldest_run_at) == (1, None)
    assert depths["query"].paused_at is not None
    assert (depths["uploads"].waiting, depths["uploads"].paused_at) == (0, None)


def test_the_oldest_job_of_a_queue_gives_its_age(session: Session) -> None:
    old = waiting(session)
    waiting(session)
    pass_seconds(session, old, 600, "run_at")

    (depth,) = queries.queue_depths(session)

    assert depth.oldest_run_at == queries.job_by_id(session, old).run_at  # type: ignore[union-attr]


def test_the_oldest_due_job_is_one_that_waits(session: Session) -> None:
    waiting(session, delay_seconds=60)
    pass_seconds(session, running(session).job_id, 900, "run_at")
    old = queued(session, owner="ada")
    pass_seconds(session, old, 600, "run_at")
    waiting(session)

    found = queries.oldest_due(session)
    assert found is not None
    assert found.id == old
    assert queries.oldest_due(session, owner="bob") is None


def test_failures_are_grouped_by_task_and_message(session: Session) -> None:
    newest = [failed(session) for _ in range(3)][-1]
    lifecycle.settle(session, [Failed(running(session), Error("E", "other"))])

    groups = queries.failures_by_message(session)

    assert [(group.message, group.times) for group in groups] == [("boom", 3), ("other", 1)]
    assert groups[0].newest_job_id == newest


def test_what_finished_lately_leaves_out_what_is_older(session: Session) -> None:
    succeeded(session)
    pass_seconds(session, failed(session), 120, "finished_at")

    assert [each.state for each in queries.finished_since(session, 60)] == ["succeeded"]
    assert len(queries.finished_since(session, 600)) == 2


def test_children_are_listed_under_their_parent(session: Session) -> None:
    parent = waiting(session)
    child = waiting(session, parent_id=parent)

    assert [job.id for job in queries.children(session, parent)] == [child]


def test_only_beating_processes_are_alive(session: Session) -> None:
    rows = [("a", "worker", -1), ("b", "worker", -60), ("c", "beat", -1)]
    for name, kind, age in rows:
        values = {"id": name, "kind": kind, "host": "here", "pid": 1, "heartbeat_at": seconds_from_now(age)}
        session.execute(insert(Worker).values(**values))

    assert [worker.id for worker in queries.live_workers(session, 10)] == ["a", "c"]
    assert [worker.id for worker in queries.live_workers(session, 10, kind="beat")] == ["c"]


def test_the_attempts_of_a_job_are_in_order(session: Session) -> None:
    job_id = failed(session)
    lifecycle.run_again(session, job_id)
    lifecycle.settle(session, [Succeeded(claim(session, job_id))])

    assert [(attempt.number, attempt.outcome) for attempt in queries.attempts(session, job_id)] == [(1, "failed")]
