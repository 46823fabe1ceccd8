"""When the next mail may go: rates and pauses of the server and of each destination domain, for all workers.

One row for each way out, locked while it is changed; the times are the database's. Nothing here commits, and
nobody waits while he holds a lock.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, and_, delete, func, insert, not_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from flaskapp.jobs.clock import now, seconds_from_now
from flaskapp.mail.models import Route

#: The way to everybody.
SERVER = ""
#: No domain has a space in it: the way in for strangers, of which only the lock is needed.
CONTACT = "contact form"
_LONGEST_PAUSE = 600.0


@dataclass(frozen=True)
class Rates:
    """Mails a second; 0 does not limit."""

    server: float = 0
    domain: float = 0


def pauses(session: Session) -> dict[str, float]:
    """For how many seconds each way that had to wait is still closed; 0: it is being tried again."""
    query = select(Route.name, Route.held_until, now().label("moment")).where(Route.strikes > 0)
    return {name: _left(until, moment, _LONGEST_PAUSE) for name, until, moment in session.execute(query) if until}


def take_turn(session: Session, domain: str, rates: Rates) -> tuple[str, float]:
    """The turn is taken if the seconds are 0; else which way has to wait, and how long before asking again.

    Turns are spread evenly: in no second do more go than the rate says, however many workers ask.
    """
    wanted = {name: 1 / rate for name, rate in ((SERVER, rates.server), (domain, rates.domain)) if rate > 0}
    if not wanted:
        return SERVER, 0.0
    for name in sorted(wanted):
        _ensure(session, name)
    query = select(Route.name, Route.next_at).where(Route.name.in_(wanted)).order_by(Route.name).with_for_update()
    rows = session.execute(query).all()
    # Read once the rows are locked: a turn that was taken while we waited counts.
    moment = session.execute(select(now())).scalar_one()
    wait, name = max((_left(row.next_at, moment, wanted[row.name]), row.name) for row in rows)
    if wait > 0:
        return name, wait
    for name, seconds in wanted.items():
        _set(session, name, next_at=seconds_from_now(seconds))
    return SERVER, 0.0


def hold(session: Session, name: str, reason: str, first_pause: float) -> float:
    """The way is closed for a while, each time in a row twice as long; answers how long.

    Whoever was on the way as another closed it met the same trouble: that is not a second time.
    """
    _ensure(session, name)
    query = select(Route.strikes, Route.held_until).where(Route.name == name).with_for_update()
    row = session.execute(query).one()
    moment = session.execute(select(now())).scalar_one()
    if row.held_until is not None and (left := _left(row.held_until, moment, _LONGEST_PAUSE)):
        return left
    pause = min(first_pause * 2 ** min(row.strikes, 20), _LONGEST_PAUSE)
    _set(session, name, strikes=row.strikes + 1, held_until=seconds_from_now(pause), reason=reason)
    return float(pause)


def clear(session: Session, names: Collection[str]) -> None:
    """They work again, unless somebody has just closed them anew."""
    # By name, as turns lock them: two that clear the same ways never wait for each other.
    session.execute(select(Route.name).where(Route.name.in_(names)).order_by(Route.name).with_for_update()).all()
    open_ = and_(Route.name.in_(names), not_(_is_closed()))
    statement = update(Route).where(open_).values(strikes=0, held_until=None, reason=None)
    session.execute(statement.execution_options(synchronize_session=False))


def troubled(session: Session) -> list[Route]:
    """The ways that are closed now, with what was said."""
    return list(session.scalars(select(Route).where(_is_closed()).order_by(Route.name)))


def lock(session: Session, name: str) -> None:
    """Until the caller's transaction ends."""
    _ensure(session, name)
    session.execute(select(Route.name).where(Route.name == name).with_for_update())


def forget_old(session: Session) -> None:
    """Domains that nobody writes to need no row."""
    old = Route.next_at < seconds_from_now(-86_400)
    session.execute(delete(Route).where(old, func.coalesce(Route.held_until, Route.next_at) < now()))


def _is_closed() -> ColumnElement[bool]:
    return Route.held_until.between(now(), seconds_from_now(_LONGEST_PAUSE))


def _left(until: datetime, moment: datetime, longest: float) -> float:
    """Seconds, 0 if it is over; longer than anybody ever had to wait means that the clock went back meanwhile."""
    seconds = (until - moment).total_seconds()
    return seconds if 0 < seconds <= longest else 0.0


def _ensure(session: Session, name: str) -> None:
    if session.execute(select(Route.name).where(Route.name == name)).first() is not None:
        return
    try:
        with session.begin_nested():
            session.execute(insert(Route).values(name=name, strikes=0, next_at=now()))
    except IntegrityError:
        return  # another worker was first


def _set(session: Session, name: str, **values: object) -> None:
    statement = update(Route).where(Route.name == name).values(**values)
    session.execute(statement.execution_options(synchronize_session=False))
