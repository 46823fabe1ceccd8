"""A queue that is drained: what is at the broker finishes, new work is accepted and waits."""

from sqlalchemy.orm import Session

from flaskapp.jobs import control, lifecycle, queries
from flaskapp.jobs.models import JobState
from flaskapp.jobs.outcomes import RetryLater, Succeeded
from tests import makers
from tests.makers import state_of, waiting

W, R = JobState.WAITING, JobState.RUNNING


def sent(session: Session) -> list[str]:
    """One turn of the relay, confirmed."""
    ids = [job.id for job in lifecycle.take_to_send(session, "relay", 100, 30)]
    lifecycle.mark_queued(session, "relay", ids)
    return ids


def depth(session: Session) -> queries.QueueDepth:
    return next(one for one in queries.queue_depths(session) if one.name == "mail")


def test_what_is_at_the_broker_starts_and_nothing_more_is_sent(session: Session) -> None:
    at_broker, new = makers.queued(session, queue="mail"), waiting(session, queue="mail")
    control.drain_queue(session, "mail")

    assert sent(session) == []
    makers.claim(session, at_broker)

    assert (state_of(session, at_broker), state_of(session, new)) == (R, W)


def test_other_queues_go_on(session: Session) -> None:
    control.drain_queue(session, "mail")
    other = waiting(session)

    assert sent(session) == [other]


def test_it_is_drained_once_nothing_is_queued_or_running(session: Session) -> None:
    job_id = makers.queued(session, queue="mail")
    waiting(session, queue="mail")
    assert not depth(session).is_drained
    control.drain_queue(session, "mail")
    assert not depth(session).is_drained

    claimed = makers.claim(session, job_id)
    assert not depth(session).is_drained
    lifecycle.settle(session, [Succeeded(claimed)])

    assert depth(session).is_drained
    assert depth(session).waiting == 1


def test_a_retry_of_a_draining_queue_waits_for_it_to_go_on(session: Session) -> None:
    job_id = makers.queued(session, queue="mail")
    control.drain_queue(session, "mail")
    lifecycle.settle(session, [RetryLater(makers.claim(session, job_id), makers.BOOM)])

    assert sent(session) == []
    control.resume_queue(session, "mail")
    assert sent(session) == [job_id]


def test_a_pause_ends_a_drain_and_a_drain_ends_a_pause(session: Session) -> None:
    assert control.drain_queue(session, "mail")
    assert not control.drain_queue(session, "mail")

    assert control.pause_queue(session, "mail")
    assert (depth(session).paused_at is not None, depth(session).draining_at) == (True, None)
    assert control.drain_queue(session, "mail")
    assert (depth(session).paused_at, depth(session).draining_at is not None) == (None, True)

    assert control.resume_queue(session, "mail")
    assert (depth(session).paused_at, depth(session).draining_at) == (None, None)
    assert not control.resume_queue(session, "mail")
