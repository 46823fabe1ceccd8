"""How far a running job is, how fast it goes, and when it will be done if it goes on like this."""

from dataclasses import dataclass
from datetime import datetime

from flaskapp.jobs.models import Job, JobState, Progress


@dataclass(frozen=True)
class Pace:
    current: float
    total: float | None
    message: str
    at: datetime
    per_second: float | None
    seconds_left: float | None

    @property
    def share(self) -> float | None:
        """Between 0 and 1; None when the whole is not known."""
        return min(max(self.current / self.total, 0.0), 1.0) if self.total else None


def pace(job: Job, progress: Progress | None) -> Pace | None:
    """None when this attempt has not said anything, and for a job whose progress no longer matters."""
    if progress is None or job.state == JobState.SUCCEEDED or progress.attempt != job.attempt:
        return None
    rate = _rate(job, progress)
    left = (progress.total - progress.current) / rate if rate and progress.total else None
    if job.state != JobState.RUNNING:
        rate = left = None
    return Pace(progress.current, progress.total, progress.message, progress.at, rate, left and max(left, 0.0))


def _rate(job: Job, progress: Progress) -> float | None:
    if job.started_at is None:
        return None
    seconds = (progress.at - job.started_at).total_seconds()
    return progress.current / seconds if seconds >= 0.5 and progress.current > 0 else None
