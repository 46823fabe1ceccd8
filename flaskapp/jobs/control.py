"""What people set for a queue or a key. A pause, a drain or a limit is a row, so it holds on every broker.

It outlives restarts. Running jobs finish; those that wait stay waiting. Nothing here commits: the caller owns the
transaction. limits.py says how limits are kept.
"""

from typing import Any, NamedTuple

from sqlalchemy import delete, insert, or_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from flaskapp.jobs.clock import now
from flaskapp.jobs.limits import Bound, Rule, forget_starts
from flaskapp.jobs.models import Limit, Queue


def pause_queue(session: Session, name: str) -> bool:
    """Start no more jobs of this queue; False if it was paused already. A drain ends here."""
    _make_row(session, Queue, name=name)
    return _change(session, Queue.name == name, Queue.paused_at.is_(None), paused_at=now(), draining_at=None)


def drain_queue(session: Session, name: str) -> bool:
    """Let what is at the broker finish and send nothing more there: new work is accepted and waits.

    False if it was draining already. A pause ends here.
    """
    _make_row(session, Queue, name=name)
    return _change(session, Queue.name == name, Queue.draining_at.is_(None), paused_at=None, draining_at=now())


def resume_queue(session: Session, name: str) -> bool:
    """Let its jobs be sent and start again; False if it was neither paused nor draining."""
    held = or_(Queue.paused_at.is_not(None), Queue.draining_at.is_not(None))
    return _change(session, Queue.name == name, held, paused_at=None, draining_at=None)


def set_queue_limits(session: Session, name: str, rule: Rule) -> bool:
    """All jobs of this queue share the rule; an empty one takes the limits away. False if that was so already."""
    _make_row(session, Queue, name=name)
    if not rule.max_running and not rule.rate_count:
        forget_starts(session, Bound("queue", name))
    return _change(session, Queue.name == name, _differs(Queue, rule), **rule._asdict())


def set_limit(session: Session, key: str, rule: Rule) -> bool:
    """All jobs with this `limit_key` share the rule; False if that was so already."""
    _make_row(session, Limit, key=key)
    return _change(session, Limit.key == key, _differs(Limit, rule), **rule._asdict())


def remove_limit(session: Session, key: str) -> bool:
    """Let jobs with this key run without a limit; False if there was none."""
    forget_starts(session, Bound("key", key))
    removed = session.execute(delete(Limit).where(Limit.key == key).execution_options(synchronize_session=False))
    return bool(removed.rowcount)  # type: ignore[attr-defined]


class KeyLimit(NamedTuple):
    key: str
    rule: Rule


def limit_of(session: Session, key: str) -> KeyLimit | None:
    """The limit of one key."""
    found = _limits(session, Limit.key == key)
    return found[0] if found else None


def limits(session: Session) -> list[KeyLimit]:
    """Every key that has a limit."""
    return _limits(session)


def _limits(session: Session, *where: Any) -> list[KeyLimit]:
    query = select(Limit.key, Limit.max_running, Limit.rate_count, Limit.rate_seconds).where(*where)
    return [KeyLimit(row[0], Rule(*row[1:])) for row in session.execute(query.order_by(Limit.key))]


def _make_row(session: Session, model: Any, **name: str) -> None:
    if session.execute(select(*(getattr(model, column) for column in name)).filter_by(**name)).first() is None:
        try:
            with session.begin_nested():
                session.execute(insert(model).values(**name))
        except IntegrityError:
            return  # another process made it first: the row is all we wanted


def _differs(model: Any, rule: Rule) -> Any:
    """True for a row that says something else, emptiness included."""
    return ~(
        model.max_running.is_not_distinct_from(rule.max_running)
        & model.rate_count.is_not_distinct_from(rule.rate_count)
        & model.rate_seconds.is_not_distinct_from(rule.rate_seconds)
    )


def _change(session: Session, which: Any, differs: Any, **values: Any) -> bool:
    changed = session.execute(
        update(which.left.table).where(which, differs).values(**values).execution_options(synchronize_session=False)
    )
    session.expire_all()
    return bool(changed.rowcount)  # type: ignore[attr-defined]
