"""How lost messages are found: a numbered probe goes through each queue as the messages of its jobs do.

A queue is first in, first out. What was confirmed before the probe was sent has reached a worker before it did: if it
is still queued a margin later, and in no worker's hands, its message is gone. The end of the search is the arrow
`requeue_lost`. Nothing here commits: the caller owns the transaction.
"""

import json
from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple, cast

from sqlalchemy import CursorResult, Update, func, insert, null, select, true, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from flaskapp.jobs.clock import now, seconds_from_now
from flaskapp.jobs.models import Job, JobState, Probe, Worker

#: So many probes missing in a row, before idle workers: the queue lets nothing through.
MOST_MISSING = 3
#: A job whose message was lost again and again is sent again at least this often.
_LONGEST_SECONDS = 3600
#: A worker whose last sign of life is older is not idle, but away.
_ALIVE_SECONDS = 5
_SHOWN_IDS = 20


class UnderWay(NamedTuple):
    """A probe that was sent and not yet judged."""

    queue: str
    number: int
    #: How many before it went missing.
    missing: int
    sent_at: datetime
    #: Seconds, by the database's clock.
    sent_ago: float
    #: Empty until a worker received it.
    seen_ago: float | None


# --- the probe --------------------------------------------------------------------------------------------


def queues_to_probe(session: Session, margin: float) -> list[str]:
    """Where jobs have been queued for longer than the margin, and no probe is under way."""
    busy = select(Probe.queue).where(Probe.sent_at.is_not(None))
    old = select(Job.queue).where(Job.state == JobState.QUEUED, Job.queue.not_in(busy)).group_by(Job.queue)
    return list(session.scalars(old.having(func.min(Job.queued_at) < seconds_from_now(-margin))))


def begin(session: Session, queue: str) -> int | None:
    """The number of the next probe, which is about to be sent; None if another beat was first.

    If we die before it is sent, it goes missing and the next one is sent.
    """
    make_row(session, queue)
    free = update(Probe).where(Probe.queue == queue, Probe.sent_at.is_(None))
    if not _changed(session, free.values(number=Probe.number + 1, sent_at=now(), seen_at=null())):
        return None
    return session.scalars(select(Probe.number).where(Probe.queue == queue)).one()


def make_row(session: Session, queue: str) -> None:
    if session.scalars(select(Probe.queue).where(Probe.queue == queue)).first() is None:
        try:
            with session.begin_nested():
                session.execute(insert(Probe).values(queue=queue))
        except IntegrityError:
            return  # another process made it first: the row is all we wanted


def not_sent(session: Session, queue: str, number: int) -> None:
    """The broker did not take it: that says nothing about the jobs before it."""
    _changed(session, _sent(queue, number).values(sent_at=null()))


def see(session: Session, queue: str, number: int) -> None:
    """A worker received it. One that was thought missing shows at least that the queue lets something through."""
    if not _changed(session, _sent(queue, number).values(seen_at=now(), missing=0)):
        _changed(session, update(Probe).where(Probe.queue == queue, Probe.number >= number).values(missing=0))


def handed_back(session: Session, job_ids: Collection[str]) -> None:
    """Their messages are in line again, maybe behind the probe under way: it proves nothing. The next may be sent.

    Call this once the broker has them, and while they still count as in the worker's hands.
    """
    queues = session.scalars(select(Job.queue).where(Job.id.in_(job_ids)).distinct()).all()
    for queue in sorted(queues):
        _changed(session, update(Probe).where(Probe.queue == queue).values(sent_at=null(), seen_at=null()))


def still_stands(session: Session, probe: UnderWay) -> bool:
    """True if no message came back into line meanwhile; none can until the caller's transaction ends."""
    same = select(Probe.number).where(Probe.queue == probe.queue, Probe.number == probe.number)
    return session.scalar(same.where(Probe.seen_at.is_not(None)).with_for_update()) is not None


def miss(session: Session, probe: UnderWay) -> bool:
    """It did not arrive where it should have: the next one may be sent. False if it has arrived just now."""
    gone = _sent(probe.queue, probe.number)
    return _changed(session, gone.values(sent_at=null(), missing=Probe.missing + 1))


