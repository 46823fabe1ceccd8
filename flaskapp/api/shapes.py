"""What a job looks like from outside: the fields that scripts rely on (docs and openapi.py list them)."""

import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from flaskapp.jobs import queries
from flaskapp.jobs.masking import Shown, shown
from flaskapp.jobs.models import Attempt, Job, JobState, Progress
from flaskapp.jobs.relatives import child_ids


def job_shape(session: Session, job: Job, tasks: Mapping[str, object]) -> dict[str, Any]:
    """One job; what it asked for is told here only."""
    return job_shapes(session, [job], tasks)[0] | {"children": child_ids(session, job.id)}


def job_shapes(session: Session, jobs: Sequence[Job], tasks: Mapping[str, object]) -> list[dict[str, Any]]:
    """Three statements for a whole page."""
    started = [job.id for job in jobs if job.attempt]
    progress = queries.progress(session, started) if started else {}
    history: dict[str, list[Attempt]] = {}
    for attempt in _attempts(session, started):
        history.setdefault(attempt.job_id, []).append(attempt)
    return [_shape(job, history.get(job.id, []), progress.get(job.id), tasks.get(job.task)) for job in jobs]


def _attempts(session: Session, job_ids: Sequence[str]) -> Iterable[Attempt]:
    if not job_ids:
        return []
    query = select(Attempt).where(Attempt.job_id.in_(job_ids)).order_by(Attempt.job_id, Attempt.number)
    return session.scalars(query)


def _shape(job: Job, history: list[Attempt], progress: Progress | None, task: object | None) -> dict[str, Any]:
    visible = shown(job, task)
    return {
        "id": job.id,
        "task": job.task,
        "queue": job.queue,
        "state": job.state,
        "attempt": job.attempt,
        "args": visible.args,
        "kwargs": visible.kwargs,
        "result": visible.result,
        "error": _error(job, visible),
        "attempts": _all_attempts(job, history, visible),
        "progress": _progress(job, progress),
        "run_at": moment(job.run_at),
        "created_at": moment(job.created_at),
        "queued_at": moment(job.queued_at),
        "started_at": moment(job.started_at),
        "finished_at": moment(job.finished_at),
        "worker": job.worker,
        "owner": job.owner,
        "unique_key": job.unique_key,
        "limit_key": job.limit_key,
        "schedule": job.schedule,
        "root_id": job.root_id,
        "parent_id": job.parent_id,
        "group_id": job.group_id,
    }


def _all_attempts(job: Job, history: list[Attempt], visible: Shown) -> list[dict[str, Any]]:
    """Those that a later one replaced, then the one that stands in the job's own row."""
    attempts = [_attempt(one, one.number, one.outcome, visible) for one in history]
    is_archived = any(one.number == job.attempt for one in history)
    if job.attempt and not is_archived:
        attempts.append(_attempt(job, job.attempt, job.state, visible))
    return attempts


def _attempt(row: Job | Attempt, number: int, outcome: str, visible: Shown) -> dict[str, Any]:
    return {
        "number": number,
        "worker": row.worker,
        "started_at": moment(row.started_at),
        "finished_at": moment(row.finished_at),
        "outcome": outcome,
        "error": None if outcome == JobState.RUNNING else _error(row, visible),
    }


def _error(row: Job | Attempt, visible: Shown) -> dict[str, str | None] | None:
    if row.error_type is None:
        return None
    return {
        "type": row.error_type,
        "message": visible.text(row.error_message) or "",
        "traceback": visible.text(row.error_traceback),
    }


def _progress(job: Job, progress: Progress | None) -> dict[str, Any] | None:
    if progress is None or progress.attempt != job.attempt:
        return None
    return {"current": _finite(progress.current), "total": _finite(progress.total), "message": progress.message}


def _finite(number: float | None) -> float | None:
    """JSON has no NaN and no infinity."""
    return number if number is not None and math.isfinite(number) else None


def moment(value: datetime | None) -> str | None:
    return value.isoformat() if value else None
