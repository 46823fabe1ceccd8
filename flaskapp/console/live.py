"""Live pages: `GET /live` tells an open page that something it shows has changed; the page fetches that piece.

One thread per process looks at the database while someone listens, and wakes every open stream. A stream
holds no connection, ends after a minute, and is taken up again by the browser where it ended.
"""

import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from zlib import crc32

from flask import Flask, Response, current_app, request
from flask.typing import ResponseReturnValue

from flaskapp.console.blueprint import console
from flaskapp.console.viewer import visible_owner
from flaskapp.console.watcher import Stream, Versions, Watcher
from flaskapp.extensions import db
from flaskapp.jobs import watch

#: Pages that show the whole table, and not only the jobs they name.
_BROAD_PAGES = {"home", "jobs", "queues", "workers", "schedules"}
_MOST_IDS = 200
#: Each open page holds a thread of the server: gunicorn.conf.py has some more than these.
_MOST_STREAMS = 300
_STREAM_SECONDS = 60
_PING_SECONDS = 15
#: A shared fragment is not older than this, whatever happens.
_FRAGMENT_SECONDS = 1.0


def init_app(app: Flask) -> None:
    with app.app_context():
        app.extensions["watcher"] = Watcher(db.engine, int(app.config.get("LIVE_STREAMS", _MOST_STREAMS)))
    app.extensions["fragments"] = Fragments()


@console.get("/live")
def live() -> ResponseReturnValue:
    """`?page=jobs&id=…&id=…`: one `changed` event whenever the page, or one of the jobs it names, differs."""
    watcher: Watcher = current_app.extensions["watcher"]
    ids = watch.visible(db.session(), request.args.getlist("id")[:_MOST_IDS], visible_owner())
    stream = Stream(ids, broad=request.args.get("page") in _BROAD_PAGES)
    if not watcher.join(stream):
        return Response("Too many open pages; this one refreshes itself.", 503, {"Retry-After": "5"})
    seen = request.headers.get("Last-Event-ID", "")
    response = Response(_events(stream, seen), mimetype="text/event-stream")
    response.headers.update({"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
    # Also when the browser left before the first line was read.
    response.call_on_close(lambda: watcher.leave(stream))
    return response


def _events(stream: Stream, seen: str) -> Iterator[str]:
    """Compares levels, not edges: a page that missed an event is told at the next look."""
    yield "retry: 1500\n\n"
    ends = time.monotonic() + _STREAM_SECONDS
    known: Versions = {}
    while (left := ends - time.monotonic()) > 0:
        now = stream.wait(min(left, _PING_SECONDS))
        if now is None:
            yield ": still here\n\n"
            continue
        version = f"{crc32(repr(sorted(now.items())).encode()):08x}"
        if version != seen:
            changed = sorted(job_id for job_id in now if job_id and now[job_id] != known.get(job_id))
            data = json.dumps({"ids": changed, "page": now.get("") != known.get("")})
            yield f"event: changed\nid: {version}\ndata: {data}\n\n"
        seen, known = version, now


@dataclass
class _Kept:
    look: int
    until: float
    text: str


class Fragments:
    """The same piece for everyone who asks at the same moment with the same rights is rendered once."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str | None, str], _Kept] = {}
        self._locks: dict[tuple[str | None, str], threading.Lock] = {}

    def get(self, key: tuple[str | None, str], look: int, render: Callable[[], str]) -> str:
        if len(self._locks) > 1000:
            self._locks, self._kept = {}, {}
        with self._locks.setdefault(key, threading.Lock()):
            kept = self._kept.get(key)
            if kept is None or kept.look != look or kept.until < time.monotonic():
                kept = self._kept[key] = _Kept(look, time.monotonic() + _FRAGMENT_SECONDS, render())
            return kept.text


def fragment(render: Callable[[], str]) -> Response:
    """A piece of a page that depends on nothing but the URL, the database and whose jobs may be shown."""
    watcher: Watcher = current_app.extensions["watcher"]
    fragments: Fragments = current_app.extensions["fragments"]
    look = watcher.number
    if not look:
        return uncached(render())
    return uncached(fragments.get((visible_owner(), request.full_path), look, render))


def uncached(text: str) -> Response:
    return Response(text, mimetype="text/html", headers={"Cache-Control": "no-store"})
