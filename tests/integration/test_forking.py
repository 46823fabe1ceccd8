"""A pool child is never forked while another thread of its parent is inside SQLite, and inherits no open database."""

import os
import threading
from pathlib import Path

from sqlalchemy import text
from sqlalchemy.engine import URL

from flaskapp.extensions import control_engine, core_session


def test_a_fork_waits_until_no_thread_is_inside_sqlite(tmp_path: Path) -> None:
    engine = control_engine(URL.create("sqlite", database=str(tmp_path / "x.sqlite3")))
    inside, leave, forked = threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        with core_session(engine):
            inside.set()
            leave.wait(10)

    def fork() -> None:
        if (child := os.fork()) == 0:
            os._exit(0)
        forked.set()
        os.waitpid(child, 0)

    worker, forker = threading.Thread(target=work), threading.Thread(target=fork)
    worker.start()
    assert inside.wait(10)
    forker.start()
    assert not forked.wait(0.3)
    leave.set()
    assert forked.wait(10)
    worker.join(10)
    forker.join(10)
    engine.dispose()


def test_a_child_inherits_no_open_sqlite_connection(tmp_path: Path) -> None:
    database = tmp_path / "x.sqlite3"
    engine = control_engine(URL.create("sqlite", database=str(database)))
    with core_session(engine) as session:
        session.execute(text("CREATE TABLE t (x)"))
        session.commit()
    assert files_open_below(tmp_path), "the pool keeps a connection"

    if (child := os.fork()) == 0:
        os._exit(len(files_open_below(tmp_path)))
    _, status = os.waitpid(child, 0)

    assert os.waitstatus_to_exitcode(status) == 0
    with core_session(engine) as session:
        assert session.scalar(text("SELECT count(*) FROM t")) == 0
    engine.dispose()


def files_open_below(folder: Path) -> list[str]:
    names = [os.readlink(link) for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
    return [name for name in names if name.startswith(str(folder))]
