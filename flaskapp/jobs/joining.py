"""A chord's join: one row that its members' successes count down, and what becomes of its body.

The settlement of the last member makes the body due in the same transaction, with the members' results as its first
argument: there is no moment at which the one is true without the other, and nobody polls.
The body is a parked row from the beginning. Nothing here commits: the caller owns the transaction.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

from sqlalchemy import ColumnElement, Table, and_, delete, null, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, defer

from flaskapp.jobs.changes import change, error_columns, finish, made_due
from flaskapp.jobs.clock import now, seconds_from_now
from flaskapp.jobs.models import PARKED, Job, JobState, Join
from flaskapp.jobs.outcomes import Error
from flaskapp.jobs.submitting import PARKING

_JOINS = cast(Table, Join.__table__)
_IDS_PER_SELECT = 500
_BROKEN = (JobState.FAILED, JobState.CANCELLED)

#: Job ids in the order of their results; a list inside stands for a group of its own.
Tree = Sequence["str | Tree"]


@dataclass(frozen=True)
class NewJoin:
    """What a chord asks for: when all `members` have succeeded, `bodies` become due."""

    id: str
    members: Tree
    bodies: Sequence[str]


def results_mark(join_id: str) -> str:
    """What stands in the body's first argument until the results do."""
    return f"results of {join_id}"


def leaves(tree: Tree) -> Iterator[str]:
    for entry in tree:
        if isinstance(entry, str):
            yield entry
        else:
            yield from leaves(entry)


def write_join(session: Session, new: NewJoin) -> bool:
    """Write the row; False if it is known already. Members that have ended before are not counted here."""
    total = sum(1 for _ in leaves(new.members))
    row = {"id": new.id, "members": json.dumps(new.members), "bodies": json.dumps(list(new.bodies))}
    try:
        with session.begin_nested():
            session.execute(_JOINS.insert().values(**row, total=total, missing=total))
    except IntegrityError:
        return False
    return True


def members_of(session: Session, join_id: str) -> Tree | None:
    members = session.scalar(select(Join.members).where(Join.id == join_id))
    return None if members is None else cast(Tree, json.loads(members))


def delete_without_body(session: Session, join_id: str) -> None:
    """Only a group that somebody saved: a chord's join belongs to its jobs."""
    session.execute(delete(Join).where(Join.id == join_id, Join.bodies == "[]"))


def ended_members(session: Session, new: NewJoin) -> tuple[list[str], list[str]]:
    """Of a join just written: which members have succeeded, which have failed; locks those that have a row.

    Whoever settles one of the others from here on sees the join.
    """
    found = [row for ids in _slices(new.members) for row in _locked_states(session, ids)]
    # Some nestings lose Celery's word that they are members; the join names them all the same.
    others = {row.counts_for for row in found} - {None, new.id}
    known = {new.id, *session.scalars(select(Join.id).where(Join.id.in_(others)))} if others else {new.id}
    if unaware := [row.id for row in found if row.counts_for not in known]:
        change(session, Job.id.in_(unaware), counts_for=new.id)
    succeeded = [row.id for row in found if row.state == JobState.SUCCEEDED]
    return succeeded, [row.id for row in found if row.state in _BROKEN]


def _locked_states(session: Session, ids: list[str]) -> Sequence[Any]:
    return session.execute(
        select(Job.id, Job.state, Job.counts_for).where(Job.id.in_(ids)).order_by(Job.id).with_for_update()
    ).all()


def lock_join(session: Session, join_id: str) -> Join | None:
    """The lists of its members and bodies may be long: they are read only when it is over."""
    query = select(Join).where(Join.id == join_id).options(defer(Join.members), defer(Join.bodies)).with_for_update()
    return session.scalars(query.execution_options(populate_existing=True)).first()


def add_members(join: Join, job_ids: Sequence[str]) -> None:
    join.members = json.dumps([*json.loads(join.members), *job_ids])
    join.total += len(job_ids)
    join.missing += len(job_ids)


