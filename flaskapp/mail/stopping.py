"""Who cancels a job of mail stops its message, in the same transaction.

Sending: the message is paused. Nobody else gets it, nothing is given up, and either "go on" at the message or "run
again" at the job sends the rest. Filling the rows of a merge: its recipients go, and nothing was sent.
"""

from sqlalchemy import delete, exists, select
from sqlalchemy.orm import Session

from flaskapp.jobs.clock import now
from flaskapp.jobs.companions import COMPANIONS, Stop
from flaskapp.mail import merging, queries, tasks
from flaskapp.mail.models import UNFINISHED_STATES, Message, Recipient

STOPPED_EARLY = "Its job was cancelled before all rows were filled. Nothing was sent."


def _delivery(session: Session, job_id: str, args: str) -> Stop | None:
    message = _locked(session, args)
    if message is None:
        return None

    def stop() -> None:
        # Who is just being sent to is still in the hands of an attempt that counts no more: he becomes unknown.
        unfinished = exists().where(Recipient.message_id == message.id, Recipient.state.in_(UNFINISHED_STATES))
        if message.paused_at is None and session.scalar(select(unfinished)):
            message.paused_at = session.execute(select(now())).scalar_one()
            message.stopped_job_id = job_id
            session.flush()

    return stop


def _preparation(session: Session, job_id: str, args: str) -> Stop | None:
    message = _locked(session, args)
    if message is None or message.is_ready or message.problem:
        return None

    def stop() -> None:
        session.execute(delete(Recipient).where(Recipient.message_id == message.id))
        message.problem, message.stopped_job_id = STOPPED_EARLY, job_id
        session.flush()

    return stop


def _locked(session: Session, args: str) -> Message | None:
    message_id = queries.message_id_of(args)
    return queries.locked_if_there(session, message_id) if message_id is not None else None


COMPANIONS[tasks.deliver.name] = _delivery
COMPANIONS[merging.prepare.name] = _preparation
