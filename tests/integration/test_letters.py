"""Dead letters as rows: what is kept of each, when its job waits again, and how long they stay."""

from datetime import datetime
from typing import Any

import pytest
from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from flaskapp.broker.letters import died, letter_of, looked_at
from flaskapp.jobs import letters
from flaskapp.jobs.clock import seconds_from_now
from flaskapp.jobs.letters import Letter
from flaskapp.jobs.models import DeadLetter, JobState
from tests import makers

KNOWN = frozenset({"tests.fate"})
GOOD = b'[["ok"], {}, {}]'
HEADERS = {"task": "tests.fate", "id": "strange"}


def died_by(reason: str, queue: str = "default", **more: Any) -> list[dict[str, Any]]:
    return [{"reason": reason, "queue": queue, "exchange": "offload", "routing-keys": [queue], "count": 1, **more}]


def rows(session: Session) -> list[DeadLetter]:
    return list(session.scalars(select(DeadLetter).order_by(DeadLetter.id)))


def of_job(session: Session, job_id: str, **more: Any) -> Letter:
    send = makers.row_of(session, job_id)["sends"]
    return Letter("rejected", job_id=job_id, task="tests.fate", send=send, queue="default", body=GOOD, **more)


def test_a_letter_tells_where_and_why_it_died() -> None:
    headers = {**HEADERS, "x-death": died_by("expired", "mail")}

    letter = died(letter_of(headers, GOOD, "application/json", reason="rejected", exchange="offload.dead"))

    assert (letter.reason, letter.queue, letter.exchange, letter.routing_key) == ("expired", "mail", "offload", "mail")
    assert (letter.job_id, letter.task, letter.send) == ("strange", "tests.fate", None)


@pytest.mark.parametrize(
    ("headers", "body", "reason"),
    [
        ({}, GOOD, "malformed"),
        ({"task": ["tests.fate"], "id": "x"}, GOOD, "malformed"),
        ({"task": "tests.fate"}, GOOD, "malformed"),
        ({"task": "tests.fate", "id": "x" * 156}, GOOD, "malformed"),
        (HEADERS, b"\x80\x04\x95pickled", "malformed"),
        (HEADERS, b"[" * 100_000, "malformed"),
        (HEADERS, b"[1, 2, 3]", "malformed"),
        ({"task": "nobody.knows", "id": "x"}, GOOD, "unknown task"),
        (HEADERS, GOOD, "rejected"),
    ],
)
def test_the_reason_of_a_rejection_is_looked_for(headers: dict[str, Any], body: bytes, reason: str) -> None:
    letter = died(letter_of({**headers, "x-death": died_by("rejected")}, body, None, reason="rejected"))

    assert looked_at(letter, KNOWN).reason == reason


@pytest.mark.parametrize("made_up", [None, 5, "x", [], [5], [{}], [{"queue": 5}], {"a": 1}, [[[]]]])
def test_a_history_made_up_by_the_sender_is_told_as_a_stray(session: Session, made_up: object) -> None:
    letters.record(session, died(letter_of({"x-death": made_up}, b"", None, reason="rejected")))

    assert [row.reason for row in rows(session)] == ["stray"]


HOSTILE: list[dict[Any, Any]] = [
    {"nul": "\0", "half": "\ud800", b"\xff": b"\xfe", 5: None},
    {"id": "a\0b", "task": "\ud800"},
    {"number": 10**5000, "nan": float("nan"), "when": datetime(2026, 1, 1), "odd": object()},
    {"x-death": died_by("\0" * 500, "q" * 500, exchange=5, **{"routing-keys": [7]})},
    {"offload_send": 2**80, "id": "x", "task": "y"},
    {"offload_send": True, "id": "x" * 200, "task": "y" * 300},
]


@pytest.mark.parametrize("headers", HOSTILE)
def test_whatever_a_stranger_wrote_becomes_a_row(session: Session, headers: dict[Any, Any]) -> None:
    letter = died(letter_of(headers, b"\0\xff", "\0\ud800" * 300, reason="rejected", routing_key="\0" * 300))

    assert letters.record(session, looked_at(letter, KNOWN))
    session.commit()

    (row,) = rows(session)
    assert (row.payload, row.size) == (b"\0\xff", 2)


