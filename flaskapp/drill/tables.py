"""What the drill reads from the tables while it runs, and what it does to them: to rows of its own queue only.

Each function commits what it changes.
"""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import and_, delete, func, select
from sqlalchemy.orm import Session

from flaskapp.diagnostics.models import Effect
from flaskapp.drill.victim import Victim
from flaskapp.jobs import lifecycle, queries
from flaskapp.jobs.clock import now, seconds_from_now
from flaskapp.jobs.models import Job, JobState, Probe, Worker
from flaskapp.jobs.pruning import prune_queue
from flaskapp.jobs.retry import MOST_CRASHES

#: A job whose backoff is longer than this is not claimed before the next kill is done.
_REST_SECONDS = 2.0
_LIVE = sorted(lifecycle.LIVE_STATES)


@dataclass(frozen=True)
class Look:
    """What the table says about the drill's jobs at one moment."""

    live: int = 0
    done: int = 0
    #: In mid-run on the drill's worker.
    running: int = 0
    #: How many that lost their process twice could be hit a third time now.
    at_the_edge: int = 0


class Tables:
    def __init__(self, queue: str, victim: Victim) -> None:
        self._queue = queue
        self._mine = Job.queue == queue
        self._victim = victim
        self._held = and_(victim.is_holder(), Job.state == JobState.RUNNING)

    def look(self, session: Session) -> Look:
        counted = session.execute(select(Job.state, func.count()).where(self._mine).group_by(Job.state))
        states = {JobState(state): jobs for state, jobs in counted}
        done = sum(jobs for state, jobs in states.items() if state.is_final)
        running = session.execute(select(func.count()).where(self._mine, self._held)).scalar_one()
        resting = and_(Job.state == JobState.WAITING, Job.run_at > seconds_from_now(_REST_SECONDS))
        edge = and_(self._mine, Job.crashes >= MOST_CRASHES - 1, Job.state.in_(_LIVE), ~resting)
        at_the_edge = session.execute(select(func.count()).where(edge)).scalar_one()
        return Look(sum(states.values()) - done, done, running, at_the_edge)

    def held(self, session: Session) -> list[str]:
        """The jobs that the table gives to the worker."""
        return list(session.scalars(select(Job.id).where(self._held)))

    def rescue(self, session: Session) -> list[str]:
        """Whatever the table gives to the worker, which is dead: back to waiting, counted as a crash."""
        holders = session.scalars(select(Job.worker).where(self._held))
        rescued = lifecycle.rescue(session, sorted({str(holder) for holder in holders}))
        session.execute(delete(Worker).where(self._victim.is_listed()).execution_options(synchronize_session=False))
        session.commit()
        return rescued

    def clear(self, session: Session, keep: bool) -> None:
        """End what is live; unless it is to be kept, prune the jobs by the books and delete their effects."""
        self.rescue(session)
        for job_id in session.scalars(select(Job.id).where(self._mine, Job.state.in_(_LIVE))).all():
            lifecycle.cancel(session, job_id, by="the end of the drill")
        session.execute(delete(Probe).where(Probe.queue == self._queue))
        session.commit()
        if keep:
            return
        while prune_queue(session, self._queue):
            session.commit()
        session.execute(delete(Effect).where(Effect.key.startswith(f"{self._queue}/", autoescape=True)))
        session.commit()


def moment(session: Session) -> datetime:
    return session.execute(select(now())).scalar_one()


def drift(session: Session) -> int:
    return queries.account(session).drift
