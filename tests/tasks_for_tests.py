"""Tasks whose first argument picks their fate, for tests of every way in which an attempt can end."""

import os
import signal
import sqlite3
import time
from contextlib import closing
from typing import Any

from celery import chain, chord, group, shared_task
from celery.exceptions import Ignore, Reject, SoftTimeLimitExceeded
from flask import current_app
from sqlalchemy import create_engine, event, insert, select, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from flaskapp.diagnostics.models import Effect
from flaskapp.diagnostics.tasks import echo
from flaskapp.extensions import db
from flaskapp.jobs import lifecycle, queries
from flaskapp.jobs.clock import now


class OddError(Exception):
    """Cannot be made again from its arguments, and they are not JSON."""

    def __init__(self, first: object, second: object) -> None:
        super().__init__(object(), second)
        self.first = first

    def __str__(self) -> str:
        return "odd"


def write(task: Any, key: str) -> None:
    row = {"key": key, "job_id": task.request.id, "attempt": task.attempt_number}
    db.session.execute(insert(Effect).values(row))


def ok(task: Any, value: Any = None) -> Any:
    return value


def fail(task: Any, message: str = "on purpose") -> None:
    raise ValueError(message)


def fail_oddly(task: Any) -> None:
    raise OddError(1, 2)


def fail_unspeakably(task: Any) -> None:
    raise ValueError("nul \x00 and surrogate \ud800")


def die(task: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def swell_and_die(task: Any, megabytes: int) -> None:
    """Takes memory, tells how far it came, and is killed after the heartbeat had time to look."""
    hoard = bytearray(megabytes * 10**6)
    hoard[::4096] = b"x" * len(hoard[::4096])
    task.progress(48_112, 100_000, "reading")
    time.sleep(2.5)
    die(task)


def leave_once(task: Any) -> None:
    if task.attempt_number == 1:
        os._exit(3)


def sleep(task: Any, seconds: float) -> float:
    time.sleep(seconds)
    return seconds


def write_and_sleep(task: Any, key: str, seconds: float) -> str:
    """Sleeps before it writes, so that no write lock is held meanwhile."""
    time.sleep(seconds)
    write(task, key)
    return key


def occupy(task: Any, key: str, seconds: float) -> None:
    """Writes down from when to when it ran, by the database's clock."""
    begin = db.session.execute(select(now())).scalar_one()
    time.sleep(seconds)
    for moment, at in (("begins", begin), ("ends", db.session.execute(select(now())).scalar_one())):
        row = {"key": f"{key} {moment}", "job_id": task.request.id, "attempt": task.attempt_number, "at": at}
        db.session.execute(insert(Effect).values(row))


def catch_soft_limit(task: Any, seconds: float) -> str:
    """Tidies up when its time is nearly over."""
    try:
        time.sleep(seconds)
    except SoftTimeLimitExceeded:
        return "half of it"
    return "all of it"


def sleep_in_first(task: Any, key: str, seconds: float) -> int:
    """Only the first attempt is slow."""
    if task.attempt_number == 1:
        time.sleep(seconds)
    write(task, key)
    return int(task.attempt_number)


def ignore(task: Any) -> None:
    write(task, "ignored")
    raise Ignore("nothing to do")


def reject(task: Any) -> None:
    write(task, "rejected")
    raise Reject("not for us")


def reject_requeue(task: Any) -> str:
    if task.attempt_number == 1:
        write(task, "rejected")
        raise Reject("not now", requeue=True)
    return "later"


def retry(task: Any, times: int, limit: int = 3, countdown: float = 0) -> int:
    if task.request.retries < times:
        write(task, "retried")
        raise task.retry(exc=ValueError("try again"), countdown=countdown, max_retries=limit)
    return int(task.request.retries)


def retry_with_other_arguments(task: Any, value: str) -> str:
    if task.request.retries == 0:
        raise task.retry(args=["retry_with_other_arguments", "second"], countdown=0)
    return value


def retry_nothrow(task: Any) -> str:
    if task.request.retries == 0:
        write(task, "before")
        task.retry(countdown=0, throw=False)
        return "first"
    return "second"


def replace(task: Any) -> None:
    write(task, "replaced")
    raise task.replace(echo.si("the other"))


def retry_at_priority(task: Any, priority: int) -> None:
    if task.request.retries == 0:
        raise task.retry(countdown=0, priority=priority)


def replace_by_mailhost(task: Any) -> None:
    raise task.replace(task.app.tasks["tests.of_the_mailhost"].si())


def replace_chain(task: Any) -> None:
    raise task.replace(chain(echo.si("one"), echo.si("two")))


def replace_twice(task: Any) -> None:
    raise task.replace(task.app.tasks["tests.fate"].si("replace"))


def fail_in_first(task: Any, value: int) -> int:
    if task.attempt_number == 1:
        raise ValueError("in the first attempt")
    return value


def replace_by_failing_chain(task: Any) -> None:
    raise task.replace(chain(task.app.tasks["tests.fate"].si("fail_in_first", 1), add.s(2)))


def replace_by_add(task: Any, value: int) -> None:
    raise task.replace(add.si(value))


def replace_by_chain(task: Any, value: int) -> None:
    raise task.replace(chain(add.si(value), add.s(1)))


def replace_by_group(task: Any, value: int) -> None:
    raise task.replace(group(add.si(value), add.si(value + 1)))


def replace_by_chord(task: Any, value: int) -> None:
    raise task.replace(chord([add.si(value), add.si(value + 1)], add.s()))


def add_to_chord(task: Any, value: int) -> int:
    task.add_to_chord(add.si(value))
    return value


def submit_child(task: Any, *fate_of_child: Any) -> str:
    return str(task.app.tasks["tests.fate"].delay(*fate_of_child).id)


def submit_child_in_a_context_of_its_own(task: Any, commit: bool) -> str:
    with current_app._get_current_object().app_context():
        child = str(task.app.tasks["tests.fate"].delay("ok").id)
        if commit:
            db.session.commit()
    return child


def submit_chord_then_fail(task: Any) -> None:
    chord([add.si(1), add.si(2)])(add.s())
    raise ValueError("after submitting")


def submit_child_then_fail(task: Any) -> None:
    task.app.tasks["tests.fate"].delay("ok")
    raise ValueError("after submitting")


def write_then_ok(task: Any, key: str) -> str:
    write(task, key)
    return key


def write_then_fail(task: Any, key: str) -> None:
    write(task, key)
    raise ValueError("after writing")


def write_and_commit_midway(task: Any, key: str) -> None:
    write(task, f"{key} before")
    db.session.commit()
    write(task, f"{key} after")
    raise ValueError("after the checkpoint")


def break_session(task: Any) -> str:
    """Leaves the session in a transaction that its database has given up."""
    write(task, "broken")
    try:
        db.session.execute(text("SELECT nothing FROM nowhere"))
    except Exception as problem:  # noqa: BLE001 -- the task is a bad citizen on purpose
        return type(problem).__name__
    return "unbroken"


def leave_a_wrong_row(task: Any) -> str:
    """Its flush will fail, after the task has returned."""
    db.session.add(Effect(key=None, job_id="x", attempt=1))
    return "looks well"


def lose_commits(task: Any, key: str, moments: list[str]) -> str:
    """The first attempt's commits are lost: `before` they reach the database, or `after`: then only the answer is."""
    write(task, key)
    if task.attempt_number > 1:
        return key
    engine = db.engine
    left = list(moments)

    @event.listens_for(engine, "commit")
    def lose(connection: Any) -> None:
        if not left:
            return
        if left.pop(0) == "after":
            connection.connection.dbapi_connection.commit()
        connection.invalidate()
        raise OperationalError("COMMIT", {}, Exception("the server closed the connection"))

    return key


def fail_and_lose_commits(task: Any, key: str, moments: list[str]) -> None:
    lose_commits(task, key, moments)
    raise ValueError("and then the database went away")


def meet_an_outage(task: Any, key: str, times: int) -> str:
    """In its first attempts our database ends the connection; SQLite, which has none, is locked by a stranger."""
    write(task, key)
    if task.attempt_number > times:
        return key
    if db.engine.dialect.name == "postgresql":
        db.session.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))
    db.session.rollback()
    db.session.execute(text("PRAGMA busy_timeout = 1"))
    with closing(sqlite3.connect(str(db.engine.url.database))) as stranger:
        stranger.execute("BEGIN IMMEDIATE")
        write(task, key)
    return "not reached"


