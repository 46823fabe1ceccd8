"""A job that is due and does not start says what holds it."""

from sqlalchemy.orm import Session

from flaskapp.jobs import control
from flaskapp.jobs.clock import seconds_from_now
from flaskapp.jobs.holding import why_held
from flaskapp.jobs.limits import Rule
from flaskapp.jobs.models import Job
from tests import makers
from tests.makers import claim, waiting


def why(session: Session, job_id: str) -> str:
    session.expire_all()
    return why_held(session, session.get_one(Job, job_id))


def test_nothing_holds_a_job_of_a_queue_for_which_nothing_is_set(session: Session) -> None:
    assert why(session, waiting(session)) == ""


def test_it_names_its_full_queue_and_the_limit(session: Session) -> None:
    control.set_queue_limits(session, "query", Rule(max_running=1))
    first, second = waiting(session, queue="query"), waiting(session, queue="query")
    claim(session, first)
    assert why(session, second) == "It waits for its turn in the queue query: at most 1 at a time."
    assert why(session, first) == ""


def test_it_names_its_full_key(session: Session) -> None:
    control.set_limit(session, "customer", Rule(max_running=1))
    first, second = (waiting(session, limit_key="customer") for _ in range(2))
    claim(session, first)
    assert why(session, second) == "It waits for its turn among the jobs of customer: at most 1 at a time."


def test_a_paused_queue_holds_also_what_is_at_the_broker(session: Session) -> None:
    job_id = waiting(session)
    makers.send(session, job_id)
    control.pause_queue(session, "default")
    assert why(session, job_id) == "The queue default is paused: nothing of it starts."


def test_a_draining_queue_holds_what_is_not_at_the_broker_yet(session: Session) -> None:
    at_the_broker, here = waiting(session), waiting(session)
    makers.send(session, at_the_broker)
    control.drain_queue(session, "default")
    assert why(session, here) == "The queue default is being drained: nothing more of it is sent."
    assert why(session, at_the_broker) == ""


def test_a_job_that_is_not_due_is_not_held(session: Session) -> None:
    control.pause_queue(session, "default")
    later = session.scalar(seconds_from_now(60).select())
    assert why(session, waiting(session, run_at=later)) == ""
