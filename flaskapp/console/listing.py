"""What the URL of a job list asks for, and the URLs that ask for a little more or less.

The whole filter lives in the URL, so that a list can be sent to a colleague and the back button works.
"""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from flask import Request, url_for

from flaskapp.extensions import db
from flaskapp.jobs import queries
from flaskapp.jobs.models import Job, JobState
from flaskapp.jobs.queries import Filter, Position

PAGE_LENGTH = 50
#: Who asked: the value in the URL, what it filters by, and its words.
ASKED_BY = {"others": (False, "Not by schedules"), "schedules": (True, "By schedules")}


@dataclass(frozen=True)
class Listing:
    states: tuple[str, ...] = ()
    task: str = ""
    queue: str = ""
    text: str = ""
    by: str = ""
    older: Position | None = None
    newer: Position | None = None

    @classmethod
    def asked_by(cls, request: Request) -> "Listing":
        known = [state.value for state in JobState]
        return cls(
            states=tuple(state for state in known if state in request.args.getlist("state")),
            task=_plain(request.args.get("task", "")),
            queue=_plain(request.args.get("queue", "")),
            text=_plain(request.args.get("q", "")),
            by=by if (by := request.args.get("by", "")) in ASKED_BY else "",
            older=_position(request.args.get("older")),
            newer=_position(request.args.get("newer")),
        )

    @property
    def is_filtered(self) -> bool:
        return bool(self.states or self.task or self.queue or self.text or self.by)

    @property
    def is_newest(self) -> bool:
        return self.older is None and self.newer is None

    def filter(self, owner: str | None) -> Filter:
        scheduled = ASKED_BY[self.by][0] if self.by else None
        return Filter(self.states, self.task or None, self.queue or None, self.text or None, owner, scheduled)

    def arguments(self) -> dict[str, object]:
        """The filter as URL arguments, without the place in the list."""
        named = {"state": list(self.states), "task": self.task, "queue": self.queue, "q": self.text, "by": self.by}
        return {name: value for name, value in named.items() if value}

    def place(self) -> dict[str, object]:
        """The filter and the place in the list."""
        here = {"older": self.older and written(self.older), "newer": self.newer and written(self.newer)}
        return {**self.arguments(), **{name: value for name, value in here.items() if value}}

    def url_with_state(self, state: str) -> str:
        """The same list with one more state, or one less if it was chosen."""
        chosen = set(self.states) ^ {state}
        return self._url(replace(self, states=tuple(known.value for known in JobState if known in chosen)))

    def url_without(self, name: str) -> str:
        without: dict[str, Any] = {name: () if name == "states" else ""}
        return self._url(replace(self, **without))

    def _url(self, listing: "Listing") -> str:
        return url_for("console.jobs", **listing.arguments())  # type: ignore[arg-type]

    def url_older(self, position: Position) -> str:
        return url_for("console.jobs", **self.arguments(), older=written(position))  # type: ignore[arg-type]

    def url_newer(self, position: Position) -> str:
        return url_for("console.jobs", **self.arguments(), newer=written(position))  # type: ignore[arg-type]


@dataclass(frozen=True)
class ListPage:
    jobs: list[Job]
    older: Position | None
    newer: Position | None


def read_page(listing: Listing, owner: str | None) -> ListPage:
    """One page of the list; going newer past the top answers the first page."""
    wanted = listing.filter(owner)
    if listing.newer is not None:
        found = queries.newer_jobs(db.session(), wanted, listing.newer, PAGE_LENGTH)
        if len(found.jobs) == PAGE_LENGTH:
            return ListPage(found.jobs, found.older, _first(found.jobs))
        listing = replace(listing, newer=None)
    found = queries.jobs(db.session(), wanted, PAGE_LENGTH, listing.older)
    return ListPage(found.jobs, found.older, _first(found.jobs) if listing.older else None)


def _first(jobs: list[Job]) -> Position | None:
    return Position(jobs[0].created_at, jobs[0].id) if jobs else None


def written(position: Position) -> str:
    return f"{position.created_at.isoformat()}~{position.id}"


def _position(text: str | None) -> Position | None:
    """A place that cannot be read is the top of the list."""
    time, separator, job_id = _plain(text or "").partition("~")
    if not separator:
        return None
    try:
        at = datetime.fromisoformat(time)
    except ValueError:
        return None
    return Position(at, job_id) if at.tzinfo is not None else None


def _plain(text: str) -> str:
    # PostgreSQL refuses NUL in text.
    return text.replace("\x00", "").strip()[:400]
