"""The life of a recipient: one function per arrow, each an UPDATE that names the state it leaves.

    queued, deferred ─take─▶ sending ─end─▶ accepted, rejected, deferred, unknown
    queued, deferred ─▶ cancelled, expired, suppressed       rejected, expired (unknown, if asked for) ─▶ queued

Nothing here commits: the caller owns the transaction. Zero rows changed means somebody was first.
"""

from collections.abc import Collection
from typing import Any, cast

from sqlalchemy import (
    ColumnElement,
    CursorResult,
    Float,
    Table,
    and_,
    bindparam,
    exists,
    func,
    null,
    or_,
    select,
    update,
)
from sqlalchemy.orm import Session

from flaskapp.jobs.clock import now, seconds_from_now
from flaskapp.jobs.models import Job, JobState
from flaskapp.jobs.outcomes import Claimed
from flaskapp.mail.models import FAILED_STATES, OPEN_STATES, Message, Recipient, RecipientState, Suppression

# A plain table: what runs once for each mail costs half as much.
_TABLE = cast(Table, Recipient.__table__)


def due(
    session: Session, message_id: str, lane: int, lanes: int, closed_domains: Collection[str], limit: int
) -> list[Any]:
    """The next ones of this lane that may be tried now."""
    columns = [_TABLE.c[name] for name in ("id", "number", "address", "name", "domain", "variables", "tries")]
    query = select(*columns).where(_lane(message_id, lane, lanes), _TABLE.c.next_at <= now())
    if closed_domains:
        query = query.where(_TABLE.c.domain.not_in(closed_domains))
    return list(session.execute(query.order_by(_TABLE.c.number).limit(limit)))


def seconds_to_next(
    session: Session, message_id: str, lane: int, lanes: int, closed_domains: Collection[str] = ()
) -> float | None:
    """How soon the next one of this lane, to another domain than these, is due; None if none is left."""
    query = select(func.min(_TABLE.c.next_at), now().label("moment")).where(_lane(message_id, lane, lanes))
    if closed_domains:
        query = query.where(_TABLE.c.domain.not_in(closed_domains))
    soonest, moment = session.execute(query).one()
    return None if soonest is None else max(0.0, (soonest - moment).total_seconds())


def _lane(message_id: str, lane: int, lanes: int) -> ColumnElement[bool]:
    mine = and_(_TABLE.c.message_id == message_id, _TABLE.c.state.in_(OPEN_STATES))
    return and_(mine, _TABLE.c.number % lanes == lane) if lanes > 1 else mine


def take(session: Session, recipient_id: int, holder: Claimed) -> bool:
    """queued, deferred ─▶ sending; False if somebody was first, or the message is paused or cancelled by now."""
    held = {"recipient": recipient_id, "holder": holder.job_id, "claim": holder.number}
    return cast(CursorResult[Any], session.connection().execute(_TAKE, held)).rowcount == 1


def end(
    session: Session, recipient_id: int, holder: Claimed, state: RecipientState, reply: str, retry_in: float = 0
) -> bool:
    """sending ─▶ how it ended; False if it is not this attempt's any more."""
    held = {"recipient": recipient_id, "holder": holder.job_id, "claim": holder.number}
    values = {"ended": state.value, "said": reply, "seconds": retry_in}
    return cast(CursorResult[Any], session.connection().execute(_END, held | values)).rowcount == 1


def _take_statement() -> Any:
    is_stopped = or_(Message.paused_at.is_not(None), Message.cancelled_at.is_not(None))
    stopped = exists().where(Message.id == _TABLE.c.message_id, is_stopped)
    # Written out: an IN is expanded anew each time.
    is_open = or_(*(_TABLE.c.state == state.value for state in OPEN_STATES))
    open_ = and_(_TABLE.c.id == bindparam("recipient"), is_open, ~stopped)
    held = {"job_id": bindparam("holder"), "attempt": bindparam("claim"), "tries": _TABLE.c.tries + 1}
    return update(_TABLE).where(open_).values(state=RecipientState.SENDING.value, changed_at=now(), **held)


def _end_statement() -> Any:
    mine = and_(
        _TABLE.c.id == bindparam("recipient"),
        _TABLE.c.state == RecipientState.SENDING.value,
        _TABLE.c.job_id == bindparam("holder"),
        _TABLE.c.attempt == bindparam("claim"),
    )
    due = seconds_from_now(bindparam("seconds", type_=Float))
    free = {"job_id": null(), "attempt": null(), "next_at": due, "changed_at": now()}
    return update(_TABLE).where(mine).values(state=bindparam("ended"), reply=bindparam("said"), **free)


