"""Many workers and relays at once: a limit is kept to the number, and in the end every job has run."""

import threading
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

from sqlalchemy import Engine, func, make_url, select, text
from sqlalchemy.orm import Session

from flaskapp.extensions import control_engine, core_session
from flaskapp.jobs import control, lifecycle
from flaskapp.jobs.limits import Rule
from flaskapp.jobs.models import Job, JobState, Start
from flaskapp.jobs.outcomes import Claimed, Hint, Succeeded
from tests.helpers import create_schema, wait_until
from tests.integration.test_lock_order import somebody_waits
from tests.makers import queued, waiting
from tests.services import PostgreSQL

WORKERS = 8


class Shift:
    """Workers that claim, count how many run together, and settle."""

    def __init__(self, engine: Engine, job_ids: list[str]) -> None:
        self.engine, self.job_ids = engine, job_ids
        self.lock = threading.Lock()
        self.running = self.most = 0

    def work(self, name: int) -> None:
        while claims := self.claim(f"worker-{name}"):
            with self.lock:
                self.running += len(claims)
                self.most = max(self.most, self.running)
            with self.lock:
                # Down before the table says so: what is counted here never overstates.
                self.running -= len(claims)
            with core_session(self.engine) as session, session.begin():
                lifecycle.settle(session, [Succeeded(each) for each in claims])

    def claim(self, worker: str) -> list[Claimed]:
        for _ in range(200):
            with core_session(self.engine) as session, session.begin():
                open_ids = select(Job.id, Job.sends).where(Job.state.in_([JobState.WAITING, JobState.QUEUED]))
                hints = [Hint(row.id, row.sends) for row in session.execute(open_ids.order_by(Job.id).limit(5))]
                if not hints:
                    return []
                if claims := lifecycle.claim(session, hints, worker):
                    return list(claims.values())
        return []


def test_workers_that_claim_at_once_keep_a_limit_to_the_number(engine: Engine, session: Session) -> None:
    control.set_limit(session, "customer", Rule(max_running=3))
    jobs = [queued(session, limit_key="customer") for _ in range(60)]
    session.commit()
    shift = Shift(engine, jobs)

    with ThreadPoolExecutor(WORKERS) as pool:
        list(pool.map(shift.work, range(WORKERS)))

    states = dict(session.execute(select(Job.state, func.count()).group_by(Job.state)).all())
    assert states == {JobState.SUCCEEDED: 60}
    assert shift.most <= 3


def test_workers_that_claim_at_once_share_the_last_places(engine: Engine, session: Session) -> None:
    """All at the same moment, none has ended: the number that runs is the limit, not one more."""
    control.set_limit(session, "customer", Rule(max_running=3))
    jobs = [queued(session, limit_key="customer") for _ in range(WORKERS)]
    session.commit()
    together = threading.Barrier(WORKERS)

    def claim(n: int) -> int:
        together.wait(20)
        with core_session(engine) as session, session.begin():
            return len(lifecycle.claim(session, [Hint(jobs[n], 1)], f"worker-{n}"))

    with ThreadPoolExecutor(WORKERS) as pool:
        assert sum(pool.map(claim, range(WORKERS))) == 3


def test_workers_that_claim_at_once_keep_a_rate_to_the_number(engine: Engine, session: Session) -> None:
    control.set_queue_limits(session, "mail", Rule(rate_count=5, rate_seconds=600))
    jobs = [queued(session, queue="mail") for _ in range(WORKERS * 2)]
    session.commit()

    def claim(n: int) -> int:
        with core_session(engine) as session, session.begin():
            return len(lifecycle.claim(session, [Hint(each, 1) for each in jobs[2 * n : 2 * n + 2]], f"worker-{n}"))

    with ThreadPoolExecutor(WORKERS) as pool:
        assert sum(pool.map(claim, range(WORKERS))) == 5
    assert session.execute(select(func.count()).select_from(Start)).scalar_one() == 5


def test_relays_that_take_at_once_send_no_more_than_have_room(engine: Engine, session: Session) -> None:
    control.set_limit(session, "customer", Rule(max_running=3))
    for _ in range(30):
        waiting(session, limit_key="customer")
    session.commit()

    def take(n: int) -> int:
        with core_session(engine) as session, session.begin():
            return len(lifecycle.take_to_send(session, f"relay-{n}", 10, 30))

    with ThreadPoolExecutor(WORKERS) as pool:
        assert sum(pool.map(take, range(WORKERS))) == 3


def test_a_limit_is_kept_whatever_isolation_is_the_servers_default(postgresql: PostgreSQL) -> None:
    name = f"isolated_{uuid4().hex}"
    engine = control_engine(make_url(postgresql.create_database(name)))
    with engine.begin() as connection:
        connection.execute(text(f"ALTER DATABASE {name} SET default_transaction_isolation = 'repeatable read'"))
    engine.dispose()
    create_schema(engine)

    def claim(job_id: str) -> int:
        with core_session(engine) as session, session.begin():
            return len(lifecycle.claim(session, [Hint(job_id, 1)], "second"))

    with Session(engine) as session, ThreadPoolExecutor(1) as pool:
        control.set_limit(session, "customer", Rule(max_running=1))
        one, other = (queued(session, limit_key="customer") for _ in range(2))
        session.commit()
        assert lifecycle.claim(session, [Hint(one, 1)], "first")
        claimed = pool.submit(claim, other)
        wait_until(lambda: somebody_waits(engine), 10, "it waits for the limit that we hold")
        session.commit()
        assert claimed.result(30) == 0
    engine.dispose()
