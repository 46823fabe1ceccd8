"""How much of a queue the relay keeps at the broker, and what still goes first behind a long line."""

from typing import Any

import pytest
from sqlalchemy import Engine, event, insert, update
from sqlalchemy.orm import Session

from flaskapp.jobs import control, lifecycle, window
from flaskapp.jobs.clock import seconds_from_now
from flaskapp.jobs.models import Job, JobState, Worker
from flaskapp.jobs.outcomes import Wish
from tests.makers import waiting


def many(session: Session, count: int, **wish: Any) -> list[str]:
    return lifecycle.submit(session, [Wish("tests.fate", **wish) for _ in range(count)])


def worker(session: Session, pace: float | None, queues: str = "default", slots: int = 2, seconds_ago: int = 0) -> None:
    row = {"id": f"{queues} {pace} {slots}", "kind": "worker", "host": "here", "pid": 1, "concurrency": slots}
    alive = {"heartbeat_at": seconds_from_now(-seconds_ago), "pace": pace, "queues": queues}
    session.execute(insert(Worker).values(row | alive))


def send_all(session: Session, window: window.Window | None = None) -> list[str]:
    """As the relay does until it takes nothing any more, with a broker that confirms all."""
    sent: list[str] = []
    while batch := lifecycle.take_to_send(session, "relay", 500, 30, window):
        sent += [job.id for job in batch]
        lifecycle.mark_queued(session, "relay", [job.id for job in batch])
    return sent


WINDOWS = {
    "nobody is there": ([], 200),
    "one that has run nothing yet": ([(None, "default", 2, 0)], 200),
    "slow ones": ([(0.01, "default", 2, 0)], 4),
    "ones with jobs of a second": ([(2.0, "default", 2, 0)], 40),
    "slow ones and one of which nothing is known": ([(0.01, "default", 2, 0), (None, "default", 2, 0)], 200),
    "quick ones together": ([(20, "default", 2, 0), (10, "default,mail", 2, 0)], 600),
    "very quick ones": ([(5000, "default", 2, 0)], 10_000),
    "those of another queue": ([(500, "mail", 2, 0)], 200),
    "those that are gone": ([(500, "default", 2, 60)], 200),
    "many slots": ([(None, "default", 100, 0)], 500),
}


@pytest.mark.parametrize("case", WINDOWS)
def test_the_window_follows_the_pace_of_the_live_workers(session: Session, case: str) -> None:
    workers, size = WINDOWS[case]
    for each in workers:
        worker(session, *each)
    assert window.sizes(session, ["default"]) == {"default": size}


def test_what_is_beyond_the_window_stays_waiting(session: Session) -> None:
    many(session, 300)
    assert len(send_all(session)) == window.LEAST


def test_one_full_queue_does_not_hold_up_another(session: Session) -> None:
    many(session, 300)
    send_all(session)
    (mail,) = many(session, 1, queue="mail")
    assert send_all(session) == [mail]


def test_what_was_taken_frees_its_place(session: Session) -> None:
    many(session, 300)
    sent = send_all(session)
    lifecycle.claim(session, [lifecycle.Hint(job_id, 1) for job_id in sent[:30]], "worker")
    assert len(send_all(session)) == 30


def test_an_urgent_job_goes_before_a_long_line(session: Session) -> None:
    many(session, 300)
    (urgent,) = many(session, 1, priority=9)
    assert send_all(session)[0] == urgent


def test_priority_goes_before_age_across_queues(session: Session) -> None:
    low, high, middle = waiting(session), waiting(session, queue="mail", priority=5), waiting(session, priority=2)
    session.execute(update(Job).where(Job.id == low).values(run_at=seconds_from_now(-60)))
    one_by_one = [lifecycle.take_to_send(session, "relay", 1, 30)[0].id for _ in range(3)]
    assert one_by_one == [high, middle, low]


def test_a_line_that_is_due_next_year_hides_no_other(session: Session) -> None:
    many(session, 3, priority=5, delay_seconds=9999, queue="mail")
    many(session, 3, delay_seconds=9999)
    job_id = waiting(session, queue="query", priority=-1)
    assert window.lines(session) == [window.Line("query", -1)]
    assert send_all(session) == [job_id]


def test_a_paused_line_is_none(session: Session) -> None:
    waiting(session, queue="mail")
    control.pause_queue(session, "mail")
    assert window.lines(session) == []


def test_a_relay_believes_its_count_for_a_moment_and_counts_what_it_took(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(window.time, "monotonic", lambda: 1000.0)
    mine = window.Window()
    many(session, 300)
    assert len(send_all(session, mine)) == window.LEAST
    # Their places are free again, but it has just counted.
    session.execute(update(Job).where(Job.state == JobState.QUEUED).values(state=JobState.WAITING, queued_at=None))
    assert send_all(session, mine) == []
    assert len(send_all(session)) == window.LEAST


def test_the_next_job_of_a_line_is_found_in_the_index(engine: Engine, session: Session) -> None:
    many(session, 1000)
    many(session, 1000, queue="mail")
    session.commit()
    seen: list[tuple[str, Any]] = []

    def note(connection: Any, cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        seen.append((statement, parameters))

    event.listen(engine, "before_cursor_execute", note)
    window.lines(session)
    event.remove(engine, "before_cursor_execute", note)
    statement, parameters = next(each for each in seen if "UNION" in each[0])
    word = "EXPLAIN QUERY PLAN " if engine.dialect.name == "sqlite" else "EXPLAIN "
    with engine.connect() as connection:
        plan = "\n".join(str(row) for row in connection.exec_driver_sql(word + statement, parameters))
    assert plan.count("job_line") == 2, plan
    assert "sort" not in plan.lower(), plan
