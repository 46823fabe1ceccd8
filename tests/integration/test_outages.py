"""A task that meets an outage of our own database has not failed; one that cannot reach somebody else's has."""

from types import SimpleNamespace

import pytest
from sqlalchemy.exc import DataError, InterfaceError, OperationalError, ProgrammingError

from flaskapp.jobs import lifecycle, outages
from flaskapp.jobs.models import JobState
from flaskapp.jobs.outcomes import Claimed, Error, Failed, Outage
from flaskapp.worker import attempt
from flaskapp.worker.request import JobRequest
from tests.helpers import Bench
from tests.makers import claim, send

S, F = JobState.SUCCEEDED, JobState.FAILED


def test_a_task_whose_database_goes_away_is_put_back_uncounted(bench: Bench) -> None:
    job_id = bench.fate("meet_an_outage", "k", 2)

    bench.run()

    job = bench.job(job_id)
    assert (job.state, job.attempt, job.retries, job.crashes, len(bench.effects("k"))) == (S, 3, 0, 0, 1)
    assert [each.outcome for each in bench.attempts(job_id)] == ["stopped", "stopped"]


# SQLite has no standby, and one writer.
on_postgresql = pytest.mark.parametrize("database", ["postgresql"], indirect=True)


@on_postgresql
def test_a_task_whose_database_takes_nothing_for_a_while_is_put_back_uncounted(bench: Bench) -> None:
    writes, settles = bench.fate("meet_a_standby", "k", 2), bench.fate("meet_a_standby", "k", 2, False)

    bench.run()

    jobs = [bench.job(job_id) for job_id in (writes, settles)]
    assert [(job.state, job.attempt, job.retries, job.crashes) for job in jobs] == [(S, 3, 0, 0)] * 2
    assert len(bench.effects("k")) == 1


def test_a_task_that_meets_a_full_disk_is_put_back_uncounted(bench: Bench) -> None:
    job_id = bench.fate("meet_a_full_disk", "k", 2)

    bench.run()

    job = bench.job(job_id)
    assert (job.state, job.attempt, job.retries, job.crashes, len(bench.effects("k"))) == (S, 3, 0, 0, 1)


@on_postgresql
@pytest.mark.parametrize("code", ["40P01", "40001", "55P03"])
def test_a_task_that_loses_to_another_is_put_back_uncounted(bench: Bench, code: str) -> None:
    """Of two who wait for each other the database chose it; or another held a lock for too long."""
    job_id = bench.fate("lose_to_another", "k", 2, code)

    bench.run()

    job = bench.job(job_id)
    assert (job.state, job.attempt, job.retries, job.crashes, len(bench.effects("k"))) == (S, 3, 0, 0, 1)


def test_a_task_that_drives_its_database_away_fails_in_the_end(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outages, "MOST_OUTAGES", 3)
    job_id = bench.fate("meet_an_outage", "k", 99)

    bench.run()

    job = bench.job(job_id)
    assert (job.state, job.attempt, job.error_type) == (F, 4, "OperationalError")
    assert bench.effects("k") == []


def test_a_job_that_is_run_again_has_all_its_chances_again(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outages, "MOST_OUTAGES", 3)
    job_id = bench.fate("meet_an_outage", "k", 5)
    bench.run()
    with bench.session() as session, session.begin():
        assert lifecycle.run_again(session, job_id)

    bench.run()

    assert (bench.state(job_id), bench.job(job_id).attempt) == (S, 6)


def test_a_commit_that_never_succeeds_fails_its_job_in_the_end(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outages, "MOST_OUTAGES", 3)
    job_id = bench.fate("write_what_no_commit_takes", "k")

    bench.run()

    job = bench.job(job_id)
    assert (job.state, job.attempt, job.retries, job.crashes) == (F, 4, 0, 0)
    assert "no space left on device" in str(job.error_message)
    assert bench.effects("k") == []


def test_what_a_worker_settles_for_its_child_counts_the_same(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outages, "MOST_OUTAGES", 1)
    job_id = bench.fate("ok")
    with bench.session() as session, session.begin():
        for _ in range(2):
            send(session, job_id)
            seen = Error("OperationalError", "no space left on device")
            assert lifecycle.settle(session, [Outage(claim(session, job_id), seen, "while it was settled")])

    assert (bench.state(job_id), bench.job(job_id).attempt) == (F, 2)


def test_a_database_of_others_that_is_away_is_the_tasks_failure(bench: Bench) -> None:
    job_id = bench.fate("ask_a_database_of_others")

    bench.run()

    assert (bench.state(job_id), bench.job(job_id).attempt) == (F, 1)


_AWAY = [OperationalError("COMMIT", {}, Exception("gone")), InterfaceError("COMMIT", {}, Exception("closed"))]
_WRONG = [DataError("UPDATE", {}, Exception("too long")), ProgrammingError("UPDATE", {}, Exception("no such table"))]
CLAIMED = Claimed("a job", 1, "a worker")


@pytest.mark.parametrize(
    ("problem", "leads_to"), [(each, Outage) for each in _AWAY] + [(each, Failed) for each in _WRONG]
)
def test_only_a_database_that_is_away_puts_an_unsettled_attempt_back(problem: Exception, leads_to: type) -> None:
    """Seen by the child outside its trace, or by its parent."""
    request = SimpleNamespace(claimed=CLAIMED, taken_away=False)

    assert isinstance(attempt._unsettled(CLAIMED, problem), leads_to)
    assert isinstance(JobRequest._unsettled(request, problem, ""), leads_to)
