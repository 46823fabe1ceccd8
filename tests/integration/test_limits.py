"""Limits of queues and keys: claim enforces them, the relay chooses by them, and nothing waits for ever."""

from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import pytest
from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from flaskapp.jobs import control, lifecycle, limits
from flaskapp.jobs.clock import seconds_from_now
from flaskapp.jobs.limits import Bound, Rule
from flaskapp.jobs.models import Job, JobState, Start
from flaskapp.jobs.outcomes import Claimed, Hint, RetryLater, Succeeded
from tests import makers
from tests.makers import WORKER, claim, pass_seconds, row_of, state_of

_seconds = count()
W, R = JobState.WAITING, JobState.RUNNING


@pytest.fixture(params=["key", "queue"])
def limited(request: pytest.FixtureRequest, session: Session) -> dict[str, str]:
    """The words of a wish that fall under a limit, of a key or of a queue; two may run at a time."""
    set_rule(session, request.param, Rule(max_running=2))
    return {"limit_key": "customer"} if request.param == "key" else {"queue": "mail"}


def waiting(session: Session, **wish: Any) -> str:
    """Due a second after the one before: SQLite's clock does not tell apart what is submitted in one breath."""
    return makers.waiting(session, run_at=datetime(2001, 1, 1, tzinfo=UTC) + timedelta(seconds=next(_seconds)), **wish)


def queued(session: Session, **wish: Any) -> str:
    job_id = waiting(session, **wish)
    makers.send(session, job_id)
    return job_id


def set_rule(session: Session, kind: str, rule: Rule) -> None:
    if kind == "key":
        control.set_limit(session, "customer", rule)
    else:
        control.set_queue_limits(session, "mail", rule)


def kind_of(limited: dict[str, str]) -> str:
    return "key" if "limit_key" in limited else "queue"


def sent(session: Session, limit: int = 100) -> list[str]:
    """One turn of the relay, confirmed."""
    ids = [job.id for job in lifecycle.take_to_send(session, "relay", limit, 30)]
    lifecycle.mark_queued(session, "relay", ids)
    return ids


def claimed(session: Session, job_ids: list[str]) -> dict[str, Claimed]:
    return lifecycle.claim(session, [Hint(each, row_of(session, each)["sends"]) for each in job_ids], WORKER)


def ended(session: Session, claims: dict[str, Claimed]) -> None:
    lifecycle.settle(session, [Succeeded(each) for each in claims.values()])


# --- how many at a time -----------------------------------------------------------------------------------


def test_no_more_are_claimed_than_may_run(session: Session, limited: dict[str, str]) -> None:
    jobs = [queued(session, **limited) for _ in range(5)]

    claims = claimed(session, jobs)

    assert len(claims) == 2
    assert claimed(session, [each for each in jobs if each not in claims]) == {}
    assert sorted(state_of(session, each) for each in jobs) == sorted([R, R, W, W, W])


def test_what_claim_refuses_is_held_and_leaves_again_when_there_is_room(
    session: Session, limited: dict[str, str]
) -> None:
    jobs = [queued(session, **limited) for _ in range(3)]
    claims = claimed(session, jobs)
    (held,) = set(jobs) - set(claims)
    assert sent(session) == []

    ended(session, claims)

    assert sent(session) == [held]
    assert set(claimed(session, [held])) == {held}


def test_the_relay_sends_no_more_than_have_room(session: Session, limited: dict[str, str]) -> None:
    jobs = [waiting(session, **limited) for _ in range(5)]

    assert sent(session) == jobs[:2]
    assert sent(session) == []
    claims = claimed(session, jobs[:2])
    assert sent(session) == []
    ended(session, {jobs[0]: claims[jobs[0]]})
    assert sent(session) == jobs[2:3]


def test_a_relay_that_is_sending_keeps_the_places_of_its_jobs(session: Session, limited: dict[str, str]) -> None:
    first = [waiting(session, **limited) for _ in range(2)]
    waiting(session, **limited)
    assert [job.id for job in lifecycle.take_to_send(session, "one relay", 100, 30)] == first

    assert lifecycle.take_to_send(session, "another", 100, 30) == []

    lifecycle.release_unsent(session, "one relay", first, -1)
    assert [job.id for job in lifecycle.take_to_send(session, "another", 100, 30)] == first


