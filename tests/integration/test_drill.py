"""The drill's parts without its kills: what it submits, how it counts, what it leaves behind."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import pytest
from kombu import Exchange, Queue
from kombu.transport.virtual import Channel as VirtualChannel
from sqlalchemy import delete, insert, select

from flaskapp.broker import topology, transports
from flaskapp.diagnostics.models import Effect
from flaskapp.drill import scratch
from flaskapp.drill.count import Count, Kill, Record, count
from flaskapp.drill.report import table, verdict, write_report
from flaskapp.drill.work import KINDS, Work
from flaskapp.jobs.models import Job, JobState, Join
from flaskapp.jobs.pruning import prune_queue
from tests.helpers import Bench
from tests.services import RabbitMQ, Redis

S = JobState.SUCCEEDED


@pytest.fixture
def work(bench: Bench) -> Work:
    """Twenty jobs of every kind, all run."""
    work = Work(bench.app, "verify-x", 600)
    work.submit(20)
    while bench.run():
        for job in bench.jobs():
            if not job.is_final:
                bench.make_due(job.id)
    return work


def counted(bench: Bench, work: Work, **known: object) -> Count:
    record = Record(work, [Kill(1.0, [])], 0, bench.clock(), 10.0, 5.0)
    with bench.session() as session:
        return count(session, replace(record, **known))  # type: ignore[arg-type]


def test_every_kind_runs_in_the_scratch_queue_and_all_is_well(bench: Bench, work: Work) -> None:
    done = counted(bench, work)

    assert {job.queue for job in bench.jobs()} == {"verify-x"}
    assert {job.owner for job in bench.jobs()} == {"verify"}
    assert done.is_good, done.problems
    assert (done.accepted, done.succeeded) == (work.jobs, work.jobs)
    assert all(kind.jobs > 0 for kind in done.kinds)
    assert sum(kind.jobs for kind in done.kinds) == work.jobs


@pytest.mark.parametrize("kind", [kind.name for kind in KINDS if kind.keys("x/1")])
def test_an_effect_that_is_missing_is_lost(bench: Bench, work: Work, kind: str) -> None:
    key = [key for key, name in work.expected.items() if name == kind][-1]
    with bench.session() as session, session.begin():
        session.execute(delete(Effect).where(Effect.key == key))

    done = counted(bench, work)

    assert (done.lost, done.doubled, done.failed, done.is_good) == (1, 0, 0, False)
    assert key in done.problems[0].sentence
    assert [each.name for each in done.kinds if each.lost] == [kind]


def test_a_second_effect_is_doubled(bench: Bench, work: Work) -> None:
    key = next(iter(work.expected))
    with bench.session() as session, session.begin():
        session.execute(insert(Effect).values(key=key, job_id="again", attempt=2))

    done = counted(bench, work)

    assert (done.lost, done.doubled, done.is_good) == (0, 1, False)


def test_a_job_whose_row_is_gone_is_lost(bench: Bench, work: Work) -> None:
    job_id = next(iter(work.accepted))
    with bench.session() as session, session.begin():
        session.execute(delete(Job).where(Job.id == job_id))

    done = counted(bench, work)

    assert (done.lost, done.accepted) == (1, work.jobs)
    assert job_id in done.problems[0].sentence


def test_a_job_that_is_not_done_is_lost_once_with_all_that_should_come_of_it(bench: Bench) -> None:
    work = Work(bench.app, "verify-x", 600)
    work.submit(20)

    done = counted(bench, work)

    assert done.lost == done.accepted == len(work.accepted)


def test_a_failed_job_fails_the_drill_and_parked_ones_are_told_apart(bench: Bench, work: Work) -> None:
    first, second = list(work.accepted)[:2]
    bench.change(first, state=JobState.FAILED, error_message="no luck")
    bench.change(second, state=JobState.FAILED, crashes=3)

    done = counted(bench, work)

    assert (done.failed, done.parked, done.is_good) == (2, 1, False)


def test_a_start_long_after_the_job_was_due_is_late_but_no_failure(bench: Bench, work: Work) -> None:
    first, other = (bench.job(job_id) for job_id in list(work.accepted)[:2])
    assert first.started_at is not None
    bench.change(other.id, run_at=first.started_at - timedelta(seconds=10))
    assert counted(bench, work).late == 0, "its worker did not live before"
    bench.change(first.id, started_at=first.started_at - timedelta(seconds=6))

    assert counted(bench, work).late == 1
    assert counted(bench, work).is_good
    assert counted(bench, work, patience=8.0).late == 0


def test_a_job_that_the_last_kill_left_is_due_after_the_pause_that_its_second_crash_imposes(
    bench: Bench, work: Work
) -> None:
    left = bench.job(next(iter(work.accepted)))
    assert left.started_at is not None
    bench.change(left.id, crashes=1, started_at=left.started_at + timedelta(seconds=6))
    assert counted(bench, work, left=[left.id], left_at=left.started_at).late == 1

    bench.change(left.id, crashes=2)

    assert counted(bench, work, left=[left.id], left_at=left.started_at).late == 0


def test_kills_that_hit_nothing_prove_nothing(bench: Bench, work: Work) -> None:
    assert not counted(bench, work, kills_wanted=1).is_good
    assert counted(bench, work, kills_wanted=1, kills=[Kill(1.0, ["x"])]).is_good


def test_books_that_drifted_meanwhile_fail_the_drill(bench: Bench, work: Work) -> None:
    assert counted(bench, work).with_drift(3, 3).is_good
    assert not counted(bench, work).with_drift(0, 1).is_good


def test_a_report_says_the_same_and_needs_no_other_file(bench: Bench, work: Work) -> None:
    settings = bench.app.config["SETTINGS"]
    done = replace(counted(bench, work), doubled=1)
    path = settings.instance_path / "reports" / "verify.html"
    with bench.app.app_context():
        write_report(path, done, settings)

    page = path.read_text()
    assert "Not proven: 1 doubled." in page
    assert verdict(done) in table(done)
    assert "src=" not in page
    assert "href=" not in page


def test_only_final_jobs_of_that_queue_are_pruned_and_the_books_balance(bench: Bench, work: Work) -> None:
    other = bench.fate("ok")
    bench.run()
    left = bench.submit("diagnostics.echo", 1, queue="verify-x", countdown=60)

    with bench.session() as session, session.begin():
        assert prune_queue(session, "verify-x") == work.jobs

    assert {job.id for job in bench.jobs()} == {other, left}
    assert bench.account().drift == 0


def test_a_join_goes_with_the_last_of_its_members(bench: Bench, work: Work) -> None:
    with bench.session() as session, session.begin():
        joins = len(session.scalars(select(Join)).all())
        assert joins > 0
        assert prune_queue(session, "another") == 0
        assert len(session.scalars(select(Join)).all()) == joins
        while prune_queue(session, "verify-x", limit=3):
            members = set(session.scalars(select(Job.counts_for).where(Job.counts_for.is_not(None))))
            assert {join.id for join in session.scalars(select(Join))} == members


def test_a_chord_in_a_drill_is_one_transaction_and_its_body_belongs_to_it(bench: Bench, work: Work) -> None:
    chord = [job for job in bench.jobs() if work.kind_of(job.id, "") == "chord of three effects"]

    assert len(chord) % 4 == 0
    assert {(job.queue, job.owner, job.expires_at is not None) for job in chord} == {("verify-x", "verify", True)}


# --- the queue ---


@pytest.fixture(params=["folder", "rabbitmq", "redis"])
def broker_url(request: pytest.FixtureRequest, bench: Bench) -> Iterator[str]:
    if request.param == "rabbitmq":
        yield request.getfixturevalue("vhost")
    elif request.param == "redis":
        redis: Redis = request.getfixturevalue("redis")
        yield redis.url
    else:
        yield bench.app.config["SETTINGS"].broker_url


def holds(broker_url: str, name: str) -> bool:
    """Whether a message for that queue finds it."""
    with transports.connection(broker_url) as connection:
        channel = connection.default_channel
        if isinstance(channel, VirtualChannel):
            topology.WORK_QUEUES[0](channel).declare()
            return name in [queue for *_, queue in channel.get_table(topology.EXCHANGE.name)]
        try:
            Queue(name, Exchange(topology.EXCHANGE.name), channel=channel).queue_declare(passive=True)
        except connection.channel_errors:
            return False
        return True


def test_a_scratch_queue_is_made_and_removed(broker_url: str) -> None:
    name = scratch.new_name()
    scratch.make(broker_url, name)
    assert holds(broker_url, name)

    scratch.remove(broker_url, name)

    assert not holds(broker_url, name)


def test_a_young_drill_is_not_taken_for_a_dead_one(bench: Bench, broker_url: str) -> None:
    name = scratch.new_name()
    scratch.make(broker_url, name)
    job_id = bench.submit("diagnostics.echo", 1, queue=name)

    with bench.session() as session:
        assert scratch.remove_abandoned(session, broker_url) == []

    assert bench.state(job_id) == JobState.WAITING
    scratch.remove(broker_url, name)


def test_what_a_dead_drill_left_goes_with_the_next(
    bench: Bench, broker_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = scratch.new_name()
    scratch.make(broker_url, name)
    left = bench.submit("diagnostics.echo", 1, queue=name)
    others = bench.submit("diagnostics.echo", 1)
    monkeypatch.setattr(scratch, "ABANDONED", timedelta(seconds=-5))

    with bench.session() as session:
        assert scratch.remove_abandoned(session, broker_url) == [name]

    assert (bench.state(left), bench.state(others)) == (JobState.CANCELLED, JobState.WAITING)
    assert not holds(broker_url, name)


def test_rabbitmq_forgets_a_scratch_queue_by_itself(vhost: str, rabbitmq: RabbitMQ) -> None:
    name = scratch.new_name()
    scratch.make(vhost, name)

    (queue,) = [each for each in rabbitmq.api("GET", f"/queues/{vhost.rpartition('/')[2]}") if each["name"] == name]  # type: ignore[attr-defined]
    assert queue["arguments"]["x-expires"] == 1000 * topology.SCRATCH_SECONDS


def test_a_queue_that_is_only_named_stands_on_our_exchange(bench: Bench) -> None:
    queue = bench.celery.amqp.Queues(topology.WORK_QUEUES)["reports"]

    assert (queue.exchange, queue.routing_key) == (topology.EXCHANGE, "reports")
    assert queue.queue_arguments == topology.WORK_QUEUES[0].queue_arguments


def test_no_job_may_be_asked_for_that_only_a_drill_submits(bench: Bench) -> None:
    from flaskapp.api.wishes import task_names

    with bench.app.app_context():
        assert [name for name in task_names() if name.startswith("verify.")] == []


def test_effects_and_jobs_are_found_by_the_queues_whole_name(bench: Bench) -> None:
    """A drill's keys begin with its queue's name, in which `_` and `%` would mean anything else."""
    work = Work(bench.app, "verify_x", 600)
    with bench.session() as session, session.begin():
        session.execute(insert(Effect).values([{"key": "verify-x/1", "job_id": "y", "attempt": 1}] * 2))

    assert counted(bench, work).doubled == 0
    with bench.session() as session:
        assert len(session.scalars(select(Effect)).all()) == 2
