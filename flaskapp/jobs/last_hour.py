"""What ended and how long it had waited, minute by minute: the raw material of the charts.

Counted by the database, so that an hour of a million jobs is sixty short rows for the page.
"""

from typing import Any, NamedTuple

from sqlalchemy import Float, func, select
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import Session
from sqlalchemy.sql.functions import FunctionElement

from flaskapp.jobs.clock import now, seconds_from_now
from flaskapp.jobs.models import FINAL_STATES, Job


class Minute(NamedTuple):
    #: 0 is the minute that ends now.
    minutes_ago: int
    state: str
    jobs: int
    #: Seconds between being due and being started, of those that were started.
    mean_wait: float | None
    longest_wait: float | None


def minutes(session: Session, count: int = 60, owner: str | None = None) -> list[Minute]:
    """Jobs that ended in each of the last `count` minutes, by the state they ended in."""
    ago = func.floor(seconds_between(Job.finished_at, now()) / 60).label("minutes_ago")
    wait = seconds_between(Job.run_at, Job.started_at)
    query = select(ago, Job.state, func.count(), func.avg(wait), func.max(wait)).where(
        Job.state.in_(sorted(FINAL_STATES)), Job.finished_at > seconds_from_now(-60 * count)
    )
    if owner is not None:
        query = query.where(Job.owner == owner)
    rows = session.execute(query.group_by(ago, Job.state))
    return [Minute(int(row[0]), row[1], row[2], _positive(row[3]), _positive(row[4])) for row in rows]


class QueueMinute(NamedTuple):
    queue: str
    #: 0 is the minute that ends now.
    minutes_ago: int
    jobs: int


def minutes_of_queues(session: Session, count: int = 60) -> list[QueueMinute]:
    """Jobs of each queue that ended in each of the last `count` minutes."""
    ago = func.floor(seconds_between(Job.finished_at, now()) / 60).label("minutes_ago")
    query = select(Job.queue, ago, func.count()).where(
        Job.state.in_(sorted(FINAL_STATES)), Job.finished_at > seconds_from_now(-60 * count)
    )
    return [QueueMinute(row[0], int(row[1]), row[2]) for row in session.execute(query.group_by(Job.queue, ago))]


def _positive(seconds: Any) -> float | None:
    # A worker may start a job a moment before its nominal time as another clock sees it.
    return None if seconds is None else max(0.0, float(seconds))


class seconds_between(FunctionElement[float]):
    """Seconds from the first time to the second; negative when they come the other way round."""

    type = Float()
    inherit_cache = True
    name = "seconds_between"


@compiles(seconds_between, "sqlite")
def _(element: Any, compiler: Any, **options: Any) -> str:
    first, second = (compiler.process(part, **options) for part in element.clauses)
    return f"((julianday({second}) - julianday({first})) * 86400.0)"


@compiles(seconds_between, "postgresql")
def _(element: Any, compiler: Any, **options: Any) -> str:
    first, second = (compiler.process(part, **options) for part in element.clauses)
    return f"CAST(EXTRACT(EPOCH FROM ({second} - {first})) AS double precision)"


@compiles(seconds_between, "mysql", "mariadb")
def _(element: Any, compiler: Any, **options: Any) -> str:
    first, second = (compiler.process(part, **options) for part in element.clauses)
    return f"(TIMESTAMPDIFF(MICROSECOND, {first}, {second}) / 1000000.0)"