def test_those_that_wait_for_room_stop_nobody_behind_them(session: Session, limited: dict[str, str]) -> None:
    first, second = (waiting(session, priority=5, **limited) for _ in range(2))
    for _ in range(10):
        waiting(session, priority=5, **limited)
    free = [waiting(session) for _ in range(3)]

    assert sent(session, limit=6) == [first, second, *free]


def test_a_limited_job_knows_that_another_waits_for_its_end(session: Session, limited: dict[str, str]) -> None:
    free, bound = queued(session), queued(session, **limited)

    claims = claimed(session, [free, bound])

    assert {job_id: each.limited for job_id, each in claims.items()} == {free: False, bound: True}


def test_the_room_goes_to_the_highest_priority_then_to_the_oldest(session: Session, limited: dict[str, str]) -> None:
    old = queued(session, **limited)
    queued(session, **limited)
    urgent = queued(session, priority=9, **limited)
    jobs = [job.id for job in session.scalars(select(Job).order_by(Job.id.desc()))]

    assert set(claimed(session, jobs)) == {old, urgent}


def test_a_cancelled_job_frees_its_place(session: Session, limited: dict[str, str]) -> None:
    claims = claimed(session, [queued(session, **limited) for _ in range(2)])
    later = waiting(session, **limited)
    assert sent(session) == []

    lifecycle.cancel(session, next(iter(claims)))

    assert sent(session) == [later]
    assert set(claimed(session, [later])) == {later}


def test_a_retry_gives_its_place_to_others_and_keeps_its_key(session: Session, limited: dict[str, str]) -> None:
    claims = claimed(session, [queued(session, **limited) for _ in range(2)])
    later = waiting(session, **limited)
    retried = next(iter(claims))

    lifecycle.settle(session, [RetryLater(claims[retried], None)])

    assert sent(session) == [later]
    assert row_of(session, retried)["limit_key"] == limited.get("limit_key")


def test_a_message_that_nobody_takes_does_not_keep_its_place_for_ever(
    session: Session, limited: dict[str, str]
) -> None:
    stuck = [waiting(session, **limited) for _ in range(2)]
    later = waiting(session, **limited)
    assert sent(session) == stuck

    for each in stuck:
        pass_seconds(session, each, 120, "queued_at")

    assert sent(session) == [later]


def test_a_limit_that_is_lowered_counts_for_those_already_sent(session: Session, limited: dict[str, str]) -> None:
    jobs = [waiting(session, **limited) for _ in range(2)]
    assert sent(session) == jobs

    set_rule(session, kind_of(limited), Rule(max_running=1))

    assert len(claimed(session, jobs)) == 1


def test_a_limit_that_is_taken_away_holds_nobody(session: Session, limited: dict[str, str]) -> None:
    jobs = [waiting(session, **limited) for _ in range(5)]
    if "limit_key" in limited:
        assert control.remove_limit(session, "customer")
    else:
        control.set_queue_limits(session, "mail", Rule())

    assert sent(session) == jobs
    assert len(claimed(session, jobs)) == 5


def test_a_job_needs_room_in_its_queue_and_in_its_key(session: Session) -> None:
    control.set_queue_limits(session, "mail", Rule(max_running=3))
    control.set_limit(session, "customer", Rule(max_running=1))
    both = [waiting(session, queue="mail", limit_key="customer") for _ in range(2)]
    mail = [waiting(session, queue="mail") for _ in range(3)]

    assert sent(session) == [both[0], *mail[:2]]
    assert set(claimed(session, [both[0], *mail[:2]])) == {both[0], *mail[:2]}


def test_keys_do_not_share_their_room(session: Session) -> None:
    for key in ("a", "b"):
        control.set_limit(session, key, Rule(max_running=1))
    jobs = {key: [waiting(session, limit_key=key) for _ in range(3)] for key in ("a", "b", "free")}

    assert sorted(sent(session)) == sorted([jobs["a"][0], jobs["b"][0], *jobs["free"]])


