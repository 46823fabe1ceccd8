"""Celery's result backend on the job table: what the trace reports is settled, what AsyncResult asks is read.

Only the attempt that is running may settle; states that `update_state` sets are progress. Celery's six words are
mapped here and nowhere else.
"""

import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from celery import states
from celery.app.task import Context
from celery.backends.base import BaseBackend
from celery.exceptions import TaskRevokedError, TimeoutError
from celery.result import AsyncResult
from celery.utils.serialization import UnpickleableExceptionWrapper
from flask import has_app_context
from kombu.utils.json import dumps, loads
from sqlalchemy import select
from sqlalchemy.orm import Session

from flaskapp.broker import publisher
from flaskapp.errors import UncommittedJobs
from flaskapp.jobs import joining
from flaskapp.jobs.joining import NewJoin, Tree
from flaskapp.jobs.models import FINAL_STATES, Job, JobState, Progress
from flaskapp.jobs.outcomes import Error
from flaskapp.worker import canvas
from flaskapp.worker.attempt import RunningAttempt, current_attempt
from flaskapp.worker.engines import ProcessEngine
from flaskapp.worker.progress import write_progress
from flaskapp.worker.sessions import uncommitted_jobs

_IDS_PER_SELECT = 500
CELERY_STATES = {
    JobState.WAITING: states.PENDING,
    JobState.QUEUED: states.PENDING,
    JobState.RUNNING: states.STARTED,
    JobState.SUCCEEDED: states.SUCCESS,
    JobState.FAILED: states.FAILURE,
    JobState.CANCELLED: states.REVOKED,
}


