"""Dead letters: messages that could not be delivered as jobs, kept as rows so that nothing is lost unseen.

One whose job still waits for exactly that message puts it back to waiting, in the same transaction.
Nothing here commits: the caller owns the transaction.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from typing import Any, NamedTuple

from sqlalchemy import LargeBinary, delete, func, insert, select, update
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, StatementError
from sqlalchemy.orm import Session, defer

from flaskapp.jobs import lifecycle
from flaskapp.jobs.clock import now, seconds_from_now
from flaskapp.jobs.models import DeadLetter, Job, JobState
from flaskapp.jobs.outcomes import Hint, clean_text

#: More of a body than this is not kept.
MOST_BYTES = 2**20
#: What stands in `replayed_by` when the core itself put the job back to waiting.
BY_ITSELF = "(by itself)"
REJECTED, MALFORMED, UNKNOWN_TASK, NO_JOB, STRAY = "rejected", "malformed", "unknown task", "no job", "stray"
_DEEPEST = 12
_SHORTEST_REST, _LONGEST_REST = 5.0, 600.0


@dataclass(frozen=True)
class Letter:
    """A message at the end of its way, as whoever took it saw it."""

    reason: str
    detail: str = ""
    queue: str | None = None
    exchange: str = ""
    routing_key: str = ""
    job_id: str | None = None
    task: str | None = None
    #: The number of our own sending; None if somebody else sent it.
    send: int | None = None
    headers: Mapping[Any, Any] = field(default_factory=dict)
    content_type: str | None = None
    body: bytes = b""
    #: The broker may have delivered it before: then it may have a row already.
    redelivered: bool = False

    @property
    def fingerprint(self) -> str:
        """x-death is among the headers, with the time of this very death."""
        place = "\0".join([self.queue or "", self.exchange, self.routing_key, headers_text(self.headers)])
        return hashlib.sha256(place.encode("utf-8", "replace") + b"\0" + self.body).hexdigest()


def record(session: Session, letter: Letter) -> bool:
    """Write the letter's row; False if it has one already. Its job goes back to waiting if it waits for this message.

    A job that dies again and again rests longer each time, up to ten minutes: a row for each, but no storm of them.
    What no row can hold is written as far as it can be: a letter that raises would come for ever.
    """
    try:
        with session.begin_nested():
            return _write(session, letter)
    except (StatementError, ValueError, TypeError) as problem:
        if isinstance(problem, DBAPIError) and not isinstance(problem, DataError | IntegrityError):
            raise  # the database is away: nothing is wrong with the letter
        return _write(session, Letter(MALFORMED, f"It cannot be written as it is: {problem}", body=letter.body))


def _write(session: Session, letter: Letter) -> bool:
    fingerprint = letter.fingerprint
    if letter.redelivered and session.scalars(_like(fingerprint)).first() is not None:
        return False
    reason, detail = letter.reason, letter.detail
    waits_again = False
    if letter.send is not None and letter.job_id is not None:
        before = session.scalar(select(func.count()).where(DeadLetter.job_id == letter.job_id)) or 0
        rest = min(_SHORTEST_REST * 2 ** min(before, 10), _LONGEST_REST)
        waits_again = lifecycle.hold(session, Hint(letter.job_id, letter.send), rest)
        state = session.scalar(select(Job.state).where(Job.id == letter.job_id))
        if waits_again:
            detail = f"{detail} Its job waits again, for {rest:g} s at least.".strip()
        elif state is None:
            reason = NO_JOB if reason == REJECTED else reason
            detail = detail or "Ours, but its job has no row any more: it never runs."
        else:
            detail = f"{detail} Its job did not wait for this message: it is {state}.".strip()
    values = {
        "reason": _text(reason, 30),
        "detail": _text(detail, 500),
        "queue": None if letter.queue is None else _text(letter.queue, 255),
        "exchange": _text(letter.exchange, 255),
        "routing_key": _text(letter.routing_key, 255),
        "job_id": letter.job_id,
        "task": letter.task,
        "send": letter.send,
        "headers": headers_text(letter.headers),
        "content_type": None if letter.content_type is None else _text(letter.content_type, 255),
        "payload": bytes(letter.body[:MOST_BYTES]),
        "size": len(letter.body),
        "fingerprint": fingerprint,
        "replayed_at": now() if waits_again else None,
        "replayed_by": BY_ITSELF if waits_again else None,
    }
    session.execute(insert(DeadLetter).values(values))
    return True


def _like(fingerprint: str) -> Any:
    return select(DeadLetter.id).where(DeadLetter.fingerprint == fingerprint).limit(1)


def letter_by_id(session: Session, letter_id: int, for_update: bool = False) -> DeadLetter | None:
    """The whole letter; `for_update` locks it until the caller's transaction ends."""
    query = select(DeadLetter).where(DeadLetter.id == letter_id).execution_options(populate_existing=True)
    return session.scalars(query.with_for_update() if for_update else query).first()


