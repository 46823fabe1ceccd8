"""The life of one job as a person would tell it: moments in order, with the time between them.

Built from the job's own row and the attempts that later ones replaced. Nothing is made up: a moment whose
time is not known is left out.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import pairwise

from flaskapp.console.times import utc_now
from flaskapp.jobs.models import Attempt, Job, JobState

#: More attempts than this are folded in the middle.
_SHOWN_FIRST, _SHOWN_LAST = 2, 6

_ENDED = {
    "retried": ("waiting", "Attempt {n} is retried"),
    "stopped": ("waiting", "Put back: its worker was asked to stop"),
    "crashed": ("failed", "The process that ran it was lost"),
    "rescued": ("failed", "Rescued from a worker that went silent"),
    "failed": ("failed", "Attempt {n} failed"),
    "cancelled": ("cancelled", "Attempt {n} was cancelled"),
}


@dataclass(frozen=True)
class Moment:
    #: One of the six states: it gives the colour and the icon.
    state: str
    title: str
    at: datetime
    #: Seconds since the moment before it.
    after: float | None = None
    worker: str | None = None
    error: str = ""
    #: Attempts that are folded away before this moment.
    folded: int = 0
    is_ahead: bool = False


def timeline(job: Job, attempts: Sequence[Attempt], masked: Callable[[str | None], str | None]) -> list[Moment]:
    """Every transition of `job` with the time since the one before; `masked` hides secrets in error texts."""
    moments = [Moment("waiting", _who_asked(job), job.created_at)]
    kept, folded = _fold(attempts)
    for attempt in kept:
        first = len(moments)
        moments += _of_attempt(attempt)
        if folded and attempt is kept[_SHOWN_FIRST]:
            moments[first] = replace(moments[first], folded=folded)
    moments += _of_row(job, moments[-1])
    return [replace(moment, error=masked(moment.error) or "") for moment in _with_spans(moments)]


def _who_asked(job: Job) -> str:
    if job.schedule:
        return f"Asked for by the schedule {job.schedule}"
    if job.parent_id:
        return "Asked for by another job"
    return f"Asked for by {job.owner}" if job.owner else "Asked for"


def _fold(attempts: Sequence[Attempt]) -> tuple[list[Attempt], int]:
    folded = len(attempts) - _SHOWN_FIRST - _SHOWN_LAST
    if folded <= 1:
        return list(attempts), 0
    return [*attempts[:_SHOWN_FIRST], *attempts[-_SHOWN_LAST:]], folded


def _of_attempt(attempt: Attempt) -> list[Moment]:
    state, sentence = _ENDED.get(attempt.outcome, ("waiting", f"Attempt {{n}} ended: {attempt.outcome}"))
    ended = Moment(state, sentence.format(n=attempt.number), attempt.finished_at, error=_error(attempt))
    if attempt.started_at is None:
        return [ended]
    return [Moment("running", f"Attempt {attempt.number}", attempt.started_at, worker=attempt.worker), ended]


def _of_row(job: Job, before: Moment) -> list[Moment]:
    moments = []
    # Nobody knows when a parked one is due.
    if job.run_at > utc_now() and job.state == JobState.WAITING and not job.is_parked:
        moments.append(Moment("waiting", "Due", job.run_at, is_ahead=True))
    elif (job.run_at - before.at).total_seconds() > 1 and not job.is_parked:
        moments.append(Moment("waiting", "Due", job.run_at))
    if job.queued_at is not None:
        moments.append(Moment("queued", f"Queued in {job.queue}", job.queued_at))
    if job.started_at is not None:
        moments.append(Moment("running", f"Attempt {job.attempt}", job.started_at, worker=job.worker))
    if job.finished_at is not None:
        moments.append(Moment(job.state, job.state.capitalize(), job.finished_at, error=_error(job, short=True)))
    return moments


def _error(row: Job | Attempt, short: bool = False) -> str:
    """The last attempt's error stands in full beside the timeline: here its type is enough."""
    if row.error_type is None:
        return ""
    return row.error_type if short else f"{row.error_type}: {(row.error_message or '')[:300]}"


def _with_spans(moments: list[Moment]) -> list[Moment]:
    ordered = sorted(moments, key=lambda moment: moment.at)
    spans = [ordered[0]]
    for before, moment in pairwise(ordered):
        spans.append(replace(moment, after=(moment.at - before.at).total_seconds()))
    return spans