def test_many_keys_in_one_look_fill_the_batch(session: Session) -> None:
    """One key's thousand waiting jobs do not make the batch small."""
    for n in range(5):
        control.set_limit(session, f"key {n}", Rule(max_running=1))
    for n in range(5):
        for _ in range(20):
            waiting(session, limit_key=f"key {n}")

    assert len(sent(session, limit=10)) == 5


def test_a_stranger_to_limits_is_not_counted(session: Session, limited: dict[str, str]) -> None:
    jobs = [queued(session, limit_key="another", queue="default") for _ in range(5)]

    assert len(claimed(session, jobs)) == 5


# --- how many in a span -----------------------------------------------------------------------------------


def rated(session: Session, limited: dict[str, str], count: int = 2, seconds: float = 60) -> None:
    set_rule(session, kind_of(limited), Rule(rate_count=count, rate_seconds=seconds))


def let_pass(session: Session, seconds: float) -> None:
    """Make the starts so much older."""
    for row in session.scalars(select(Start)):
        row.at -= timedelta(seconds=seconds)
    session.flush()


def test_no_more_start_in_a_span_than_the_rate_allows(session: Session, limited: dict[str, str]) -> None:
    rated(session, limited)
    jobs = [queued(session, **limited) for _ in range(5)]

    claims = claimed(session, jobs)
    ended(session, claims)

    assert len(claims) == 2
    held = [each for each in jobs if each not in claims]
    assert claimed(session, held) == {}
    let_pass(session, 59)
    assert claimed(session, held) == {}
    let_pass(session, 1.5)
    assert len(claimed(session, held)) == 2


def test_the_relay_sends_no_more_than_may_start(session: Session, limited: dict[str, str]) -> None:
    rated(session, limited)
    jobs = [waiting(session, **limited) for _ in range(5)]

    assert sent(session) == jobs[:2]
    assert sent(session) == []
    ended(session, claimed(session, jobs[:2]))
    assert sent(session) == []
    let_pass(session, 61)
    assert sent(session) == jobs[2:4]


def test_the_start_that_counts_is_the_one_in_the_row(session: Session, limited: dict[str, str]) -> None:
    rated(session, limited)
    job_id = queued(session, **limited)

    claimed(session, [job_id])

    assert session.scalars(select(Start.at)).one() == row_of(session, job_id)["started_at"]


def test_it_is_known_when_a_rate_leaves_room_for_somebody_who_waits(session: Session, limited: dict[str, str]) -> None:
    rated(session, limited)
    ended(session, claimed(session, [queued(session, **limited) for _ in range(2)]))
    assert limits.seconds_to_room(session) is None

    waiting(session, **limited)

    assert 50 < (limits.seconds_to_room(session) or 0) <= 60
    let_pass(session, 59)
    assert 0 <= (limits.seconds_to_room(session) or 99) < 1.1
    let_pass(session, 1)
    assert limits.seconds_to_room(session) is None


def test_starts_that_count_no_more_are_forgotten(session: Session, limited: dict[str, str]) -> None:
    rated(session, limited)
    for _ in range(4):
        ended(session, claimed(session, [queued(session, **limited) for _ in range(2)]))
        let_pass(session, 61)
    claimed(session, [queued(session, **limited)])

    assert session.execute(select(func.count()).select_from(Start)).scalar_one() == 1


def test_a_clock_that_went_back_does_not_close_the_door(session: Session, limited: dict[str, str]) -> None:
    rated(session, limited)
    ended(session, claimed(session, [queued(session, **limited) for _ in range(2)]))
    session.execute(update(Start).values(at=seconds_from_now(3600)))

    assert len(claimed(session, [queued(session, **limited) for _ in range(5)])) == 2


def test_a_spent_rate_for_which_nobody_waits_costs_the_relay_nothing(session: Session, limited: dict[str, str]) -> None:
    """There may be more of them, a customer each, than a statement takes parameters."""
    rated(session, limited)
    ended(session, claimed(session, [queued(session, **limited) for _ in range(2)]))
    assert limits.full(session) == set()

    waiting(session, **limited)

    assert limits.full(session) == {Bound(kind_of(limited), next(iter(limited.values())))}


