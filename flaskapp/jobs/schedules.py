"""What people do to a schedule, and its history: pause, resume, run now, remove, and why it did not run.

All of it is SQL: it needs no entry, no beat and no broker at hand. Nothing here commits: the caller owns the
transaction.
"""

import json
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.orm import Session

from flaskapp.errors import BadSchedule
from flaskapp.jobs.clock import now
from flaskapp.jobs.models import FINAL_STATES, Firing, Job, Schedule
from flaskapp.jobs.outcomes import Wish
from flaskapp.jobs.queries import live_workers
from flaskapp.jobs.submitting import new_job_id, submit

#: So many firings of each schedule are kept.
KEPT_FIRINGS = 1000
#: The part of a wish that is the same each time.
_COLUMNS = (
    *("task", "args", "kwargs", "queue", "options", "priority", "owner", "unique_key", "limit_key"),
    *("max_retries", "time_limit", "soft_time_limit", "ignore_result"),
)


@dataclass(frozen=True)
class Order:
    """What a schedule submits each time, before there is a due time."""

    wish: Wish
    #: From the due time on; empty: the wish's own moment, if it has one.
    expires_seconds: float | None = None
    delay_seconds: float | None = None

    def due(self, moment: datetime, name: str) -> Wish:
        expires = self.wish.expires_at
        if self.expires_seconds is not None:
            expires = moment + timedelta(seconds=self.expires_seconds)
        run_at = moment + timedelta(seconds=self.delay_seconds or 0)
        return replace(self.wish, job_id=new_job_id(), run_at=run_at, expires_at=expires, schedule=name)

    def to_json(self) -> str:
        fields: dict[str, Any] = {column: getattr(self.wish, column) for column in _COLUMNS}
        if self.wish.expires_at is not None:
            fields["expires_at"] = self.wish.expires_at.isoformat()
        spans = {"expires_seconds": self.expires_seconds, "delay_seconds": self.delay_seconds}
        return json.dumps({"wish": fields, **spans})

    @classmethod
    def of_json(cls, text: str) -> "Order":
        fields = json.loads(text)
        wish = fields.pop("wish")
        if (expires := wish.get("expires_at")) is not None:
            wish["expires_at"] = datetime.fromisoformat(expires)
        return cls(Wish(**wish), **fields)


def schedule_by_name(session: Session, name: str) -> Schedule | None:
    return session.get(Schedule, name, populate_existing=True)


def pause(session: Session, name: str, by: str) -> bool:
    """Let it make no jobs; False if it is paused already."""
    return _change(session, name, Schedule.paused_at.is_(None), paused_at=now(), paused_by=by[:80])


def resume(session: Session, name: str) -> bool:
    """Let it make jobs again, from now on: what was due meanwhile is not made up. False if it was not paused."""
    return _change(session, name, Schedule.paused_at.is_not(None), paused_at=None, resumed_at=now())


def _change(session: Session, name: str, where: Any, **values: Any) -> bool:
    statement = update(Schedule).where(Schedule.name == name, where).values(values)
    changed = session.execute(statement.execution_options(synchronize_session=False))
    session.expire_all()
    return bool(changed.rowcount)  # type: ignore[attr-defined]


def remove(session: Session, name: str) -> bool:
    """Forget a schedule whose entry is gone, and its history; False if a beat still has the entry."""
    gone = delete(Schedule).where(Schedule.name == name, Schedule.gone_at.is_not(None))
    if not session.execute(gone).rowcount:  # type: ignore[attr-defined]
        return False
    session.execute(delete(Firing).where(Firing.schedule == name))
    return True


