"""A worker's sign of life, and what it learns in the same breath."""

from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from flaskapp.jobs import lifecycle
from flaskapp.jobs.models import Worker
from flaskapp.jobs.outcomes import Claimed
from flaskapp.worker.heartbeat import Heartbeat
from tests.makers import WORKER, running


def heart(engine: Engine, holds: dict[str, Claimed], taken: list[str]) -> Heartbeat:
    return Heartbeat(engine, WORKER, "worker", holds=lambda: holds, take_away=taken.extend)


def test_each_beat_is_counted(engine: Engine, session: Session) -> None:
    beats = heart(engine, {}, [])
    beats.beat()
    beats.beat()
    assert session.scalars(select(Worker.beats)).all() == [1]


def test_a_worker_taken_off_the_list_by_mistake_writes_itself_down_again(engine: Engine, session: Session) -> None:
    beats = heart(engine, {}, [])
    beats.beat()
    session.delete(session.get_one(Worker, WORKER))
    session.commit()
    beats.beat()
    assert session.scalars(select(Worker.id)).all() == [WORKER]


def test_a_cancelled_attempt_is_taken_away_on_the_second_look(engine: Engine, session: Session) -> None:
    claimed = running(session)
    lifecycle.cancel(session, claimed.job_id)
    session.commit()
    taken: list[str] = []
    beats = heart(engine, {claimed.job_id: claimed}, taken)
    beats.beat()
    assert taken == []
    beats.beat()
    assert taken == [claimed.job_id]


def test_a_worker_of_very_many_queues_gives_signs_of_life(engine: Engine, session: Session) -> None:
    queues = ",".join(f"a-queue-of-customer-{n:044}" for n in range(40))
    Heartbeat(engine, WORKER, "worker", queues=queues).beat()
    assert session.scalars(select(Worker.queues)).all() == [queues]
