"""Sending in the background, and picking up what lost its job.

A lane of a message is one job for as long as something of it is left: when it has to wait, it waits as a row.
"""

import json
from typing import Any

from celery import shared_task
from celery.exceptions import Ignore
from flask import current_app
from sqlalchemy import select

from flaskapp.config import Settings
from flaskapp.extensions import db
from flaskapp.jobs.outcomes import Claimed
from flaskapp.mail import files, links, queries, recipients, routes
from flaskapp.mail.addresses import Mailbox
from flaskapp.mail.composing import Composer, Letter
from flaskapp.mail.delivering import Delivery, LetterOf
from flaskapp.mail.merge_texts import Merge
from flaskapp.mail.models import Attachment, Message
from flaskapp.mail.transport import open_transport
from flaskapp.worker.attempt import current_attempt

#: More than a slice, and more than a server that answers one byte at a time may take.
_TIME_LIMIT = 300
_LONGEST_WAIT_SECONDS = 3600.0


@shared_task(name="mail.deliver", bind=True, internal=True, max_retries=None, time_limit=_TIME_LIMIT)
def deliver(self: Any, message_id: str, lane: int) -> dict[str, Any]:
    """Send what is due of one lane; waits as a row for what is due later."""
    from flaskapp.mail import actions

    message = db.session.get(Message, message_id)
    if message is None or lane >= message.lanes:
        raise Ignore(f"The message {message_id} is gone.")
    settings: Settings = current_app.config["SETTINGS"]
    holder, transport = _holder(), open_transport(settings)
    recipients.give_up_lost(db.session(), recipients.of_earlier_attempt(holder), transport.is_repeatable)
    recipients.expire(db.session(), message_id)
    recipients.suppress_unwanted(db.session(), message_id)
    if message.stopped_job_id == self.request.id:
        # Somebody cancelled this job and now runs it again: he wants the mail sent, by all its lanes.
        actions.resume(db.session(), message)
    composer = Composer(message, files.files_of(db.session(), message_id))
    total = queries.total(db.session(), message_id)
    db.session.refresh(message)
    db.session.expunge(message)
    db.session.commit()
    wait = 0.0
    if message.paused_at is None and message.is_ready:
        delivery = Delivery(settings, message, lane, holder, transport)
        begun = queries.finished(db.session(), message_id)
        db.session.rollback()
        try:
            wait = delivery.run(
                _letters(settings, message, composer),
                lambda done: self.progress(begun + done, total, "Sending"),
            )
        finally:
            transport.close()
    return _end(self, message_id, lane, wait)


def _end(task: Any, message_id: str, lane: int, wait: float) -> dict[str, Any]:
    """Wait for what is left, or be done. Locked until this success is committed: a resume comes before or after."""
    message = queries.locked(db.session(), message_id)
    if message.cancelled_at is not None:
        # Who was being sent to as somebody cancelled, and was told "later".
        recipients.cancel(db.session(), message_id)
    if message.paused_at is not None:
        return {"paused": True, **queries.counts(db.session(), message_id)}
    soonest = recipients.seconds_to_next(db.session(), message_id, lane, message.lanes)
    if soonest is not None:
        # To the expiry at the latest, where the rest is given up.
        task.retry(throw=False, countdown=min(max(soonest, wait), _LONGEST_WAIT_SECONDS))
    return queries.counts(db.session(), message_id)


def _letters(settings: Settings, message: Message, composer: Composer) -> LetterOf:
    merge = Merge(message.subject, message.text) if message.is_template else None

    def letter(recipient: Any) -> Letter:
        to = Mailbox(recipient.address, recipient.name)
        link = links.link(settings, message.id, recipient.number) if message.can_unsubscribe else None
        if merge is None:
            return composer.letter(recipient.number, to, link)
        texts = merge.letter_texts(json.loads(recipient.variables or "{}"))
        return composer.filled_letter(recipient.number, to, texts, link)

    return letter


def _holder() -> Claimed:
    attempt = current_attempt()
    if attempt is None:
        raise Ignore("Mail is sent by jobs only.")
    return attempt.claimed


@shared_task(name="mail.sweep", internal=True)
def sweep() -> dict[str, int]:
    """Half-sent by nobody becomes unknown; what is due and has no job gets one; files that no mail knows go.

    A merge whose job failed says so.
    """
    from flaskapp.mail import actions

    settings: Settings = current_app.config["SETTINGS"]
    lost = recipients.give_up_lost(db.session(), recipients.of_nobody(), open_transport(settings).is_repeatable)
    db.session.commit()
    recipients.expire(db.session())
    db.session.commit()
    for message, why in queries.left_unprepared(db.session()):
        # Three crashes, say. Whoever runs that job again has it filled after all.
        message.problem = f"Its rows were not filled: {why or 'its job is gone'} Nothing was sent."
        message.stopped_job_id = message.job_id
    db.session.commit()
    started = 0
    for message in queries.abandoned(db.session()):
        actions.start(db.session(), message)
        db.session.commit()
        started += 1
    routes.forget_old(db.session())
    known = set(db.session.scalars(select(Attachment.file_id)))
    return {"lost": lost, "started": started, "files": files.storage().sweep(known)}