def write_what_no_commit_takes(task: Any, key: str) -> str:
    """Each attempt that wrote is refused at its commit, as by a disk that is full for it alone."""
    write(task, key)
    engine = db.engine

    @event.listens_for(engine, "commit", once=True)
    def refuse(connection: Any) -> None:
        raise OperationalError("COMMIT", {}, Exception("no space left on device"))

    return key


def meet_a_standby(task: Any, key: str, times: int, writes: bool = True) -> str:
    """In its first attempts our database takes nothing, neither from it nor from us: it became a standby."""
    if task.attempt_number <= times:
        db.session.execute(text("SET TRANSACTION READ ONLY"))
    if writes:
        write(task, key)
    return key


def meet_a_full_disk(task: Any, key: str, times: int) -> str:
    """In its first attempts our database finds no room; SQLite, whose file may have no further page, for real."""
    write(task, key)
    if task.attempt_number > times:
        return key
    if db.engine.dialect.name == "postgresql":
        db.session.execute(text("DO $$ BEGIN RAISE EXCEPTION 'no space left' USING ERRCODE = 'disk_full'; END $$"))
    db.session.execute(text("PRAGMA max_page_count = 1"))
    try:
        write(task, key * 1_000_000)
    finally:
        db.session.rollback()
        db.session.execute(text("PRAGMA max_page_count = 4294967294"))
    return "not reached"