class Preview(NamedTuple):
    letter: DeadLetter
    #: How its payload begins.
    beginning: bytes


def newest(session: Session, limit: int = 50, before_id: int | None = None, beginning: int = 2000) -> list[Preview]:
    """A keyset page, newest first; of a payload only its beginning is read."""
    begins = func.substr(DeadLetter.payload, 1, beginning, type_=LargeBinary)
    query = select(DeadLetter, begins).options(defer(DeadLetter.payload, raiseload=True))
    if before_id is not None:
        query = query.where(DeadLetter.id < before_id)
    rows = session.execute(query.order_by(DeadLetter.id.desc()).limit(limit).execution_options(populate_existing=True))
    return [Preview(letter, bytes(text or b"")) for letter, text in rows]


def count_open(session: Session) -> int:
    """How many nobody has replayed yet."""
    return session.scalar(select(func.count()).where(DeadLetter.replayed_at.is_(None))) or 0


def mark_replayed(session: Session, letter: DeadLetter, by: str) -> bool:
    """False if somebody was first."""
    fresh = update(DeadLetter).where(DeadLetter.id == letter.id, DeadLetter.replayed_at.is_(None))
    marked = session.execute(
        fresh.values(replayed_at=now(), replayed_by=_text(by, 80)).execution_options(synchronize_session=False)
    )
    return bool(marked.rowcount)  # type: ignore[attr-defined]


def wait_again(session: Session, letter: DeadLetter) -> JobState | None:
    """A letter of ours is replayed: its queued job is sent again. Answers the state it was in; None without a row."""
    state = session.scalar(select(Job.state).where(Job.id == letter.job_id).with_for_update())
    if state == JobState.QUEUED:
        lifecycle.requeue_lost(session, [str(letter.job_id)])
    return None if state is None else JobState(state)


def prune_letters(session: Session, days: float, limit: int = 1000) -> int:
    """Delete up to `limit` letters that were kept long enough; answers how many."""
    old = select(DeadLetter.id).where(DeadLetter.at < seconds_from_now(-86400 * days)).limit(limit)
    ids = list(session.scalars(old.with_for_update(skip_locked=True)))
    if ids:
        forget = delete(DeadLetter).where(DeadLetter.id.in_(ids))
        session.execute(forget.execution_options(synchronize_session=False))
    return len(ids)


def headers_text(headers: Mapping[Any, Any]) -> str:
    """Headers as JSON, whatever a stranger put into them."""
    return clean_text(json.dumps(_plain(headers), sort_keys=True, ensure_ascii=False))


def _plain(value: Any, depth: int = 0) -> Any:
    if depth > _DEEPEST:
        return "…"
    match value:
        case None | bool():
            return value
        case int():
            return value if value.bit_length() <= 64 else "a number of many digits"
        case float():
            return value if value == value and abs(value) != float("inf") else str(value)
        case str():
            return value.encode("utf-8", "backslashreplace").decode()
        case bytes() | bytearray():
            return bytes(value).decode("utf-8", "backslashreplace")
        case dict():
            return {str(_plain(name, _DEEPEST)): _plain(item, depth + 1) for name, item in value.items()}
        case list() | tuple():
            return [_plain(item, depth + 1) for item in value]
        case datetime() | date() | Decimal():
            return str(value)
        case _:
            return type(value).__name__


def _text(text: str, longest: int) -> str:
    return clean_text(text)[:longest]
