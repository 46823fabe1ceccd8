"""What becomes of the due times that a turn finds: jobs, or reasons. One transaction for each schedule.

If we die before its commit nothing has happened, and the next turn of any beat finds the same times again; of two
beats the second finds the schedule's row changed and does nothing.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import insert, select, update
from sqlalchemy.orm import Session

from flaskapp.jobs import lifecycle
from flaskapp.jobs.models import Firing, Schedule
from flaskapp.jobs.schedules import history, live_job
from flaskapp.worker.entries import Entry
from flaskapp.worker.rhythms import Rhythm, said

logger = logging.getLogger(__name__)

#: A turn that finds a time older than this finds times that were missed.
LATE_SECONDS = 5.0
#: Of those, `skip` still runs one that is no older than two turns: somebody is there again, and it is due now.
JUST_DUE_SECONDS = 2.0
#: `all` makes up for so many at most.
MOST_MADE_UP = 100
#: A turn looks at so many due times of a schedule at most, the newest; the others are missed and not counted.
MOST_SEEN = 1000
#: Beats sign that they looked every few seconds; a longer silence means that none was there.
_SILENCE_SECONDS = 12.0


def choose(due: Sequence[datetime], moment: datetime, missed: str) -> Sequence[datetime]:
    """Those of the due times, in order, that become jobs; the ones before them do not."""
    if not due or _age(due[0], moment) <= LATE_SECONDS:
        return due
    if missed == "all":
        return due[-MOST_MADE_UP:]
    if missed == "latest" or _age(due[-1], moment) <= JUST_DUE_SECONDS:
        return due[-1:]
    return ()


@dataclass(frozen=True)
class Fire:
    """The due times of one schedule that one turn found."""

    app: Any
    entry: Entry
    rhythm: Rhythm
    #: As it was read at the beginning of the turn.
    row: Schedule
    moment: datetime

    def run(self, session: Session) -> list[str]:
        """Decide and commit; answers the new job ids. Empty also if another beat was first."""
        due = self.rhythm.newest_times(self.row.last_due_at, self.moment, MOST_SEEN)
        if not due or not self._swap(session, due[-1]):
            session.rollback()
            return []
        first = due[0] if len(due) < MOST_SEEN else self.rhythm.next_time(self.row.last_due_at)
        known = self._known(session, first or due[0], due[-1])
        resumed = self.row.resumed_at
        paused = [time for time in due if resumed is not None and time <= resumed]
        chosen = choose(due[len(paused) :], self.moment, self.entry.missed)
        missed = due[len(paused) : len(due) - len(chosen)]
        for times, outcome, reason in ((paused, "paused", self._why_paused()), (missed, "missed", self._why_missed())):
            if times:
                # The turn's oldest times may stand for older ones that it did not look at.
                begins = (first or due[0]) if times[0] == due[0] else times[0]
                if begins not in known:
                    self._remember(session, begins, times, outcome, reason)
        ids = self._submit(session, [time for time in chosen if time not in known])
        session.commit()
        return ids

    def _swap(self, session: Session, newest: datetime) -> bool:
        mine = update(Schedule).where(
            Schedule.name == self.entry.name,
            Schedule.last_due_at == self.row.last_due_at,
            Schedule.paused_at.is_(None),
        )
        following = self.rhythm.next_time(newest)
        swapped = session.execute(mine.values(last_due_at=newest, next_due_at=following, problem=None))
        return bool(swapped.rowcount)  # type: ignore[attr-defined]

    def _known(self, session: Session, first: datetime, last: datetime) -> set[datetime]:
        """Due times that were decided before: somebody set `last_due_at` back by hand."""
        decided = select(Firing.due_at).where(Firing.schedule == self.entry.name, Firing.due_at.between(first, last))
        return {due for due in session.scalars(decided) if due is not None}

    def _submit(self, session: Session, times: Sequence[datetime]) -> list[str]:
        ids: list[str] = []
        if not times:
            return ids
        order = self.entry.order(self.app)
        for due in times:
            live = live_job(session, self.entry.name) if self.entry.overlap == "skip" else None
            if live is not None:
                before = said(live.run_at, self.entry.zone)
                self._skip(session, due, f"the job of {before} was still {live.state} (overlap = skip)", live.id)
                continue
            wish = order.due(due, self.entry.name)
            (job_id,) = lifecycle.submit(session, [wish])
            if job_id != wish.job_id:
                self._skip(session, due, "a job with the same unique key was under way", job_id)
                continue
            session.execute(insert(Firing).values(schedule=wish.schedule, due_at=due, outcome="fired", job_id=job_id))
            ids.append(job_id)
            logger.info("schedule=%s due=%s job=%s", self.entry.name, due.isoformat(), job_id)
        if ids:
            mine = update(Schedule).where(Schedule.name == self.entry.name)
            session.execute(mine.values(last_job_id=ids[-1]))
        return ids

    def _skip(self, session: Session, due: datetime, reason: str, job_id: str) -> None:
        """Once more for the same reason is one row more only if something else happened in between."""
        newest = next(iter(history(session, self.entry.name, 1)), None)
        if newest is not None and (newest.outcome, newest.job_id) == ("skipped", job_id):
            again = update(Firing).where(Firing.id == newest.id)
            session.execute(again.values(until_at=due, times=(newest.times or 1) + 1, reason=reason))
        else:
            self._remember(session, due, [due], "skipped", reason, job_id)

    def _remember(
        self,
        session: Session,
        first: datetime,
        times: Sequence[datetime],
        outcome: str,
        reason: str,
        job_id: str | None = None,
    ) -> None:
        row = {"schedule": self.entry.name, "due_at": first, "outcome": outcome, "reason": reason[:500]}
        row |= {"until_at": times[-1] if times[-1] != first else None, "job_id": job_id}
        row |= {"times": len(times) if times[0] == first else None}
        session.execute(insert(Firing).values(row))

    def _why_paused(self) -> str:
        return f"the schedule was paused until {said(self.row.resumed_at or self.moment, self.entry.zone)}"

    def _why_missed(self) -> str:
        looked, now = self.row.looked_at or self.row.last_due_at, said(self.moment, self.entry.zone)
        why = "no beat was running"
        if self.row.gone_at is not None:
            why = "no beat had its entry"
        elif self.row.problem is not None:
            why = "its entry could not be used"
        elif _age(looked, self.moment) <= _SILENCE_SECONDS:
            return f"beat came to it late, at {now} (missed = {self.entry.missed})"
        return f"{why} between {said(looked, self.entry.zone)} and {now} (missed = {self.entry.missed})"


def _age(due: datetime, moment: datetime) -> float:
    return (moment - due).total_seconds()
