"""Celery's `app.control`, of which one word must not be a broadcast: `revoke` is final, on every broker.

A broadcast reaches the workers that listen at that moment; a row reaches all that come.
"""

from typing import Any

from celery.app.control import Control
from celery.utils.functional import maybe_list
from sqlalchemy.orm import Session

from flaskapp.jobs import lifecycle


class SqlControl(Control):
    """What `AsyncResult.revoke`, `GroupResult.revoke` and `app.control.revoke` end in."""

    def revoke(self, task_id: Any, *_: Any, **__: Any) -> None:
        """Cancel these jobs, all or none, wherever they are: waiting, queued, running, or still to come in a chain."""
        ids = sorted({str(job_id) for job_id in maybe_list(task_id) or ()})
        with Session(self.app.backend._engine.get()) as session, session.begin():
            for job_id in ids:
                if not lifecycle.cancel(session, job_id, by="revoke()") and not lifecycle.known(session, [job_id]):
                    lifecycle.write_steps_to_come(session, job_id)
                    lifecycle.cancel(session, job_id, by="revoke()")