def test_a_clock_that_went_back_does_not_keep_the_relay_from_sending(session: Session, limited: dict[str, str]) -> None:
    rated(session, limited)
    ended(session, claimed(session, [queued(session, **limited) for _ in range(2)]))
    session.execute(update(Start).values(at=seconds_from_now(3600)))
    waiting(session, **limited)

    assert limits.full(session) == set()
    assert limits.seconds_to_room(session) is None


def test_a_rate_and_a_number_at_a_time_hold_together(session: Session, limited: dict[str, str]) -> None:
    set_rule(session, kind_of(limited), Rule(max_running=1, rate_count=2, rate_seconds=60))
    jobs = [queued(session, **limited) for _ in range(3)]
    for n in range(3):
        claims = claimed(session, jobs[n : n + 1])
        assert len(claims) == (1 if n < 2 else 0)
        ended(session, claims)


# --- pause ------------------------------------------------------------------------------------------------


def test_a_message_of_a_paused_queue_is_held(session: Session) -> None:
    job_id, other = queued(session, queue="mail"), queued(session)
    control.pause_queue(session, "mail")

    assert set(claimed(session, [job_id, other])) == {other}

    row = row_of(session, job_id)
    assert (row["state"], row["queued_at"], row["sending_until"]) == (W, None, None)
    assert sent(session) == []


def test_a_held_job_leaves_as_soon_as_its_queue_goes_on(session: Session) -> None:
    job_id = queued(session, queue="mail")
    control.pause_queue(session, "mail")
    claimed(session, [job_id])

    control.resume_queue(session, "mail")

    assert sent(session) == [job_id]
    assert set(claimed(session, [job_id])) == {job_id}


def test_an_attempt_that_is_under_way_is_not_paused(session: Session) -> None:
    job_id = queued(session, queue="mail")
    running = claim(session, job_id)
    control.pause_queue(session, "mail")

    assert claim(session, job_id) == running
    assert lifecycle.settle(session, [Succeeded(running)]) == {job_id}


# --- what is set ------------------------------------------------------------------------------------------


def test_a_limit_can_be_set_looked_at_and_taken_away(session: Session) -> None:
    rule = Rule(2, 10, 60)
    assert control.set_limit(session, "customer", rule)
    assert not control.set_limit(session, "customer", rule)
    assert control.limit_of(session, "customer") == ("customer", rule)
    assert control.limits(session) == [("customer", rule)]

    assert control.set_limit(session, "customer", Rule(max_running=3))
    assert control.limit_of(session, "customer") == ("customer", Rule(max_running=3))

    assert control.remove_limit(session, "customer")
    assert not control.remove_limit(session, "customer")
    assert control.limit_of(session, "customer") is None


def test_a_pause_and_the_limits_of_a_queue_leave_each_other_alone(session: Session) -> None:
    control.pause_queue(session, "mail")
    assert control.set_queue_limits(session, "mail", Rule(max_running=2))
    assert not control.set_queue_limits(session, "mail", Rule(max_running=2))
    assert control.resume_queue(session, "mail")
    jobs = [waiting(session, queue="mail") for _ in range(3)]

    assert sent(session) == jobs[:2]


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        (Rule(2, 10, 60), "at most 2 at a time, 10 a minute"),
        (Rule(1), "at most 1 at a time"),
        (Rule(None, 3, 1), "at most 3 a second"),
        (Rule(None, 5, 2.5), "at most 5 in 2.5 s"),
        (Rule(), ""),
    ],
)
def test_a_rule_is_said_in_words(rule: Rule, words: str) -> None:
    assert rule.in_words() == words


def test_a_full_limit_is_seen_without_a_lock(session: Session, limited: dict[str, str]) -> None:
    assert limits.full(session) == set()

    claimed(session, [queued(session, **limited) for _ in range(2)])

    assert limits.full(session) == {Bound(kind_of(limited), next(iter(limited.values())))}