def test_headers_nested_deep_are_cut(session: Session) -> None:
    nested: Any = []
    for _ in range(100_000):
        nested = [nested]
    letters.record(session, letter_of({"deep": nested}, b"", None, reason="rejected"))

    assert "…" in rows(session)[0].headers
    while nested:  # or Python itself would fall over the end of it
        nested = nested[0]


def test_of_a_large_body_the_beginning_is_kept_and_its_true_size(session: Session) -> None:
    letters.record(session, letter_of({}, b"x" * 16 * 2**20, None, reason="rejected"))

    (row,) = rows(session)
    assert (len(row.payload), row.size) == (2**20, 16 * 2**20)


@pytest.mark.parametrize("state", [JobState.QUEUED, JobState.WAITING])
def test_a_job_that_waits_for_this_message_waits_again(session: Session, state: JobState) -> None:
    job_id = makers.in_state(session, state)
    letters.record(session, of_job(session, job_id))

    row, (letter,) = makers.row_of(session, job_id), rows(session)
    assert (row["state"], row["queued_at"]) == (JobState.WAITING, None)
    assert letter.replayed_by == letters.BY_ITSELF
    assert "waits again" in letter.detail


def test_a_job_that_dies_again_rests_longer(session: Session) -> None:
    job_id = makers.queued(session)
    for _ in range(12):
        letters.record(session, of_job(session, job_id))

    rest = select(func.count()).where(DeadLetter.detail.contains("600 s"))
    assert session.scalar(rest) == 5


@pytest.mark.parametrize("state", [JobState.RUNNING, JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED])
def test_a_job_that_has_moved_on_is_left_alone(session: Session, state: JobState) -> None:
    job_id = makers.in_state(session, state)
    letters.record(session, of_job(session, job_id))

    assert makers.state_of(session, job_id) == state
    assert rows(session)[0].replayed_at is None


def test_an_older_sending_changes_nothing(session: Session) -> None:
    job_id = makers.queued(session)
    letter = of_job(session, job_id)
    makers.send(session, job_id) if makers.state_of(session, job_id) == JobState.WAITING else None
    session.execute(update(makers.Job).where(makers.Job.id == job_id).values(sends=7))
    letters.record(session, letter)

    assert makers.state_of(session, job_id) == JobState.QUEUED


def test_a_letter_of_ours_without_a_row_stays_a_letter(session: Session) -> None:
    letters.record(session, Letter("rejected", job_id="pruned", task="tests.fate", send=1))

    assert [(row.reason, row.replayed_at) for row in rows(session)] == [("no job", None)]


def test_a_letter_delivered_again_has_one_row(session: Session) -> None:
    first = letter_of(HEADERS, GOOD, None, reason="rejected")
    again = letter_of(HEADERS, GOOD, None, reason="rejected", redelivered=True)

    assert [letters.record(session, each) for each in (first, again, again)] == [True, False, False]
    assert len(rows(session)) == 1


def test_two_letters_that_are_alike_have_two_rows(session: Session) -> None:
    for _ in range(2):
        letters.record(session, letter_of(HEADERS, GOOD, None, reason="rejected"))

    assert len(rows(session)) == 2


def test_a_redelivered_letter_without_a_row_gets_one(session: Session) -> None:
    assert letters.record(session, letter_of(HEADERS, GOOD, None, reason="rejected", redelivered=True))


def test_letters_are_shown_newest_first_a_page_at_a_time(session: Session) -> None:
    for number in range(5):
        letters.record(session, letter_of({}, b"%d" % number * 5000, None, reason="rejected"))

    first = letters.newest(session, 2)
    second = letters.newest(session, 2, before_id=first[-1].letter.id)

    assert [page.beginning[:1] for page in [*first, *second]] == [b"4", b"3", b"2", b"1"]
    assert len(first[0].beginning) == 2000
    assert letters.count_open(session) == 5


def test_old_letters_are_pruned(session: Session) -> None:
    for _ in range(3):
        letters.record(session, letter_of({}, b"", None, reason="rejected"))
    newest = rows(session)[-1].id
    session.execute(update(DeadLetter).where(DeadLetter.id < newest).values(at=seconds_from_now(-91 * 86400)))

    assert letters.prune_letters(session, 90) == 2
    assert [row.id for row in rows(session)] == [newest]
