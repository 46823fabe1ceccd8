"""Mail merge: one message, a row of an uploaded table for each recipient.

Every row is filled and checked before anything is sent: one that cannot be sends nothing. The first thousand, or as
many as two seconds allow, are checked while the person waits, so that a mistake mostly stands beside the form; all of
them by the job. The recipients go in by short commits; until the last one is there the message is not ready and no job
looks at it.
"""

import json
import time
from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import islice
from typing import Any
from uuid import uuid4

from celery import shared_task
from celery.exceptions import Ignore
from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from flaskapp.errors import BadArguments
from flaskapp.extensions import db
from flaskapp.jobs.clock import now
from flaskapp.mail import actions, composing, people, queries
from flaskapp.mail.addresses import MOST_RECIPIENTS, Mailbox, mailbox
from flaskapp.mail.merge_texts import Merge
from flaskapp.mail.models import Message, Recipient
from flaskapp.uploads.models import Upload
from flaskapp.uploads.storage import IncomingFile

_AT_ONCE = 1000
_SECONDS_AT_THE_FORM = 2.0
#: Rows that take long are fewer at once, so that a cancel is seen.
_SECONDS_AT_ONCE = 1.0
#: So are long ones.
_CHARACTERS_AT_ONCE = 5_000_000


def write(
    session: Session,
    upload: Upload,
    column: str,
    subject: str,
    text: str,
    owner: str,
    *,
    attachments: Sequence[tuple[str, bytes | IncomingFile]] = (),
    send_at: datetime | None = None,
    expires_at: datetime | None = None,
    at_least_once: bool = False,
    message_id: str | None = None,
) -> Message:
    """A message to everybody in the table; a job fills and checks its rows first. The caller commits."""
    check(upload, column, subject, text)
    moment: datetime = session.execute(select(now())).scalar_one()
    send_at, expires_at = actions.span(moment, send_at, expires_at)
    message = Message(
        id=message_id or str(uuid4()),
        owner=owner,
        sender=actions.settings().mail_from,
        subject=subject,
        text=text,
        is_template=True,
        can_unsubscribe=True,
        is_ready=False,
        at_least_once=at_least_once,
        created_at=moment,
        send_at=send_at,
        expires_at=expires_at,
        lanes=actions.lanes_for(upload.rows or 0),
    )
    message.job_id = prepare.apply_async((message.id, upload.id, column)).id
    session.add(message)
    actions.attach(session, message, attachments)
    session.flush()
    return message


def check(upload: Upload, column: str, subject: str, text: str) -> None:
    """What can be seen at once; raises BadArguments."""
    if upload.table_name is None:
        raise BadArguments("This table is not loaded yet. Wait for its job to end.")
    if column not in people.columns_of(upload):
        raise BadArguments("Choose the column that holds the addresses.")
    if (upload.rows or 0) > MOST_RECIPIENTS:
        raise BadArguments(f"The table has more than {MOST_RECIPIENTS:,} rows. Split it.")
    composing.check_texts(subject, text)
    merge = Merge(subject, text)
    merge.check_names(upload)
    ends = time.monotonic() + _SECONDS_AT_THE_FORM
    for _ in islice(_checked(merge, upload, column, set()), _AT_ONCE):
        if time.monotonic() > ends:
            break


@shared_task(name="mail.prepare", bind=True, internal=True)
def prepare(self: Any, message_id: str, upload_id: str, column: str) -> dict[str, Any]:
    """Make the recipients of a merge. If we die half-way, the next attempt begins with those rows gone."""
    message, upload = db.session.get(Message, message_id), db.session.get(Upload, upload_id)
    if message is not None and message.stopped_job_id == self.request.id:
        # Cancelled, and run again.
        message.problem = message.stopped_job_id = None
    if message is None or message.is_ready or message.problem or message.job_id != self.request.id:
        raise Ignore("The message is gone, or its recipients are there already.")
    _forget(message_id)
    count = 0
    try:
        if upload is None or upload.table_name is None:
            raise BadArguments("The table is gone. Upload it again.")
        merge, seen = Merge(message.subject, message.text), set[str]()
        for group in _in_groups(_checked(merge, upload, column, seen)):
            if queries.locked(db.session(), message_id).cancelled_at is not None:
                break
            actions.add_recipients(db.session(), message, group, first=count)
            count += len(group)
            # A checkpoint: guarded by the attempt's fence, and nobody waits long for SQLite's one writer.
            db.session.commit()
            self.progress(count, upload.rows, "Filling rows")
    except BadArguments as problem:
        db.session.rollback()
        _forget(message_id)
        message = queries.locked(db.session(), message_id)
        message.problem = f"{problem} Nothing was sent."
        return {"problem": message.problem}
    message = queries.locked(db.session(), message_id)
    if message.cancelled_at is not None:
        _forget(message_id)
        return {"recipients": 0}
    message.is_ready = True
    if not count:
        message.problem = "The table has no rows. Nothing was sent."
    actions.start(db.session(), message)
    return {"recipients": count}


def _checked(merge: Merge, upload: Upload, column: str, seen: set[str]) -> Iterator[tuple[Mailbox, str]]:
    """Each address once, with the values that its texts need."""
    for number, variables in people.rows_of(upload, merge.names | {column}):
        try:
            to = mailbox(str(variables.get(column, "")), f"Row {number}")
            merge.filled(variables)
        except BadArguments as problem:
            words = str(problem)
            raise BadArguments(words if words.startswith("Row ") else f"Row {number}: {words}") from problem
        if to.address.lower() not in seen:
            seen.add(to.address.lower())
            used = {name: value for name, value in variables.items() if name in merge.names}
            yield to, json.dumps(used)


def _in_groups(rows: Iterator[tuple[Mailbox, str]]) -> Iterator[list[tuple[Mailbox, str | None]]]:
    group: list[tuple[Mailbox, str | None]] = []
    ends, length = time.monotonic() + _SECONDS_AT_ONCE, 0
    for to, variables in rows:
        group.append((to, variables))
        length += len(variables)
        if len(group) == _AT_ONCE or length > _CHARACTERS_AT_ONCE or time.monotonic() > ends:
            yield group
            group, length, ends = [], 0, time.monotonic() + _SECONDS_AT_ONCE
    if group:
        yield group


def _forget(message_id: str) -> None:
    db.session.execute(delete(Recipient).where(Recipient.message_id == message_id))
    db.session.commit()
