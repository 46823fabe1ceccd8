"""SQL against the broker, queue by queue: what the home page and the API show beside the drift of the books.

Only what beat wrote down is read here, with its age: a broker that is away never slows a page. Nothing here commits.
"""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from flaskapp.jobs.clock import now
from flaskapp.jobs.lost import in_hands, make_row, under_way
from flaskapp.jobs.models import Job, JobState, Probe


class Compared(NamedTuple):
    queue: str
    #: Jobs that SQL calls queued, now.
    queued: int
    #: Messages that the broker had ready when it last answered; None: it has no such queue, or was never asked.
    messages: int | None
    #: At that moment: queued jobs in no worker's hands less messages. Above 0 messages are missing; below 0 some are
    #: spare (duplicates, or not ours). A few that come and go are on their way.
    gap: int | None
    answered_at: datetime | None
    #: Seconds since then, by the database's clock.
    answered_ago: float | None
    #: Jobs whose messages were proven lost at the last look, up to twenty of their ids, and when that was.
    lost: int
    lost_ids: list[str]
    looked_at: datetime | None


def compare(session: Session) -> list[Compared]:
    """Every queue that beat has asked about or that has queued jobs."""
    queued = _queued(session)
    rows = {row.queue: row for row in session.scalars(select(Probe).execution_options(populate_existing=True))}
    moment = session.execute(select(now())).scalar_one()
    found = []
    for queue in sorted({*queued, *rows}):
        row = rows.get(queue) or Probe(queue=queue, lost=0, lost_ids="[]")
        found.append(
            Compared(
                queue,
                queued.get(queue, 0),
                row.messages,
                row.gap,
                row.answered_at,
                None if row.answered_at is None else (moment - row.answered_at).total_seconds(),
                row.lost,
                json.loads(row.lost_ids),
                row.looked_at,
            )
        )
    return found


def note_counts(session: Session, counts: Mapping[str, int | None]) -> None:
    """What the broker says just now about how many messages each queue has ready."""
    queued, held = _queued(session), _held(session)
    # A probe that stands in line is a message too.
    probed = {probe.queue for probe in under_way(session) if probe.seen_ago is None}
    for queue, messages in counts.items():
        make_row(session, queue)
        gap = None if messages is None else queued.get(queue, 0) - held.get(queue, 0) - messages + (queue in probed)
        noted = update(Probe).where(Probe.queue == queue).values(messages=messages, gap=gap, answered_at=now())
        session.execute(noted.execution_options(synchronize_session=False))


def _queued(session: Session) -> dict[str, int]:
    counted = select(Job.queue, func.count()).where(Job.state == JobState.QUEUED).group_by(Job.queue)
    return dict(session.execute(counted).all())


def _held(session: Session) -> dict[str, int]:
    ids = sorted(in_hands(session))
    held: dict[str, int] = {}
    for start in range(0, len(ids), 500):
        mine = select(Job.queue, func.count()).where(Job.state == JobState.QUEUED, Job.id.in_(ids[start : start + 500]))
        for queue, count in session.execute(mine.group_by(Job.queue)):
            held[queue] = held.get(queue, 0) + count
    return held
