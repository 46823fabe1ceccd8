"""SELECTs about mail: what was written, how far it is, who got it."""

import json
from collections.abc import Sequence
from typing import Any

from sqlalchemy import and_, exists, func, or_, select
from sqlalchemy.exc import NoResultFound
from sqlalchemy.orm import Session, defer

from flaskapp.jobs.clock import now, seconds_from_now
from flaskapp.jobs.lifecycle import LIVE_STATES
from flaskapp.jobs.models import Job
from flaskapp.mail.addresses import as_listed
from flaskapp.mail.models import (
    OPEN_STATES,
    UNFINISHED_STATES,
    Message,
    Recipient,
    RecipientState,
    ReplyTemplate,
    Suppression,
)

#: A megabyte each, perhaps: who asks for many messages does not want to read them.
_WITHOUT_TEXTS = (defer(Message.text), defer(Message.html))


def message_by_id(session: Session, message_id: str, owner: str | None) -> Message | None:
    """None also if it is somebody else's; `owner` None sees all."""
    message = session.get(Message, message_id) if message_id.isprintable() else None
    return message if message is not None and owner in (None, message.owner) else None


def locked(session: Session, message_id: str) -> Message:
    """The message as it is now, until the caller's transaction ends."""
    found = locked_if_there(session, message_id)
    if found is None:
        raise NoResultFound(f"The message {message_id} is gone.")
    return found


def locked_if_there(session: Session, message_id: str) -> Message | None:
    query = select(Message).where(Message.id == message_id).with_for_update()
    return session.scalars(query.execution_options(populate_existing=True)).one_or_none()


def counts(session: Session, message_id: str) -> dict[str, int]:
    """State → how many, only those that there are."""
    return counts_of(session, [message_id]).get(message_id, {})


def counts_of(session: Session, message_ids: Sequence[str]) -> dict[str, dict[str, int]]:
    query = select(Recipient.message_id, Recipient.state, func.count()).where(Recipient.message_id.in_(message_ids))
    found: dict[str, dict[str, int]] = {}
    for message_id, state, number in session.execute(query.group_by(Recipient.message_id, Recipient.state)):
        found.setdefault(message_id, {})[state] = number
    order = [state.value for state in RecipientState]
    return {key: dict(sorted(each.items(), key=lambda one: order.index(one[0]))) for key, each in found.items()}


def total(session: Session, message_id: str) -> int:
    return session.scalar(select(func.count()).where(Recipient.message_id == message_id)) or 0


def finished(session: Session, message_id: str) -> int:
    final = Recipient.state.not_in(UNFINISHED_STATES)
    return session.scalar(select(func.count()).where(Recipient.message_id == message_id, final)) or 0


def recipients(
    session: Session, message_id: str, states: Sequence[str] = (), after: int = -1, limit: int | None = None
) -> list[Recipient]:
    """In the order in which they were written, those after place number `after`; without what fills their mail."""
    # Half a million characters each, perhaps.
    query = select(Recipient).options(defer(Recipient.variables))
    query = query.where(Recipient.message_id == message_id, Recipient.number > after)
    if states:
        query = query.where(Recipient.state.in_(states))
    return list(session.scalars(query.order_by(Recipient.number).limit(limit)))


def messages(session: Session, owner: str | None, older: tuple[Any, str] | None, limit: int) -> list[Message]:
    """Newest first, without their texts; `older` is the time and id of the last one of the page before."""
    query = select(Message).options(*_WITHOUT_TEXTS)
    if owner is not None:
        query = query.where(Message.owner == owner)
    if older is not None:
        at, message_id = older
        query = query.where((Message.created_at < at) | ((Message.created_at == at) & (Message.id < message_id)))
    return list(session.scalars(query.order_by(Message.created_at.desc(), Message.id.desc()).limit(limit)))


def fates(session: Session, message_id: str) -> list[tuple[str, str, str | None]]:
    """Of each recipient address, state and reply, in their order. There may be fifty thousand."""
    query = select(Recipient.address, Recipient.state, Recipient.reply).where(Recipient.message_id == message_id)
    return [(address, state, reply) for address, state, reply in session.execute(query.order_by(Recipient.number))]