def lose_to_another(task: Any, key: str, times: int, code: str) -> str:
    """In its first attempts our database ends its statement in favour of another's, with this SQLSTATE."""
    write(task, key)
    if task.attempt_number <= times:
        db.session.execute(text(f"DO $$ BEGIN RAISE EXCEPTION 'you lose' USING ERRCODE = '{code}'; END $$"))
    return key


def ask_a_database_of_others(task: Any) -> None:
    create_engine("postgresql://nobody@127.0.0.1:1/nothing").connect()


def fail_after_being_cancelled(task: Any) -> None:
    _cancel(task)
    raise ValueError("too late")


def write_everything_after_being_cancelled(task: Any, key: str) -> str:
    """Through the ORM, through Core, and a child: none of it may count."""
    _cancel(task)
    db.session.add(Effect(key=f"{key} orm", job_id=task.request.id, attempt=task.attempt_number))
    write(task, f"{key} core")
    task.app.tasks["tests.fate"].delay("ok")
    return key


def commit_after_being_cancelled(task: Any, key: str) -> None:
    _cancel(task)
    write(task, key)
    db.session.commit()


def commit_midway_then_lose_the_lease(task: Any, key: str) -> None:
    """The checkpoint was still ours; what follows it is not."""
    write(task, f"{key} before")
    db.session.commit()
    _cancel(task)
    write(task, f"{key} after")


def _cancel(task: Any) -> None:
    """Somebody else fences this attempt off while it runs."""
    with Session(db.engine) as session, session.begin():
        lifecycle.cancel(session, task.request.id)


def replace_with_a_wrong_row(task: Any) -> None:
    leave_a_wrong_row(task)
    raise task.replace(echo.si("never"))


def unencodable(task: Any) -> object:
    return object()


def look_at_oneself(task: Any, *how: Any) -> list[Any]:
    """What another connection sees while this runs."""
    if how:
        task.update_state(state="READING", meta={"current": 3, "total": 10})
    seen = task.app.AsyncResult(task.request.id)
    return [seen.state, seen.info]


def tell_progress(task: Any) -> list[Any]:
    """What another connection sees of the progress."""
    task.progress(3, 10, "three of ten")
    with Session(db.engine) as session:
        row = queries.progress(session, [task.request.id])[task.request.id]
        return [row.current, row.total, row.message, row.attempt]


def who_am_i(task: Any) -> list[Any]:
    request = task.request
    return [request.id, request.retries, request.root_id, request.parent_id, request.delivery_info["routing_key"]]


FATES = {name: function for name, function in globals().items() if getattr(function, "__module__", "") == __name__}


@shared_task(bind=True, name="tests.fate")
def fate(self: Any, what: str, *args: Any) -> Any:
    """Do what the first argument says."""
    return FATES[what](self, *args)


@shared_task(bind=True, name="tests.autoretry", autoretry_for=(ValueError,), max_retries=2, retry_backoff=False)
def autoretry(self: Any, times: int) -> int:
    if self.request.retries < times:
        raise ValueError("temporary")
    return int(self.request.retries)


@shared_task(name="tests.forgetful", ignore_result=True)
def forgetful() -> str:
    return "nobody reads this"


@shared_task(name="tests.add")
def add(*numbers: Any) -> Any:
    return sum(sum(number) if isinstance(number, list) else number for number in numbers)


@shared_task(name="tests.total")
def total(*numbers: Any) -> int:
    """The sum of all numbers in whatever lists."""
    return sum(total(*number) if isinstance(number, list) else number for number in numbers)


@shared_task(bind=True, name="tests.fail_first_body")
def fail_first_body(self: Any, results: list[Any], *_: Any) -> list[Any]:
    """A chord's body that fails in its first attempt."""
    if self.attempt_number == 1:
        raise ValueError("the body")
    return results


@shared_task(name="tests.note_error")
def note_error(request: Any, exc: Any, traceback: Any) -> None:
    """An errback of the new kind: called in the worker that failed."""
    db.session.execute(insert(Effect).values(key=f"errback {exc}", job_id=str(request.id), attempt=0))


@shared_task(name="tests.note_failed_id")
def note_failed_id(job_id: str) -> None:
    """An errback of the old kind: a job of its own, given the failed job's id."""
    db.session.execute(insert(Effect).values(key=f"errback of {job_id}", job_id=job_id, attempt=0))


@shared_task(name="tests.write_nonsense")
def write_nonsense(request: Any, exc: Any, traceback: Any) -> None:
    """An errback that leaves what cannot be written."""
    db.session.add(Effect(key=None, job_id="x", attempt=0))


@shared_task(name="tests.limited", time_limit=1)
def limited(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


@shared_task(name="tests.limited_softly", soft_time_limit=1)
def limited_softly(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


@shared_task(
    bind=True, name="tests.with_own_options", queue="uploads", expires=60, priority=3, time_limit=50, max_retries=2
)
def with_own_options(self: Any, **options: Any) -> None:
    """A task whose class says how it is sent."""
    if self.request.retries == 0:
        raise self.retry(countdown=0, **options)


@shared_task(name="tests.of_the_mailhost", limit_key="mailhost")
def of_the_mailhost(value: Any = None) -> Any:
    return value