def release(session: Session, join: Join, by: str | None) -> None:
    """Every member has succeeded: the parked body ─▶ due, with the results. Counts again if one has not."""
    results, missing = _results(session, json.loads(join.members))
    join.missing = missing
    if missing:
        return
    join.finished_at = cast(datetime, now())
    mark = "[" + json.dumps(results_mark(join.id))
    bodies = select(Job.id, Job.args, Job.options, Job.state).where(_parked(join)).order_by(Job.id).with_for_update()
    for body in session.execute(bodies).all():
        args = body.args
        if args.startswith(mark):
            args = "[" + results + args[len(mark) :]
        values = {"args": args, "sender": null(), "sending_until": null(), "parent_id": by}
        if body.state != JobState.CANCELLED:
            values |= _due(json.loads(body.options).get("release", {}))
        change(session, Job.id == body.id, **values)
        made_due(session, body.id)


def _due(release_options: dict[str, Any]) -> dict[str, Any]:
    """Its countdown and its expiry begin when it could run, as if it were submitted only now."""
    values: dict[str, Any] = {"state": JobState.WAITING, "finished_at": null(), **error_columns(None)}
    values["run_at"] = now()
    if (eta := release_options.get("eta")) is not None:
        values["run_at"] = datetime.fromisoformat(eta)
    if (delay := release_options.get("delay")) is not None:
        values["run_at"] = seconds_from_now(delay)
    if (expires := release_options.get("expires")) is not None:
        values["expires_at"] = seconds_from_now(expires)
    return values


def _results(session: Session, members: Tree) -> tuple[str, int]:
    """The results as one JSON text in the order of the members, and how many are not there."""
    texts: dict[str, str] = {}
    for ids in _slices(members):
        rows = session.execute(select(Job.id, Job.result).where(Job.id.in_(ids), Job.state == JobState.SUCCEEDED))
        texts |= {row.id: "null" if row.result is None else row.result for row in rows}
    missing = sum(1 for job_id in leaves(members) if job_id not in texts)
    return ("" if missing else _text(members, texts)), missing


def _text(tree: Tree, texts: dict[str, str]) -> str:
    parts = [texts[entry] if isinstance(entry, str) else _text(entry, texts) for entry in tree]
    return "[" + ", ".join(parts) + "]"


def fail_bodies(session: Session, join: Join, by: str, error: Error) -> list[str]:
    """A member will not succeed: the parked body ─▶ failed; answers the ids. It stays parked, for a reopening."""
    join.broken_by = by
    join.finished_at = cast(datetime, now())
    bodies = _ids_where(session, and_(_parked(join), Job.state == JobState.WAITING))
    failed = finish(JobState.FAILED) | {"sender": PARKED, "run_at": now()}
    change(session, Job.id.in_(bodies), **failed, **error_columns(error))
    return bodies


def reopen(session: Session, join: Join) -> list[str]:
    """No member has failed any more: the failed body ─▶ parked again; answers the ids."""
    join.broken_by = join.finished_at = None
    bodies = _ids_where(session, and_(_parked(join), Job.state == JobState.FAILED))
    park_again(session, bodies)
    return bodies


def park_again(session: Session, job_ids: Sequence[str]) -> None:
    """Steps that failed with another one ─▶ waiting for it again."""
    failed = and_(Job.id.in_(job_ids), Job.state == JobState.FAILED, Job.sender == PARKED)
    values: dict[str, Any] = {"state": JobState.WAITING, "finished_at": null(), **PARKING}
    change(session, failed, **values, **error_columns(None), live_key=Job.unique_key)


def is_needed(session: Session, join: Join) -> bool:
    """Its body may still become due: it waits, or it failed with a member that can be run again."""
    if join.finished_at is None:
        return session.scalar(select(Job.id).where(_parked(join)).limit(1)) is not None
    return join.broken_by is not None and another_broken_member(session, join) is not None


def another_broken_member(session: Session, join: Join) -> str | None:
    for ids in _slices(json.loads(join.members)):
        found = session.scalar(select(Job.id).where(Job.id.in_(ids), Job.state.in_(_BROKEN)).limit(1))
        if found is not None:
            return found
    return None


def _parked(join: Join) -> ColumnElement[bool]:
    return and_(Job.id.in_(json.loads(join.bodies)), Job.sender == PARKED)


def _ids_where(session: Session, where: ColumnElement[bool]) -> list[str]:
    return list(session.scalars(select(Job.id).where(where).order_by(Job.id).with_for_update()))


def _slices(members: Tree) -> Iterator[list[str]]:
    ids = list(leaves(members))
    for start in range(0, len(ids), _IDS_PER_SELECT):
        yield ids[start : start + _IDS_PER_SELECT]