#: Made once: these two run for each mail, and putting them together costs as much as running them.
_TAKE, _END = _take_statement(), _end_statement()


def end_unsent(session: Session, recipient_id: int, state: RecipientState, reply: str, retry_in: float = 0) -> bool:
    """queued, deferred ─▶ how it ended before its content was sent; that was a try, too."""
    open_ = and_(_TABLE.c.id == recipient_id, _TABLE.c.state.in_(OPEN_STATES))
    more = {"tries": _TABLE.c.tries + 1, "next_at": seconds_from_now(retry_in)}
    return _change(session, open_, state, reply=reply, **more) == 1


def give_up_lost(session: Session, lost: ColumnElement[bool], is_repeatable: bool) -> int:
    """sending, but whoever sent it is gone ─▶ unknown; ─▶ deferred where a second sending is wanted or harmless."""
    sending = and_(_TABLE.c.state == RecipientState.SENDING, lost)
    free = {"job_id": null(), "attempt": null(), "next_at": now()}
    again = exists().where(Message.id == _TABLE.c.message_id, Message.at_least_once.is_(True))
    wanted = sending if is_repeatable else and_(sending, again)
    sentence = "The worker died while it was sent."
    repeated = _change(session, wanted, RecipientState.DEFERRED, reply=f"{sentence} It is sent again.", **free)
    if is_repeatable:
        return repeated
    unknown = f"{sentence} Nobody but the mail server knows whether it arrived."
    return repeated + _change(session, sending, RecipientState.UNKNOWN, reply=unknown, **free)


def of_earlier_attempt(holder: Claimed) -> ColumnElement[bool]:
    return and_(_TABLE.c.job_id == holder.job_id, _TABLE.c.attempt != holder.number)


def of_nobody() -> ColumnElement[bool]:
    """Held by an attempt that does not run."""
    runs = exists().where(Job.id == _TABLE.c.job_id, Job.state == JobState.RUNNING, Job.attempt == _TABLE.c.attempt)
    return ~runs


def cancel(session: Session, message_id: str) -> int:
    return _change(session, _open_of(message_id), RecipientState.CANCELLED)


def expire(session: Session, message_id: str | None = None) -> int:
    """Of a message (or all) whose time is over; while it is paused its clock stands still."""
    late = and_(Message.expires_at <= now(), Message.paused_at.is_(None))
    over = exists().where(Message.id == _TABLE.c.message_id, late)
    mine = _TABLE.c.state.in_(OPEN_STATES) if message_id is None else _open_of(message_id)
    return _change(session, and_(mine, over), RecipientState.EXPIRED)


def suppress(session: Session, address: str) -> int:
    """Wherever it still waits."""
    waits = and_(func.lower(_TABLE.c.address) == address.lower(), _TABLE.c.state.in_(OPEN_STATES))
    return _change(session, waits, RecipientState.SUPPRESSED)


def suppress_unwanted(session: Session, message_id: str) -> int:
    """Whoever left the list while he was in nobody's reach: being sent to, failed, or not committed yet."""
    return _change(session, and_(_open_of(message_id), _is_unwanted()), RecipientState.SUPPRESSED)


def _is_unwanted() -> ColumnElement[bool]:
    return exists().where(Suppression.address == func.lower(_TABLE.c.address))


def retry(session: Session, message_id: str, states: Collection[RecipientState] = FAILED_STATES) -> int:
    """The failed ─▶ queued, and how many; what waits for its next time goes now."""
    failed = and_(_TABLE.c.message_id == message_id, _TABLE.c.state.in_(states))
    _change(session, and_(failed, _is_unwanted()), RecipientState.SUPPRESSED)
    changed = _change(session, failed, RecipientState.QUEUED, tries=0, next_at=now())
    deferred = and_(_TABLE.c.message_id == message_id, _TABLE.c.state == RecipientState.DEFERRED)
    _change(session, deferred, RecipientState.DEFERRED, next_at=now())
    return changed


def _open_of(message_id: str) -> ColumnElement[bool]:
    return and_(_TABLE.c.message_id == message_id, _TABLE.c.state.in_(OPEN_STATES))


def _change(session: Session, where: ColumnElement[bool], state: RecipientState, **values: Any) -> int:
    statement = update(_TABLE).where(where).values(state=state.value, changed_at=now(), **values)
    return cast(CursorResult[Any], session.execute(statement)).rowcount