def under_way(session: Session) -> list[UnderWay]:
    query = select(Probe, now()).where(Probe.sent_at.is_not(None)).order_by(Probe.queue)
    rows = session.execute(query.execution_options(populate_existing=True))
    return [_under_way(probe, probe.sent_at, moment) for probe, moment in rows if probe.sent_at is not None]


def _under_way(probe: Probe, sent_at: datetime, moment: datetime) -> UnderWay:
    seen_ago = None if probe.seen_at is None else (moment - probe.seen_at).total_seconds()
    sent_ago = (moment - sent_at).total_seconds()
    return UnderWay(probe.queue, probe.number, probe.missing, sent_at, sent_ago, seen_ago)


# --- what it proves ---------------------------------------------------------------------------------------


def idle_queues(session: Session) -> set[str]:
    """Queues that a worker listens to which has a free slot and no message in its hands."""
    alive = select(Worker.queues, Worker.holds, Worker.concurrency).where(
        Worker.kind == "worker", Worker.unclaimed == "[]", Worker.heartbeat_at > seconds_from_now(-_ALIVE_SECONDS)
    )
    free = [row.queues for row in session.execute(alive) if len(json.loads(row.holds)) < row.concurrency]
    return {queue for queues in free for queue in queues.split(",")}


def overtaken(session: Session, probe: UnderWay) -> bool:
    """A job that was queued after it runs already: in a queue, only what is gone is overtaken."""
    later = select(Job.id).where(Job.state == JobState.RUNNING, Job.queue == probe.queue, Job.queued_at > probe.sent_at)
    return session.execute(later.limit(1)).first() is not None


def lost_before(session: Session, queue: str, sent_at: datetime, margin: float) -> list[str]:
    """Jobs of the queue that were confirmed before that moment, are still queued, and in no worker's hands.

    Each is named again only after twice the time: should we be wrong, the harm stays small.
    """
    query = select(Job.id, Job.queued_at, Job.losses, now().label("moment")).where(
        Job.state == JobState.QUEUED, Job.queue == queue, Job.queued_at < sent_at
    )
    held = in_hands(session)
    return [
        row.id
        for row in session.execute(query.order_by(Job.queued_at))
        if row.id not in held and row.moment - row.queued_at >= _patience(margin, row.losses)
    ]


def in_hands(session: Session, of: Collection[str] | None = None) -> set[str]:
    """Ids of the jobs whose messages a worker (or one of these) holds unclaimed; a slow one may do so for minutes."""
    mine = true() if of is None else Worker.id.in_(of)
    held = session.scalars(select(Worker.unclaimed).where(Worker.unclaimed.is_not(None), mine))
    return {job_id for ids in held for job_id in json.loads(str(ids))}


def close(session: Session, probe: UnderWay, lost: Sequence[str]) -> None:
    """The look is over; what it found stays to be seen. The next probe may be sent."""
    found = {"lost": len(lost), "lost_ids": json.dumps(list(lost[:_SHOWN_IDS])), "looked_at": now()}
    mine = update(Probe).where(Probe.queue == probe.queue, Probe.number == probe.number)
    if probe.seen_ago is not None:
        # Another beat may have closed it with what it found, and then there was nothing left for us to find.
        mine = mine.where(Probe.seen_at.is_not(None))
    _changed(session, mine.values(sent_at=null(), seen_at=null(), **found))


def queues_with_jobs(session: Session, known: Collection[str]) -> list[str]:
    queued = session.scalars(select(Job.queue).where(Job.state == JobState.QUEUED).distinct())
    return sorted({*known, *queued})


def _patience(margin: float, losses: int) -> timedelta:
    return timedelta(seconds=min(_LONGEST_SECONDS, margin * 2 ** min(losses, 20)))


def _sent(queue: str, number: int) -> Update:
    sent = Probe.sent_at.is_not(None) & Probe.seen_at.is_(None)
    return update(Probe).where(Probe.queue == queue, Probe.number == number, sent)


def _changed(session: Session, statement: Update) -> bool:
    done = session.execute(statement.execution_options(synchronize_session=False))
    return bool(cast(CursorResult[Any], done).rowcount)