def run_now(session: Session, schedule: Schedule, by: str | None) -> tuple[str, bool]:
    """Submit its job now, whatever its rhythm; answers the job's id, and False if a live one has its unique key.

    Does not move its due times. Raises BadSchedule with a sentence if there is nothing that could be submitted.
    """
    name = schedule.name
    if schedule.gone_at is not None:
        raise BadSchedule(f"Schedule {name!r} cannot run: its entry is gone from beat_schedule.py.")
    if schedule.problem is not None or schedule.wish is None:
        raise BadSchedule(schedule.problem or f"Schedule {name!r} cannot run yet: start a beat, which reads its entry.")
    order = Order.of_json(schedule.wish)
    moment = session.execute(select(now())).scalar_one()
    wish = replace(order, delay_seconds=None).due(moment, name)
    wish = replace(wish, run_at=None, owner=wish.owner or by)
    # The schedule's row before the job's, as beat does it: in the other order two could wait for each other.
    mine = update(Schedule).where(Schedule.name == name).execution_options(synchronize_session=False)
    session.execute(mine.values(last_job_id=wish.job_id))
    (job_id,) = submit(session, [wish])
    if job_id != wish.job_id:
        session.execute(mine.values(last_job_id=job_id))
        return job_id, False
    reason = f"asked by {by or 'the command line'}"
    session.execute(insert(Firing).values(schedule=name, outcome="asked", reason=reason, job_id=job_id))
    # worker/sessions.py nudges the outbox for these after the commit.
    session.info.setdefault("submitted", []).append(job_id)
    return job_id, True


def live_job(session: Session, name: str) -> Job | None:
    """The oldest job of a schedule that is not final."""
    query = (
        select(Job)
        .join(Firing, Firing.job_id == Job.id)
        .where(Firing.schedule == name, Job.state.not_in(sorted(FINAL_STATES)))
        .order_by(Firing.id)
        .limit(1)
    )
    return session.scalars(query.execution_options(populate_existing=True)).first()


def history(session: Session, name: str, limit: int) -> list[Firing]:
    """What became of its newest due times, newest first."""
    query = select(Firing).where(Firing.schedule == name).order_by(Firing.id.desc()).limit(limit)
    return list(session.scalars(query.execution_options(populate_existing=True)))


def prune_firings(session: Session, keep: int = KEPT_FIRINGS) -> int:
    """Keep the newest firings of each schedule; answers how many went."""
    counted = select(Firing.schedule).group_by(Firing.schedule).having(func.count() > keep)
    pruned = 0
    for name in session.scalars(counted).all():
        newest = select(Firing.id).where(Firing.schedule == name).order_by(Firing.id.desc())
        oldest_kept = session.execute(newest.offset(keep - 1).limit(1)).scalar_one()
        old = delete(Firing).where(Firing.schedule == name, Firing.id < oldest_kept)
        pruned += session.execute(old.execution_options(synchronize_session=False)).rowcount  # type: ignore[attr-defined]
    return pruned


# --- why did it not run? ----------------------------------------------------------------------------------


def somebody_looks(session: Session) -> bool:
    """True if a beat, or a worker that stands in for one, is alive."""
    return bool(live_workers(session, within_seconds=15))


def standing(schedule: Schedule, is_watched: bool) -> str | None:
    """One sentence if it is not going to run; None if it is."""
    if schedule.gone_at is not None:
        return "Its entry is gone from beat_schedule.py: it does not run."
    if schedule.problem is not None:
        return schedule.problem
    if schedule.paused_at is not None:
        return f"Paused by {schedule.paused_by or 'somebody'}: it makes no jobs."
    if not is_watched:
        return "No beat and no worker is running: nobody looks whether it is due."
    return None if schedule.next_due_at else "It has no further due time."


def words(firing: Firing) -> str:
    """What became of a due time, as a sentence."""
    if firing.outcome == "fired":
        return "Became a job."
    if firing.outcome == "asked":
        return f"Run by hand, {firing.reason}."
    return f"Not run{_often(firing.times)}: {firing.reason}."


def _often(times: int | None) -> str:
    if times is None:
        return " more than 1,000 times"
    return f" {times:,} times" if times > 1 else ""
