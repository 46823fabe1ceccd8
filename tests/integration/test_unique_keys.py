"""A unique key under a race: however many submit at once, from threads or from processes, one job is accepted."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from sqlalchemy import Engine, func, select, text
from sqlalchemy.orm import Session

from flaskapp.jobs import lifecycle, queries
from flaskapp.jobs.models import Job, JobState
from flaskapp.jobs.outcomes import Succeeded, Wish
from tests.helpers import ROOT, Bench, environment, make_current, wait_until
from tests.makers import attempts_of, claim, failed, send, state_of, waiting

RACERS = 20


def test_threads_that_submit_the_same_key_at_once_get_one_job(bench: Bench) -> None:
    def submit(n: int) -> str:
        make_current(bench.app)
        return bench.fate("ok", n, unique_key="report")

    with ThreadPoolExecutor(RACERS) as pool:
        ids = set(pool.map(submit, range(RACERS)))

    assert [job.id for job in bench.jobs()] == list(ids)
    assert bench.account().accepted == 1
    assert not bench.account().drift


_PROCESS = """
import sys
from flaskapp import config, create_app
app = create_app(config.from_environment())
app.extensions["celery"].relay.nudge = lambda: None
print("ready", flush=True)
sys.stdin.readline()
for key in ("one", "two", "three"):
    print(app.extensions["celery"].send_task("diagnostics.echo", args=[1], unique_key=key).id, flush=True)
"""


def test_processes_that_submit_the_same_keys_at_once_get_one_job_each(
    bench: Bench, database: str, tmp_path: Path
) -> None:
    settings = environment(database, f"folder://{tmp_path}/broker", tmp_path)
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", _PROCESS],
            cwd=ROOT,
            env={"PATH": "/usr/bin:/bin", **settings},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    try:
        for racer in racers:
            assert racer.stdout is not None
            assert racer.stdout.readline() == "ready\n"
        for racer in racers:
            assert racer.stdin is not None
            racer.stdin.write("go\n")
            racer.stdin.flush()
        answers = {racer.communicate(timeout=60)[0] for racer in racers}
    finally:
        for racer in racers:
            racer.kill()
            racer.wait(10)

    assert len(answers) == 1
    assert sorted(answers.pop().split()) == sorted(job.id for job in bench.jobs())
    assert (len(bench.jobs()), bench.account().accepted) == (3, 3)


def test_a_key_that_is_freed_while_others_ask_for_it_is_never_an_error(engine: Engine, session: Session) -> None:
    """Each racer submits, runs and ends its job, again and again: at no moment do two live jobs hold the key."""
    rounds = 15

    def race(n: int) -> int:
        mine = 0
        for _ in range(rounds):
            with Session(engine) as session, session.begin():
                (job_id,) = lifecycle.submit(session, [Wish("tests.fate", owner=f"racer {n}", unique_key="k")])
                live = session.scalar(select(func.count()).where(Job.live_key == "k"))
                assert live is not None
                assert live <= 1
            with Session(engine) as session, session.begin():
                job = queries.job_by_id(session, job_id)
                if job is not None and job.owner == f"racer {n}" and job.state == JobState.WAITING:
                    mine += lifecycle.cancel(session, job_id)
        return mine

    with ThreadPoolExecutor(8) as pool:
        ended = sum(pool.map(race, range(8)))

    states = dict(session.execute(select(Job.state, func.count()).group_by(Job.state)).all())
    assert states.get(JobState.CANCELLED) == ended
    assert states.get(JobState.WAITING, 0) <= 1


def test_of_run_again_and_a_new_submit_one_gets_the_key(engine: Engine, session: Session) -> None:
    old = failed(session, unique_key="k")
    session.commit()

    def again(_: int) -> bool:
        with Session(engine) as session, session.begin():
            return lifecycle.run_again(session, old)

    def fresh(_: int) -> bool:
        with Session(engine) as session, session.begin():
            return lifecycle.submit(session, [Wish("tests.fate", unique_key="k")]) != [old]

    with ThreadPoolExecutor(RACERS) as pool:
        asked = [pool.submit(again if n % 2 else fresh, n) for n in range(RACERS)]
        for each in asked:
            each.result(30)

    assert session.scalar(select(func.count()).where(Job.live_key == "k")) == 1


def test_a_job_does_not_run_again_while_its_key_is_just_being_taken(engine: Engine, session: Session) -> None:
    old = failed(session, unique_key="k")
    session.commit()

    def again() -> bool:
        with Session(engine) as session, session.begin():
            return lifecycle.run_again(session, old)

    def somebody_waits_for_a_lock() -> bool:
        waiting = text("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
        with engine.connect() as connection:
            return engine.dialect.name == "sqlite" or bool(connection.execute(waiting).scalar())

    with Session(engine) as other, ThreadPoolExecutor(1) as pool:
        (fresh,) = lifecycle.submit(other, [Wish("tests.fate", unique_key="k")])
        asked = pool.submit(again)
        wait_until(somebody_waits_for_a_lock, 20, "it waits for the key")
        other.commit()
        assert asked.result(30) is False

    assert (state_of(session, fresh), state_of(session, old)) == (JobState.WAITING, JobState.FAILED)
    assert attempts_of(session, old) == 0


def test_a_key_is_held_while_its_job_waits_runs_and_retries(session: Session) -> None:
    first = waiting(session, unique_key="k")
    send(session, first)
    claimed = claim(session, first)
    assert waiting(session, unique_key="k") == first
    assert not lifecycle.run_again(session, first)

    lifecycle.settle(session, [Succeeded(claimed)])

    assert waiting(session, unique_key="k") != first
