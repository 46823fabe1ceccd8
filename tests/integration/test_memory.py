"""What the tables themselves promise: the clock, constraints, texts, the tally, and one winner of two connections."""

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from sqlalchemy import Engine, func, insert, literal, select, update
from sqlalchemy.exc import IntegrityError, StatementError
from sqlalchemy.orm import Session

from flaskapp.jobs import lifecycle, queries
from flaskapp.jobs.clock import now, seconds_from_now
from flaskapp.jobs.models import Job, JobState, Tally
from flaskapp.jobs.outcomes import Error, Failed, Hint, RetryLater, Succeeded, Wish, clean_text
from tests.makers import WORKER, failed, in_state, pass_seconds, row_of, running, state_of, waiting

# --- the clock --------------------------------------------------------------------------------------------


def read(session: Session, expression: Any) -> datetime:
    return session.execute(select(expression)).scalar_one()  # type: ignore[no-any-return]


def test_the_databases_clock_is_ours_and_in_utc(session: Session) -> None:
    assert abs(read(session, now()) - datetime.now(UTC)) < timedelta(seconds=5)


def test_the_clock_runs_inside_a_transaction(session: Session) -> None:
    waiting(session)
    first = read(session, now())
    deadline = datetime.now(UTC) + timedelta(seconds=2)
    while (later := read(session, now())) == first and datetime.now(UTC) < deadline:
        pass

    assert later > first


@pytest.mark.parametrize("seconds", [0, 1, 0.25, 90.5, -0.25, -3600, -86400.75, 86400 * 365, 1e-3])
def test_seconds_from_now_may_be_negative_and_fractional(session: Session, seconds: float) -> None:
    row = session.execute(select(now().label("now"), seconds_from_now(seconds).label("then"))).one()

    assert row.then - row.now == pytest.approx(timedelta(seconds=seconds), abs=timedelta(milliseconds=20))


def test_seconds_from_now_takes_an_expression(session: Session) -> None:
    row = session.execute(select(now().label("now"), seconds_from_now(literal(2.0) * 3).label("then"))).one()

    assert row.then - row.now == pytest.approx(timedelta(seconds=6), abs=timedelta(milliseconds=20))


def test_times_written_by_the_clock_and_by_python_compare_as_times(session: Session) -> None:
    by_clock = waiting(session, delay_seconds=10)
    by_python = waiting(session, run_at=datetime.now(UTC) + timedelta(seconds=20))
    exact = waiting(session, run_at=datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=30))

    rows = session.scalars(select(Job.id).where(Job.run_at > now()).order_by(Job.run_at)).all()

    assert rows == [by_clock, by_python, exact]


def test_any_zone_is_stored_as_utc_with_microseconds(session: Session) -> None:
    moment = datetime(2026, 7, 1, 12, 0, 0, 1, tzinfo=timezone(timedelta(hours=5, minutes=30)))

    job_id = waiting(session, run_at=moment)
    session.commit()

    assert row_of(session, job_id)["run_at"] == moment
    assert row_of(session, job_id)["run_at"].utcoffset() == timedelta(0)


def test_a_time_without_a_zone_is_refused(session: Session) -> None:
    with pytest.raises(StatementError, match="no time zone"):
        waiting(session, run_at=datetime(2026, 1, 1))


# --- invariants -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "values"),
    [
        (JobState.WAITING, {"state": "asleep"}),
        (JobState.WAITING, {"state": JobState.SUCCEEDED}),
        (JobState.SUCCEEDED, {"finished_at": None}),
        (JobState.WAITING, {"finished_at": datetime(2026, 1, 1, tzinfo=UTC)}),
        (JobState.RUNNING, {"worker": None}),
        (JobState.RUNNING, {"attempt": 0}),
    ],
)
def test_an_impossible_row_is_refused(session: Session, state: str, values: dict[str, Any]) -> None:
    job_id = in_state(session, state)
    session.commit()

    with pytest.raises(IntegrityError):
        session.execute(update(Job).where(Job.id == job_id).values(**values))


# --- texts ------------------------------------------------------------------------------------------------

NASTY = "nul \x00, surrogate \ud800, emoji 🦊, and é"


def test_nul_and_surrogates_in_errors_are_made_storable(session: Session) -> None:
    claimed = running(session)

    lifecycle.settle(session, [Failed(claimed, Error(NASTY, NASTY, NASTY))])
    session.commit()

    row = row_of(session, claimed.job_id)
    for column in ("error_type", "error_message", "error_traceback"):
        assert row[column] == "nul �, surrogate ?, emoji 🦊, and é"


def test_they_survive_into_the_history(session: Session) -> None:
    claimed = running(session)

    lifecycle.settle(session, [RetryLater(claimed, Error("E", NASTY))])
    session.commit()

    assert queries.attempts(session, claimed.job_id)[0].error_message == clean_text(NASTY)


def test_who_cancels_may_have_any_name(session: Session) -> None:
    job_id = waiting(session)

    lifecycle.cancel(session, job_id, by="Ünal\x00 <b>")

    assert row_of(session, job_id)["error_message"] == "Cancelled by Ünal� <b>."


# --- the tally --------------------------------------------------------------------------------------------


