"""Messages that went back to the broker. Until that is noted in the table they count as in our hands.

The list is under the recorder's one lock; no SQL is run under it.
"""

import logging
import threading
from collections.abc import Sequence

from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from flaskapp.extensions import core_session
from flaskapp.jobs import lost
from flaskapp.worker.errands import Errands

logger = logging.getLogger(__name__)


class Returned:
    def __init__(self, changed: threading.Condition, engine: Engine, errands: Errands) -> None:
        self._changed = changed
        self._engine = engine
        self._errands = errands
        self._returned: list[str] = []

    def add(self, job_ids: Sequence[str]) -> None:
        """Before they go back."""
        with self._changed:
            self._returned += job_ids

    def job_ids(self) -> list[str]:
        with self._changed:
            return list(self._returned)

    def note(self, job_ids: Sequence[str]) -> None:
        """The broker has them in line again: a probe that is before them there now proves nothing."""
        if job_ids:
            self._errands.add(lambda session: lost.handed_back(session, job_ids), lambda: self._forget(job_ids))

    def note_last(self) -> None:
        """As `note`, when no errand is run any more."""
        job_ids = self.job_ids()
        if not job_ids:
            return
        try:
            with core_session(self._engine) as session, session.begin():
                lost.handed_back(session, job_ids)
        except DBAPIError as trouble:
            logger.warning("%d message(s) handed back may be sent twice: %s", len(job_ids), trouble)
        self._forget(job_ids)

    def _forget(self, job_ids: Sequence[str]) -> None:
        with self._changed:
            for job_id in job_ids:
                if job_id in self._returned:
                    self._returned.remove(job_id)
