"""Live pages over a real server and real sockets: what changes in a row reaches the open page."""

import http.client
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from sqlalchemy import insert, update
from werkzeug.serving import make_server

from flaskapp.console import live
from flaskapp.console.watcher import Watcher
from flaskapp.extensions import db
from flaskapp.jobs.models import Job, Progress
from tests.integration.windows_fixtures import make_site


@pytest.fixture
def site(tmp_path):
    site = make_site(tmp_path)
    site.app.extensions["watcher"] = Watcher(site.engine(), most_streams=3)
    yield site
    with site.app.app_context():
        db.engine.dispose()


@pytest.fixture
def port(site):
    server = make_server("127.0.0.1", 0, site.app, threaded=True)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join(5)


class Listener:
    """One open page of somebody who is signed in."""

    def __init__(self, site, port: int, query: str, name: str = "olga", role: str = "operator", **headers: str) -> None:
        cookie = site.signed_in(name, role).get_cookie("offload_session")
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        headers["Cookie"] = f"offload_session={cookie.value}"
        self.connection.request("GET", f"/live?{query}", headers=headers)
        self.answer = self.connection.getresponse()

    def event(self) -> dict[str, str]:
        """The next event that is not a ping."""
        fields: dict[str, str] = {}
        while True:
            line = self.answer.readline().decode()
            assert line, "the stream has ended"
            line = line.rstrip("\n")
            if not line and "event" in fields:
                return fields
            if not line:
                fields = {}
            elif not line.startswith(":"):
                name, _, value = line.partition(": ")
                fields[name] = value


@pytest.fixture
def listening(site, port):
    @contextmanager
    def listening(query: str, **more: str) -> Iterator[Listener]:
        listener = Listener(site, port, query, **more)
        try:
            yield listener
        finally:
            listener.answer.close()
            listener.connection.close()

    return listening


def test_a_change_of_a_row_reaches_the_open_page_within_two_seconds(site, listening):
    job_id = site.job("running")
    with listening(f"page=job&id={job_id}") as page:
        first = page.event()
        changed_at = time.monotonic()
        site.write(insert(Progress).values(job_id=job_id, attempt=1, current=1, total=2))
        second = page.event()
    assert time.monotonic() - changed_at < 2
    assert json.loads(second["data"])["ids"] == [job_id]
    assert first["id"] != second["id"]


def test_a_new_job_reaches_the_list(site, listening):
    site.job("succeeded")
    with listening("page=jobs") as page:
        page.event()
        site.job()
        assert json.loads(page.event()["data"])["page"] is True


def test_a_page_that_comes_back_is_told_only_what_it_missed(site, listening):
    job_id = site.job("running")
    query = f"page=job&id={job_id}"
    with listening(query) as page:
        seen = page.event()["id"]
    with listening(query, **{"Last-Event-ID": seen}) as page:
        site.write(update(Job).where(Job.id == job_id).values(attempt=2))
        assert page.event()["id"] != seen
    site.write(update(Job).where(Job.id == job_id).values(attempt=1))
    with listening(query, **{"Last-Event-ID": "of-long-ago"}) as page:
        # The first event may be of the look just before that change; then comes the truth.
        assert page.event()["id"] == seen or page.event()["id"] == seen


def test_a_viewer_is_told_nothing_of_other_peoples_jobs(site, listening):
    own, other = site.job("running", owner="vera"), site.job("running", owner="olga")
    with listening(f"page=job&id={own}&id={other}", name="vera", role="viewer") as page:
        assert json.loads(page.event()["data"])["ids"] == [own]
        site.write(update(Job).where(Job.id == other).values(attempt=2))
        site.write(update(Job).where(Job.id == own).values(attempt=2))
        assert json.loads(page.event()["data"])["ids"] == [own]


def test_beyond_the_cap_a_page_is_told_to_come_back(site, listening):
    site.job()
    with listening("page=home"), listening("page=home"), listening("page=home"), listening("page=home") as refused:
        assert refused.answer.status == 503
        assert refused.answer.headers["Retry-After"]


def test_a_stream_ends_by_itself_and_the_last_one_ends_the_watching(site, listening, monkeypatch):
    monkeypatch.setattr(live, "_STREAM_SECONDS", 0.5)
    site.job()
    with listening("page=home") as page:
        page.event()
        assert b"event" not in page.answer.read()
    watcher = site.app.extensions["watcher"]
    ends = time.monotonic() + 5
    while watcher.number and time.monotonic() < ends:
        time.sleep(0.05)
    assert watcher.number == 0


def test_a_quiet_stream_gives_a_sign_of_life(site, listening, monkeypatch):
    monkeypatch.setattr(live, "_PING_SECONDS", 0.2)
    site.job("succeeded")
    with listening("page=jobs") as page:
        page.event()
        assert page.answer.readline() == b": still here\n"


def test_no_connection_is_held_while_a_page_listens(site, listening):
    site.job()
    with listening("page=home") as page, site.app.app_context():
        page.event()
        ends = time.monotonic() + 5
        # The watcher borrows one for a moment at each look.
        while (held := db.engine.pool.checkedout()) and time.monotonic() < ends:
            time.sleep(0.01)
        assert held == 0


def test_the_same_fragment_is_rendered_once_for_all(site, listening, monkeypatch):
    site.job("succeeded")
    renders = []
    original = live.Fragments.get

    def counting(self, key, look, render):
        return original(self, key, look, lambda: renders.append(key) or render())

    monkeypatch.setattr(live.Fragments, "get", counting)
    people = [site.signed_in(name, "operator") for name in ("olga", "otto")]
    with listening("page=jobs") as page:
        page.event()
        texts = {person.get("/jobs/rows").text for person in people}
    assert len(renders) == 1
    assert len(texts) == 1