def test_the_books_balance_through_every_arrow(session: Session) -> None:
    ids = [in_state(session, state) for state in JobState for _ in range(2)]
    lifecycle.submit(session, [Wish("a", job_id=ids[0]), Wish("a", unique_key="k"), Wish("a", unique_key="k")])
    lifecycle.run_again(session, failed(session))
    for job_id in ids:
        if row_of(session, job_id)["finished_at"]:
            pass_seconds(session, job_id, 100, "finished_at")
    assert lifecycle.prune(session, 0, 0, limit=5) == 5

    account = queries.account(session)

    assert (account.accepted, account.pruned, account.drift) == (14, 5, 0)


def test_compacting_the_tally_keeps_its_sums(session: Session) -> None:
    for _ in range(4):
        waiting(session)
    pass_seconds(session, in_state(session, JobState.SUCCEEDED), 100, "finished_at")
    lifecycle.prune(session, 0, 0)
    before = queries.account(session)

    lifecycle.compact_tally(session)

    assert queries.account(session) == before
    assert session.execute(select(func.count()).select_from(Tally)).scalar_one() == 1


def test_a_long_tally_is_compacted_in_groups(session: Session) -> None:
    session.execute(insert(Tally), [{"accepted": 1, "pruned": 0}] * 25)

    folded = [lifecycle.compact_tally(session, limit=10) for _ in range(4)]

    assert folded == [10, 10, 7, 1]
    assert queries.account(session).accepted == 25


def test_a_transaction_that_is_rolled_back_was_never_accepted(session: Session) -> None:
    waiting(session)
    session.rollback()

    assert queries.account(session).accepted == 0


def test_compacting_an_empty_tally_is_nothing(session: Session) -> None:
    lifecycle.compact_tally(session)

    assert queries.account(session).drift == 0


# --- two connections --------------------------------------------------------------------------------------


def race(engine: Engine, act: Callable[[Session, int], Any], runners: int = 2) -> list[Any]:
    """Every runner on a connection and a thread of its own, all let go at once; answers what each got."""
    start = threading.Barrier(runners)
    answers: list[Any] = [None] * runners

    def run(number: int) -> None:
        with Session(engine, expire_on_commit=False) as session:
            start.wait(10)
            answers[number] = act(session, number)
            session.commit()

    threads = [threading.Thread(target=run, args=(number,)) for number in range(runners)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    return answers


def committed(engine: Engine, count: int = 1, **wish: Any) -> list[str]:
    with Session(engine) as session, session.begin():
        return [waiting(session, **wish) for _ in range(count)]


def test_of_two_workers_one_gets_the_claim(engine: Engine) -> None:
    for _ in range(10):
        (job_id,) = committed(engine)

        claims = race(engine, lambda s, n, job_id=job_id: lifecycle.claim(s, [Hint(job_id)], f"worker {n}"))

        assert sorted(len(claimed) for claimed in claims) == [0, 1]
        with Session(engine) as session:
            assert row_of(session, job_id)["attempt"] == 1


def test_two_workers_with_overlapping_groups_share_them_out(engine: Engine) -> None:
    ids = committed(engine, 30)
    orders = [ids, ids[::-1]]

    claims = race(engine, lambda s, n: lifecycle.claim(s, [Hint(job_id) for job_id in orders[n]], f"worker {n}"))

    assert sorted([*claims[0], *claims[1]]) == sorted(ids)


def test_two_relays_never_take_the_same_job(engine: Engine) -> None:
    ids = committed(engine, 40)

    batches = race(engine, lambda s, n: [job.id for job in lifecycle.take_to_send(s, f"relay {n}", 25, 30)])

    taken = batches[0] + batches[1]
    assert len(taken) == len(set(taken))
    assert set(taken) <= set(ids)


def test_of_cancel_and_success_one_wins(engine: Engine) -> None:
    for _ in range(5):
        (job_id,) = committed(engine)
        with Session(engine) as session, session.begin():
            claimed = lifecycle.claim(session, [Hint(job_id)], WORKER)[job_id]

        def act(session: Session, number: int, claimed: Any = claimed) -> bool:
            if number == 0:
                return lifecycle.cancel(session, claimed.job_id)
            return bool(lifecycle.settle(session, [Succeeded(claimed)]))

        answers = race(engine, act)

        assert sorted(answers) == [False, True]
        with Session(engine) as session:
            assert state_of(session, job_id) == (JobState.CANCELLED if answers[0] else JobState.SUCCEEDED)


def test_of_two_submits_with_one_key_one_makes_the_job(engine: Engine) -> None:
    answers = race(engine, lambda s, n: waiting(s, unique_key="only"), runners=4)

    assert len(set(answers)) == 1
    with Session(engine) as session:
        assert queries.account(session).drift == 0
        assert session.execute(select(func.count()).select_from(Job)).scalar_one() == 1


def test_two_pruners_count_each_job_once(engine: Engine) -> None:
    with Session(engine) as session, session.begin():
        for _ in range(20):
            pass_seconds(session, in_state(session, JobState.SUCCEEDED), 100, "finished_at")

    race(engine, lambda s, n: lifecycle.prune(s, 0, 0, limit=15))

    with Session(engine) as session:
        account = queries.account(session)
        assert account.drift == 0
        assert account.pruned + account.states[JobState.SUCCEEDED] == 20


def test_two_compactions_lose_nothing(engine: Engine) -> None:
    committed(engine, 1)
    with Session(engine) as session, session.begin():
        session.execute(insert(Tally), [{"accepted": 0, "pruned": 0}] * 50)

    race(engine, lambda s, n: lifecycle.compact_tally(s))

    with Session(engine) as session:
        assert queries.account(session).drift == 0
