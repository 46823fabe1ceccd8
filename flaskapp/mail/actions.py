"""What people do with mail: write it, hold it, let it go on, stop it, try the failed again.

Nothing here commits: the message, its recipients and its jobs come into being together or not at all.
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

from flask import current_app
from sqlalchemy import Table, insert, select
from sqlalchemy.orm import Session

from flaskapp.config import Settings
from flaskapp.errors import BadArguments
from flaskapp.extensions import db
from flaskapp.jobs import control
from flaskapp.jobs.clock import now
from flaskapp.mail import files, queries, recipients
from flaskapp.mail.addresses import Mailbox, mailboxes
from flaskapp.mail.composing import check_texts
from flaskapp.mail.models import FAILED_STATES, Message, Recipient, RecipientState, Suppression
from flaskapp.mail.tasks import deliver
from flaskapp.uploads.storage import IncomingFile
from flaskapp.worker.sessions import wake_relay

#: What was not sent by then, because the server was away or said "later", is given up.
EXPIRES_AFTER = timedelta(days=2)
MOST_ATTACHED_BYTES = 20_000_000
_MOST_FILES = 20
#: From here on a message gets more than one connection.
_MANY = 200
_ROWS_AT_ONCE = 1000


def write(
    to: Iterable[str],
    subject: str,
    text: str,
    html: str | None = None,
    attachments: Sequence[tuple[str, bytes | IncomingFile]] = (),
    owner: str | None = None,
    send_at: datetime | None = None,
    *,
    expires_at: datetime | None = None,
    at_least_once: bool = False,
    reply_to: str | None = None,
    origin: str | None = None,
    message_id: str | None = None,
) -> Message:
    """A message to each of `to`, in the current transaction of db.session; it is sent once that is committed.

    `attachments` are (name, content). Raises BadArguments with a sentence for what cannot be sent.
    """
    session = db.session()
    mailboxes_ = mailboxes(to)
    check_texts(subject, text, html)
    moment: datetime = session.execute(select(now())).scalar_one()
    send_at, expires_at = span(moment, send_at, expires_at)
    message = Message(
        id=message_id or str(uuid4()),
        owner=owner or "",
        sender=settings().mail_from,
        reply_to=reply_to,
        origin=origin,
        subject=subject,
        text=text,
        html=html or None,
        at_least_once=at_least_once,
        created_at=moment,
        send_at=send_at,
        expires_at=expires_at,
        lanes=lanes_for(len(mailboxes_)),
    )
    session.add(message)
    attach(session, message, attachments)
    session.flush()
    add_recipients(session, message, [(one, None) for one in mailboxes_])
    start(session, message)
    return message


def span(moment: datetime, send_at: datetime | None, expires_at: datetime | None) -> tuple[datetime, datetime]:
    """When a message goes and until when; raises BadArguments."""
    begins = max(send_at.astimezone(UTC), moment) if send_at is not None else moment
    ends = expires_at.astimezone(UTC) if expires_at is not None else begins + EXPIRES_AFTER
    if ends <= begins:
        raise BadArguments("expires_at lies before the message is sent. Choose a later time.")
    return begins, ends


def attach(session: Session, message: Message, attachments: Sequence[tuple[str, bytes | IncomingFile]]) -> None:
    """Keep its files, the same bytes once; raises BadArguments."""
    if len(attachments) > _MOST_FILES:
        raise BadArguments(f"More than {_MOST_FILES} attachments. Put them into one ZIP archive.")
    incoming = [files.receive(name, one) if isinstance(one, bytes) else (name, one) for name, one in attachments]
    if sum(file.size for _, file in incoming) > MOST_ATTACHED_BYTES:
        for _, file in incoming:
            file.discard()
        raise BadArguments(
            f"The attachments have more than {MOST_ATTACHED_BYTES / 1e6:.0f} MB together. Most servers refuse that."
        )
    for name, file in incoming:
        files.keep(session, message.id, name, file)


def lanes_for(count: int) -> int:
    """How many connections send it. SQLite has one writer: a second one would only wait."""
    return 2 if count >= _MANY and db.engine.dialect.name != "sqlite" else 1


def add_recipients(
    session: Session, message: Message, people: Sequence[tuple[Mailbox, str | None]], first: int = 0
) -> None:
    """Rows for (mailbox, its variables as JSON), numbered from `first`; who wants no mail is suppressed at once."""
    for start_ in range(0, len(people), _ROWS_AT_ONCE):
        group = people[start_ : start_ + _ROWS_AT_ONCE]
        addresses = [one.address.lower() for one, _ in group]
        unwanted = set(session.scalars(select(Suppression.address).where(Suppression.address.in_(addresses))))
        rows: list[dict[str, Any]] = [
            {
                "message_id": message.id,
                "number": first + start_ + number,
                "address": one.address,
                "name": one.name,
                "domain": one.domain,
                "variables": variables,
                "state": (
                    RecipientState.SUPPRESSED if one.address.lower() in unwanted else RecipientState.QUEUED
                ).value,
                "tries": 0,
                "next_at": message.send_at,
                "changed_at": message.created_at,
            }
            for number, (one, variables) in enumerate(group)
        ]
        table: Table = Recipient.__table__  # type: ignore[assignment]
        session.execute(insert(table), rows)


def start(session: Session, message: Message) -> None:
    """A job for each lane that has something to do and no job; it is due when the message is."""
    if not message.is_ready:
        return
    for lane, key in enumerate(queries.lane_keys(message)):
        if recipients.seconds_to_next(session, message.id, lane, message.lanes) is None:
            continue
        sent = deliver.apply_async((message.id, lane), eta=message.send_at, unique_key=key, owner=message.owner or None)
        message.job_id = sent.id if lane == 0 else message.job_id or sent.id
    session.flush()


def pause(session: Session, message: Message) -> bool:
    """No further recipient is taken; the one in the middle of it ends. False if it was paused already."""
    locked = queries.locked(session, message.id)
    if locked.paused_at is not None:
        return False
    locked.paused_at = session.execute(select(now())).scalar_one()
    session.flush()
    return True


def resume(session: Session, message: Message) -> bool:
    """False if it was not paused."""
    locked = queries.locked(session, message.id)
    if locked.paused_at is None:
        return False
    # The pause took nothing of the time in which it may be sent.
    stood_still = session.execute(select(now())).scalar_one() - max(locked.paused_at, locked.send_at)
    locked.expires_at += max(stood_still, timedelta(0))
    locked.paused_at = locked.stopped_job_id = None
    session.flush()
    start(session, locked)
    return True


def cancel(session: Session, message: Message) -> int:
    """Whoever has not got it will not, also who is told "later" just now; answers how many."""
    locked = queries.locked(session, message.id)
    is_unfinished = queries.finished(session, message.id) < queries.total(session, message.id)
    count = recipients.cancel(session, message.id)
    if is_unfinished or not locked.is_ready:
        locked.cancelled_at = locked.cancelled_at or session.execute(select(now())).scalar_one()
        session.flush()
        # Nothing is left for them.
        _wake_lanes(session, locked)
    return count


def retry(session: Session, message: Message, also_unknown: bool = False) -> int:
    """Send again to those who failed, and now to those who wait for their next time; answers how many failed."""
    locked = queries.locked(session, message.id)
    states = (*FAILED_STATES, RecipientState.UNKNOWN) if also_unknown else FAILED_STATES
    count = recipients.retry(session, message.id, states)
    if count:
        moment: datetime = session.execute(select(now())).scalar_one()
        locked.expires_at, locked.cancelled_at = max(locked.expires_at, moment + EXPIRES_AFTER), None
        session.flush()
        start(session, locked)
        _wake_lanes(session, locked)
    return count


def _wake_lanes(session: Session, message: Message) -> None:
    """Those that wait for a later time look at once whom there is to send to, and end if there is nobody."""
    control.make_due(session, queries.lane_keys(message))
    wake_relay(session)


def suppress(session: Session, address: str, reason: str) -> bool:
    """No more mail to this address, also none that is on its way; False if it was on the list already."""
    lower = address.lower()
    is_new = session.get(Suppression, lower) is None
    if is_new:
        words = "".join(char for char in reason if char.isprintable())
        session.add(Suppression(address=lower, reason=words[:255]))
        session.flush()
    recipients.suppress(session, address)
    return is_new


def unsuppress(session: Session, address: str) -> bool:
    """It may get mail again; False if it was not on the list."""
    found = queries.suppression(session, address)
    if found is not None:
        session.delete(found)
        session.flush()
    return found is not None


def settings() -> Settings:
    settings: Settings = current_app.config["SETTINGS"]
    return settings
