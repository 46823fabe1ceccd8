"""The rhythm: what one process knows of the entries of `app.conf.beat_schedule`, and the work of a turn on them.

A `schedule` row holds up to when every due time is decided; it is compared and swapped in the transaction that
submits the job, and the database holds each (schedule, due time) once. So any number of beats make one job.
"""

import logging
import time
from datetime import datetime
from typing import Any

from sqlalchemy import insert, select, update
from sqlalchemy.exc import IntegrityError, InterfaceError, OperationalError
from sqlalchemy.orm import Session

from flaskapp.errors import BadArguments, BadSchedule
from flaskapp.jobs.clock import now
from flaskapp.jobs.models import Firing, Schedule
from flaskapp.jobs.outcomes import clean_text
from flaskapp.jobs.schedules import Order
from flaskapp.worker.entries import Entry, check_name, read_entry
from flaskapp.worker.firing import Fire
from flaskapp.worker.rhythms import Once

logger = logging.getLogger(__name__)

#: How often a beat signs that it looks.
_SIGN_EVERY = 5.0
#: How often it looks for schedules whose entry is gone; a beat that still has the entry says so within a second.
_SEARCH_EVERY = 60.0


class Schedules:
    def __init__(self, app: Any, is_beat: bool = False) -> None:
        self._app = app
        #: A worker that stands in may be of another code: what it does not know is not gone.
        self._is_beat = is_beat
        #: name → (the entry as it was written, as it was read)
        self._read: dict[str, tuple[Any, Entry | BadSchedule]] = {}
        #: name → what it submits
        self._orders: dict[str, Order] = {}
        #: Entries that this process still has to compare with their rows.
        self._fresh: set[str] = set()
        #: What is wrong with an entry was logged.
        self._said: dict[Any, str] = {}
        #: name → (the row's last due time, the one after it): a crontab is not asked each second.
        self._next: dict[str, tuple[datetime, datetime | None]] = {}
        self._signed_at = self._searched_at = float("-inf")

    def fire_due(self, session: Session) -> list[str]:
        """Submit a job for every entry that is due; commits each entry on its own. Answers the new job ids."""
        moment = session.execute(select(now())).scalar_one()
        rows = {row.name: row for row in session.scalars(select(Schedule))}
        session.expunge_all()
        session.rollback()
        fired: list[str] = []
        entries = dict(self._app.conf.beat_schedule)
        for name, written in entries.items():
            try:
                fired += self._turn(session, check_name(name), written, rows.get(name), moment)
            except (OperationalError, InterfaceError):
                raise
            except IntegrityError as taken:
                # Somebody set its last due time back, and another beat was first.
                session.rollback()
                logger.warning("schedule=%s is decided by another: %s", name, taken.orig)
            except Exception as problem:  # noqa: BLE001 -- one wrong entry must not stop the others
                session.rollback()
                self._report(session, name, written, rows.get(name), problem)
        self._sign(session, [name for name in self._orders if name in entries])
        self._search(session, [name for name, row in rows.items() if row.gone_at is None and name not in entries])
        return fired

    def _turn(self, session: Session, name: str, written: Any, row: Schedule | None, moment: datetime) -> list[str]:
        entry = self._entry(name, written)
        if row is None:
            self._begin(session, entry, moment)
            return []
        if (name in self._fresh or row.gone_at) and self._store(session, entry, row, moment):
            return []
        if row.paused_at is not None or not self._is_due(entry, row, moment):
            return []
        return self._fire(entry, row, moment).run(session)

    def _entry(self, name: str, written: Any) -> Entry:
        known = self._read.get(name)
        if known is None or known[0] != written:
            entry: Entry | BadSchedule
            try:
                entry, self._orders[name] = read_entry(self._app, name, written)
                self._fresh.add(name)
            except BadSchedule as problem:
                entry = problem
                self._orders.pop(name, None)
            known = self._read[name] = (dict(written) if isinstance(written, dict) else written, entry)
            self._next.pop(name, None)
        if isinstance(known[1], BadSchedule):
            raise known[1]
        return known[1]

    def _fire(self, entry: Entry, row: Schedule, moment: datetime) -> Fire:
        return Fire(self._app, entry, entry.rhythm.anchored(row.anchor_at or row.last_due_at), row, moment)

    def _is_due(self, entry: Entry, row: Schedule, moment: datetime) -> bool:
        last, following = self._next.get(entry.name, (None, None))
        if last != row.last_due_at:
            following = self._fire(entry, row, moment).rhythm.next_time(row.last_due_at)
            self._next[entry.name] = (row.last_due_at, following)
        return following is not None and following <= moment

    # --- what the row says of the entry -------------------------------------------------------------------

    def _begin(self, session: Session, entry: Entry, moment: datetime) -> None:
        """A new entry begins now: nothing before its first sight was missed."""
        values = self._columns(entry) | _from(entry, moment)
        try:
            session.execute(insert(Schedule).values(name=entry.name, looked_at=moment, **values))
            _say_if_past(session, entry, values["anchor_at"])
            session.commit()
        except IntegrityError:
            # Another beat saw it at the same moment.
            session.rollback()
        self._fresh.discard(entry.name)

    def _store(self, session: Session, entry: Entry, row: Schedule, moment: datetime) -> bool:
        """Write what the row does not know yet; True if its rhythm is new, so that it begins now."""
        self._fresh.discard(entry.name)
        values = self._columns(entry)
        changed = {column: value for column, value in values.items() if getattr(row, column) != value}
        begins = "rhythm" in changed or "timezone" in changed
        if begins:
            changed |= _from(entry, moment)
            _say_if_past(session, entry, changed["anchor_at"])
        if changed:
            session.execute(update(Schedule).where(Schedule.name == entry.name).values(changed))
            session.commit()
        return begins

    def _columns(self, entry: Entry) -> dict[str, Any]:
        return {
            "task": entry.task[:255],
            "rhythm": entry.rhythm.text[:255],
            "timezone": entry.timezone,
            "missed": entry.missed,
            "overlap": entry.overlap,
            "wish": self._orders[entry.name].to_json(),
            "gone_at": None,
            "problem": None,
        }

    def _report(self, session: Session, name: Any, written: Any, row: Schedule | None, problem: Exception) -> None:
        """Say once in the log, and on the page as long as it lasts, what is wrong with an entry."""
        is_said = isinstance(problem, BadSchedule | BadArguments)
        sentence = clean_text(str(problem) if is_said else f"{problem!r:.400}")
        sentence = (sentence if sentence.startswith("Schedule ") else f"Schedule {name!r}: {sentence}")[:500]
        if self._said.get(name) != sentence:
            self._said[name] = sentence
            logger.error("%s", sentence, exc_info=None if is_said else problem)
        if _is_name(name) and (row is None or row.problem != sentence):
            task = written.get("task") if isinstance(written, dict) else None
            self._write_problem(session, name, clean_text(str(task or ""))[:255], sentence, is_new=row is None)

    def _write_problem(self, session: Session, name: str, task: str, sentence: str, is_new: bool) -> None:
        values: dict[str, Any] = {"problem": sentence, "gone_at": None}
        try:
            if is_new:
                session.execute(insert(Schedule).values(name=name, task=task, rhythm="", **values))
            else:
                session.execute(update(Schedule).where(Schedule.name == name).values(values))
            session.commit()
        except IntegrityError:
            # Another beat saw it at the same moment.
            session.rollback()

    # --- signs that others read ---------------------------------------------------------------------------

    def _sign(self, session: Session, names: list[str]) -> None:
        """So that it can be said between which moments nobody looked."""
        if time.monotonic() - self._signed_at < _SIGN_EVERY:
            return
        looked = update(Schedule).where(Schedule.name.in_(names)).values(looked_at=now())
        session.execute(looked.execution_options(synchronize_session=False))
        session.commit()
        self._signed_at = time.monotonic()

    def _search(self, session: Session, strangers: list[str]) -> None:
        if not self._is_beat or time.monotonic() - self._searched_at < _SEARCH_EVERY:
            return
        self._searched_at = time.monotonic()
        if strangers:
            gone = update(Schedule).where(Schedule.name.in_(strangers), Schedule.gone_at.is_(None))
            session.execute(gone.values(gone_at=now()).execution_options(synchronize_session=False))
            session.commit()
            logger.warning("No entry any more for %s: they do not run. /schedules removes them.", ", ".join(strangers))


def _is_name(name: object) -> bool:
    try:
        return bool(check_name(name))
    except BadSchedule:
        return False


def _from(entry: Entry, moment: datetime) -> dict[str, Any]:
    """A rhythm that begins at `moment`."""
    anchor = entry.rhythm.anchor(moment)
    following = entry.rhythm.anchored(anchor).next_time(anchor)
    return {"anchor_at": anchor, "last_due_at": anchor, "next_due_at": following}


def _say_if_past(session: Session, entry: Entry, anchor: datetime) -> None:
    """One run at a date that is over already: it may be years ago, so it is not made up, but said."""
    due = entry.rhythm.moment if isinstance(entry.rhythm, Once) else None
    if due is None or due > anchor:
        return
    decided = select(Firing.id).where(Firing.schedule == entry.name, Firing.due_at == due)
    if session.execute(decided).first() is None:
        reason = "its date was past when a beat first saw the entry"
        session.execute(insert(Firing).values(schedule=entry.name, due_at=due, outcome="missed", reason=reason))