def abandoned(session: Session, limit: int = 100) -> list[Message]:
    """Ready and not paused, with something due, although no live job is there for its first or any lane."""
    due = exists().where(
        Recipient.message_id == Message.id, Recipient.state.in_(OPEN_STATES), Recipient.next_at <= now()
    )
    ready = select(Message).where(due, Message.is_ready, Message.paused_at.is_(None))
    query = ready.options(*_WITHOUT_TEXTS).order_by(Message.created_at)
    return [message for message in session.scalars(query) if _missing_lanes(session, message)][:limit]


def left_unprepared(session: Session, limit: int = 100) -> list[tuple[Message, str | None]]:
    """Merges whose rows nobody fills any more, with what their job failed of."""
    live = Job.state.in_(LIVE_STATES)
    waits = and_(Message.is_ready.is_(False), Message.problem.is_(None), Message.cancelled_at.is_(None))
    query = select(Message, Job.error_message).outerjoin(Job, Job.id == Message.job_id)
    rows = session.execute(query.where(waits, or_(Job.id.is_(None), ~live)).limit(limit))
    return [(message, why) for message, why in rows]


def _missing_lanes(session: Session, message: Message) -> bool:
    keys = lane_keys(message)
    return len(session.scalars(select(Job.id).where(Job.live_key.in_(keys))).all()) < len(keys)


def lane_keys(message: Message) -> list[str]:
    """The unique keys of the jobs that send it."""
    return [f"mail:{message.id}:{lane}" for lane in range(message.lanes)]


def live_jobs(session: Session, messages: Sequence[Message]) -> dict[str, list[str]]:
    """Message id → the ids of the jobs that work on it now. Ask before its counts: who watches misses no end."""
    keys = {key: message.id for message in messages for key in lane_keys(message)}
    # Also if its end was committed since the message was read.
    preparing = {message.job_id: message.id for message in messages if not message.is_ready and not message.problem}
    wanted = or_(Job.live_key.in_(keys), Job.id.in_(preparing))
    found: dict[str, list[str]] = {}
    for job_id, key in session.execute(select(Job.id, Job.live_key).where(wanted)):
        found.setdefault(preparing.get(job_id) or keys[str(key)], []).append(job_id)
    return found


def message_of_job(session: Session, job: Job) -> Message | None:
    """The message that a mail job works on, without its texts."""
    wanted = message_id_of(job.args)
    return session.get(Message, wanted, options=_WITHOUT_TEXTS) if wanted is not None else None


def message_id_of(args: str) -> str | None:
    """The first argument of a mail job."""
    try:
        found = json.loads(args)
    except ValueError:
        return None
    wanted = found[0] if isinstance(found, list) and found else None
    return wanted if isinstance(wanted, str) else None


def origins_of_last_hour(session: Session) -> list[list[str]]:
    """Where each message of the contact form came from: its network and, of who was signed in, the account."""
    fresh = Message.created_at > seconds_from_now(-3600)
    query = select(Message.origin).where(Message.owner == "", fresh, Message.origin.is_not(None))
    return [origin.splitlines() for origin in session.scalars(query) if origin]


def templates(session: Session) -> list[ReplyTemplate]:
    return list(session.scalars(select(ReplyTemplate).order_by(ReplyTemplate.name)))


def template_by_name(session: Session, name: str) -> ReplyTemplate | None:
    query = select(ReplyTemplate).where(ReplyTemplate.name == name)
    return session.scalars(query).first() if name.isprintable() else None


def suppression(session: Session, address: str) -> Suppression | None:
    return session.get(Suppression, as_listed(address)) if address.isprintable() else None


def suppressions_by_address(session: Session, after: str, limit: int) -> list[Suppression]:
    query = select(Suppression).where(Suppression.address > after)
    return list(session.scalars(query.order_by(Suppression.address).limit(limit)))


def suppressions(session: Session, limit: int) -> list[Suppression]:
    """Newest first."""
    return list(session.scalars(select(Suppression).order_by(Suppression.created_at.desc()).limit(limit)))
