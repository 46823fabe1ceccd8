"""What came of a drill, read from the tables: nothing here believes the worker, or the drill itself.

lost      accepted, but not final in time, or without a row, or succeeded without its effect
doubled   more than one effect under one key
failed    ended as failed or cancelled; parked: failed because of three crashes
late      its last attempt began more than 2 s + LEASE_SECONDS after it was due, not counting the time in which the
          drill's worker was dead or starting. A job of the kill that was left to the installation was due at once,
          or after the pause that its second crash imposes; without a beat it may take 20 s more until a worker
          stands in
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from kombu.utils.json import loads
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from flaskapp.diagnostics.models import Effect
from flaskapp.drill.work import KINDS, Work
from flaskapp.jobs.models import Attempt, Job, JobState
from flaskapp.jobs.retry import MOST_CRASHES, crash_delay_seconds

LATE_SECONDS = 2.0
#: How long it takes a worker to see that no beat runs.
STAND_IN_SECONDS = 20.0


@dataclass(frozen=True)
class Kill:
    #: Seconds since the drill began.
    at: float
    #: The jobs that the table still gave to the worker once it was dead: each was hit in mid-run.
    hit: list[str]


@dataclass(frozen=True)
class Problem:
    #: lost, doubled, failed or late.
    what: str
    sentence: str


@dataclass
class KindCount:
    name: str
    jobs: int = 0
    interrupted: int = 0
    lost: int = 0
    doubled: int = 0
    failed: int = 0


@dataclass(frozen=True)
class Count:
    queue: str
    accepted: int
    succeeded: int
    failed: int
    parked: int
    lost: int
    doubled: int
    late: int
    kills_wanted: int
    kills: list[Kill]
    seconds: float
    late_after: float
    problems: list[Problem]
    kinds: list[KindCount]
    #: When each job ended, in seconds since the drill began.
    ended_at: list[float] = field(default_factory=list)
    drift_before: int = 0
    drift_after: int = 0

    @property
    def useful_kills(self) -> int:
        return sum(1 for kill in self.kills if kill.hit)

    @property
    def interrupted(self) -> int:
        return sum(len(kill.hit) for kill in self.kills)

    @property
    def is_good(self) -> bool:
        spoilt = self.lost or self.doubled or self.failed or self.drift_after != self.drift_before
        return not spoilt and self.useful_kills >= self.kills_wanted

    def with_drift(self, before: int, after: int) -> "Count":
        return replace(self, drift_before=before, drift_after=after)

    def as_json(self) -> dict[str, Any]:
        fields = asdict(self)
        del fields["ended_at"]
        fields["kills"] = [{"at": round(kill.at, 2), "hit": len(kill.hit)} for kill in self.kills]
        return {"ok": self.is_good, "useful_kills": self.useful_kills, "interrupted": self.interrupted, **fields}


@dataclass(frozen=True)
class Record:
    """What the drill itself knows."""

    work: Work
    kills: list[Kill]
    kills_wanted: int
    began_at: datetime
    seconds: float
    #: How long after it was due a start is late.
    patience: float
    #: The jobs of the last kill and when that was: due from then on, whoever noticed when.
    left: Sequence[str] = ()
    left_at: datetime | None = None


def count(session: Session, record: Record) -> Count:
    work = record.work
    rows = list(session.scalars(select(Job).where(Job.queue == work.queue)))
    effects = _effects(session, work.queue)
    lost = [*_unfinished(rows, record), *_vanished(rows, work), *_without_effect(rows, effects, work)]
    doubled = [(key, f"{key} has {times} effects.") for key, times in sorted(effects.items()) if times > 1]
    failed = [(_key(row), f"{_name(row)} {row.state}: {row.error_message}") for row in rows if _has_failed(row)]
    late = list(_late(session, rows, record))
    found = {"lost": lost, "doubled": doubled, "failed": failed, "late": late}
    return Count(
        queue=work.queue,
        accepted=len({row.id for row in rows} | work.accepted.keys()),
        succeeded=sum(row.state == JobState.SUCCEEDED for row in rows),
        failed=len(failed),
        parked=sum(row.state == JobState.FAILED and row.crashes >= MOST_CRASHES for row in rows),
        lost=len(lost),
        doubled=len(doubled),
        late=len(late),
        kills_wanted=record.kills_wanted,
        kills=record.kills,
        seconds=record.seconds,
        late_after=record.patience,
        problems=[Problem(what, sentence) for what, those in found.items() for _key, sentence in those],
        kinds=_by_kind(rows, record, found),
        ended_at=sorted((row.finished_at - record.began_at).total_seconds() for row in rows if row.finished_at),
    )


def _effects(session: Session, queue: str) -> dict[str, int]:
    mine = Effect.key.startswith(f"{queue}/", autoescape=True)
    return {
        key: times for key, times in session.execute(select(Effect.key, func.count()).where(mine).group_by(Effect.key))
    }


def _unfinished(rows: Sequence[Job], record: Record) -> Iterator[tuple[str, str]]:
    for row in rows:
        if not row.is_final:
            yield _key(row), f"{_name(row)} was still {row.state} after {record.seconds:.0f} s."


def _vanished(rows: Sequence[Job], work: Work) -> Iterator[tuple[str, str]]:
    known = {row.id for row in rows}
    for job_id, sent in work.accepted.items():
        if job_id not in known:
            yield sent.key, f"Job {job_id} ({sent.kind}) was accepted and has no row."


def _without_effect(rows: Sequence[Job], effects: dict[str, int], work: Work) -> Iterator[tuple[str, str]]:
    """Effects that are missing although nothing that should have led to them is counted already."""
    known = {row.id for row in rows}
    counted = {_key(row) for row in rows if not row.is_final or _has_failed(row)}
    counted |= {sent.key for job_id, sent in work.accepted.items() if job_id not in known}
    for key in work.expected:
        origin = "/".join(key.split("/")[:2])
        if not effects.get(key) and key not in counted and origin not in counted:
            yield key, f"{key} has no effect, and every job that should have written it has succeeded."


def _has_failed(row: Job) -> bool:
    return row.is_final and row.state != JobState.SUCCEEDED


def _late(session: Session, rows: Sequence[Job], record: Record) -> Iterator[tuple[str, str]]:
    starts = _starts(session, record.work.queue)
    began: dict[str, datetime] = {}
    for _job_id, worker, at in sorted(starts, key=lambda start: start[2]):
        began.setdefault(worker, at)
    for row in rows:
        mine = sorted((at, worker) for job_id, worker, at in starts if job_id == row.id)
        due, counting = row.run_at, mine[-1:]
        if record.left_at is not None and row.id in record.left:
            # No kill came after it, so its crashes are still those that it had then.
            due = record.left_at + timedelta(seconds=crash_delay_seconds(row.crashes))
            counting = [start for start in mine if start[0] > record.left_at][:1]
        for at, worker in counting:
            waited = (at - max(due, began[worker])).total_seconds()
            if waited > record.patience:
                yield _key(row), f"{_name(row)} was started {waited:.1f} s after it was due."


def _starts(session: Session, queue: str) -> list[tuple[str, str, datetime]]:
    """(job, worker, when) of every attempt, the last ones included."""
    mine = select(Job.id).where(Job.queue == queue)
    last = select(Job.id, Job.worker, Job.started_at).where(Job.queue == queue)
    replaced = select(Attempt.job_id, Attempt.worker, Attempt.started_at).where(Attempt.job_id.in_(mine))
    rows = [*session.execute(last).all(), *session.execute(replaced).all()]
    return [(job_id, str(worker), at) for job_id, worker, at in rows if at is not None]


def _by_kind(rows: Sequence[Job], record: Record, found: dict[str, list[tuple[str, str]]]) -> list[KindCount]:
    kinds = {kind.name: KindCount(kind.name) for kind in KINDS}
    hits = [job_id for kill in record.kills for job_id in kill.hit]
    for row in rows:
        if (kind := kinds.get(record.work.kind_of(row.id, _key(row)))) is not None:
            kind.jobs += 1
            kind.interrupted += hits.count(row.id)
    for what in ("lost", "doubled", "failed"):
        for key, _sentence in found[what]:
            if (kind := kinds.get(record.work.kind_of("", key))) is not None:
                setattr(kind, what, getattr(kind, what) + 1)
    return list(kinds.values())


def _key(row: Job) -> str:
    """The effect's key, which a job of the drill carries as its first argument; else its id."""
    arguments = loads(row.args)
    return str(arguments[0]) if arguments and isinstance(arguments[0], str) else row.id


def _name(row: Job) -> str:
    return f"Job {row.id} ({row.task}, attempt {row.attempt}, {row.crashes} crashes)"