class JobBackend(BaseBackend):
    """The job table as Celery's result backend."""

    persistent = True
    # Old results are pruned with their jobs; Celery's own clean-up entry is not wanted.
    supports_autoexpire = True
    # GroupResult.get asks for all of them at once.
    supports_native_join = True

    def __init__(self, app: Any, **options: Any) -> None:
        super().__init__(app, **options)
        self._engine = ProcessEngine(app.settings.database_url)

    # --- what the trace reports ---

    def mark_as_done(
        self, task_id: str, result: Any, request: Any = None, store_result: bool = True, state: str = states.SUCCESS
    ) -> None:
        if (attempt := _running(task_id)) is not None:
            attempt.succeed(None if result is None else dumps(result))

    def mark_as_failure(
        self,
        task_id: str,
        exc: BaseException,
        traceback: Any = None,
        request: Any = None,
        store_result: bool = True,
        call_errbacks: bool = True,
        state: str = states.FAILURE,
    ) -> None:
        attempt = _running(task_id)
        if attempt is None:
            super().mark_as_failure(task_id, exc, traceback, request, store_result, call_errbacks, state)
            return
        if attempt.settled:
            return
        # Its chain, its chord and its errbacks are told by the arrow itself: not every failure comes this way.
        attempt.fail_with(exc, self.error(exc, traceback))
        attempt.commit()

    def mark_as_retry(
        self,
        task_id: str,
        exc: BaseException,
        traceback: Any = None,
        request: Any = None,
        store_result: bool = True,
        state: str = states.RETRY,
    ) -> None:
        if (attempt := _running(task_id)) is not None:
            attempt.retry(self.error(exc, traceback) if exc is not None else None)
            attempt.commit()

    def store_result(
        self, task_id: str, result: Any, state: str, traceback: Any = None, request: Any = None, **options: Any
    ) -> Any:
        """`update_state` becomes progress."""
        if (attempt := _running(task_id)) and state not in states.READY_STATES and state != states.STARTED:
            write_progress(attempt.claimed, state=state, meta=result)
        return result

    def apply_chord(self, header_result_args: tuple[str, Any], body: Any, **_: Any) -> None:
        """The join becomes a row, the body parked rows: nothing polls (Celery's own way would)."""
        group_id, members = header_result_args
        with self.app.canvas_call() as call:
            canvas.add_chord(call, group_id, members, body)

    def error(self, exc: BaseException, traceback: Any = None) -> Error:
        """An exception as the row keeps it."""
        name = exc.exc_cls_name if isinstance(exc, UnpickleableExceptionWrapper) else type(exc).__name__
        data = dumps(self.prepare_exception(exc, "json"))
        return Error(name, str(exc), str(traceback) if traceback else None, data)

    def add_to_chord(self, chord_id: str, result: Any) -> None:
        """A member adds another; its chord waits for that one too."""
        if (attempt := current_attempt()) is not None:
            attempt.more_members.append(result.id)

    def call_errbacks(self, job: Job) -> None:
        """Celery's own way to call them, for a job that failed wherever: the new kind here, the old as jobs."""
        embed, headers = loads(job.options).get("embed", {}), publisher.headers(job)
        delivery = {"delivery_info": {"routing_key": job.queue}, "hostname": job.worker}
        request = Context(headers | delivery | embed, args=loads(job.args), kwargs=loads(job.kwargs))
        self._call_task_errbacks(request, self._exception(job), job.error_traceback)

    # --- what AsyncResult asks ---

    def get_task_meta(self, task_id: str, cache: bool = True) -> dict[str, Any]:
        with Session(self._engine.get()) as session:
            job = session.get(Job, task_id)
            progress = session.get(Progress, task_id) if job and job.state == JobState.RUNNING else None
            children = session.scalars(select(Job.id).where(Job.parent_id == task_id)).all() if job else []
        if job is None:
            return {"status": states.PENDING, "result": None, "task_id": task_id}
        return self._meta(job, progress, children)

    def get_many(
        self,
        task_ids: Iterable[str],
        timeout: float | None = None,
        interval: float = 0.5,
        no_ack: bool = True,
        on_message: Any = None,
        on_interval: Any = None,
        max_iterations: int | None = None,
        **_: Any,
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        """A group's results as they come, a few statements for all of them; raises TimeoutError."""
        left = set(task_ids)
        refuse_uncommitted(left)
        deadline = None if timeout is None else time.monotonic() + timeout
        pause, rounds = 0.01, 0
        while left:
            for meta in self._ended_among(sorted(left)):
                left.discard(meta["task_id"])
                yield meta["task_id"], meta
            rounds += 1
            if not left or rounds == max_iterations:
                return
            if on_interval:
                on_interval()
            if deadline is not None and time.monotonic() + pause > deadline:
                raise TimeoutError(f"{len(left)} of the group's results have not come in time.")
            time.sleep(pause)
            pause = min(pause * 1.5, interval)

    def _save_group(self, group_id: str, result: Any) -> Any:
        """A saved group is a join without a body; a chord's header has one already."""
        with Session(self._engine.get()) as session, session.begin():
            joining.write_join(session, NewJoin(group_id, canvas.tree_of(result.results), []))
        return result

    def _restore_group(self, group_id: str) -> dict[str, Any] | None:
        with Session(self._engine.get()) as session:
            members = joining.members_of(session, group_id)
        return None if members is None else {"result": self._group(group_id, members)}

    def _delete_group(self, group_id: str) -> None:
        with Session(self._engine.get()) as session, session.begin():
            joining.delete_without_body(session, group_id)

    def _group(self, group_id: str | None, members: Tree) -> Any:
        results = [self.app.AsyncResult(one) if isinstance(one, str) else self._group(None, one) for one in members]
        return self.app.GroupResult(group_id, results)

    def _ended_among(self, ids: list[str]) -> list[dict[str, Any]]:
        ended: list[Job] = []
        with Session(self._engine.get()) as session:
            for start in range(0, len(ids), _IDS_PER_SELECT):
                some = Job.id.in_(ids[start : start + _IDS_PER_SELECT])
                ended += session.scalars(select(Job).where(some, Job.state.in_(sorted(FINAL_STATES))))
        return [self._meta(job, None, []) for job in ended]

    def _meta(self, job: Job, progress: Progress | None, children: Sequence[str]) -> dict[str, Any]:
        state, result = self._answer(job, progress)
        return {
            "task_id": job.id,
            "status": state,
            "result": result,
            "traceback": job.error_traceback,
            "children": [self.app.AsyncResult(child) for child in children],
            "date_done": job.finished_at,
            "name": job.task,
            "worker": job.worker,
            "retries": job.retries,
            "queue": job.queue,
        }

    def _answer(self, job: Job, progress: Progress | None) -> tuple[str, Any]:
        match job.state:
            case JobState.SUCCEEDED:
                return states.SUCCESS, loads(job.result) if job.result is not None else None
            case JobState.FAILED:
                return states.FAILURE, self._exception(job)
            case JobState.CANCELLED:
                return states.REVOKED, TaskRevokedError(job.error_message or "cancelled")
            case JobState.RUNNING if progress is not None and progress.state:
                return progress.state, loads(progress.meta) if progress.meta else None
            case JobState.WAITING if job.retries:
                return states.RETRY, self._exception(job)
            case _:
                return CELERY_STATES[JobState(job.state)], None

    def _exception(self, job: Job) -> Any:
        if job.error_data:
            return self.exception_to_python(loads(job.error_data))
        kind = {"exc_type": job.error_type or "Exception", "exc_message": job.error_message or "", "exc_module": None}
        return self.exception_to_python(kind)

    def wait_for(
        self,
        task_id: str,
        timeout: float | None = None,
        interval: float = 0.5,
        no_ack: bool = True,
        on_interval: Any = None,
    ) -> dict[str, Any]:
        """Poll quickly at first, then at `interval`: a fresh result is seen within milliseconds."""
        self._ensure_not_eager()
        deadline = None if timeout is None else time.monotonic() + timeout
        pause = min(0.01, interval)
        while True:
            meta = self.get_task_meta(task_id)
            if meta["status"] in states.READY_STATES:
                return meta
            if on_interval:
                on_interval()
            if deadline is not None and time.monotonic() + pause > deadline:
                raise TimeoutError("The operation timed out.")
            time.sleep(pause)
            pause = min(pause * 1.5, interval)

    def _forget(self, task_id: str) -> None:
        """Keep the row (the books must balance), drop its value."""
        with Session(self._engine.get()) as session, session.begin():
            if (job := session.get(Job, task_id)) is not None:
                job.result = None


class JobResult(AsyncResult):
    """AsyncResult on the job table: nobody waits for what is not committed."""

    def get(self, *args: Any, **options: Any) -> Any:
        refuse_uncommitted({self.id})
        return super().get(*args, **options)


def refuse_uncommitted(job_ids: set[str]) -> None:
    """Nobody else sees them yet: who waits for them here would wait for ever."""
    waiting = job_ids.intersection(uncommitted_jobs()) if has_app_context() else set()
    if waiting:
        raise UncommittedJobs(f"Job {min(waiting)} is not committed yet; commit the session before waiting for it.")


def _running(task_id: str) -> RunningAttempt | None:
    attempt = current_attempt()
    return attempt if attempt is not None and attempt.claimed.job_id == task_id else None
