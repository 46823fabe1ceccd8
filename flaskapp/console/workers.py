"""The page of workers: who is alive, what each holds, how much memory it takes."""

import json
from dataclasses import dataclass

from flask import current_app, render_template, request
from flask.typing import ResponseReturnValue

from flaskapp.console import live
from flaskapp.console.blueprint import console
from flaskapp.console.viewer import visible_owner
from flaskapp.extensions import db
from flaskapp.jobs import queries
from flaskapp.jobs.models import Job, Worker

#: So many jobs of one worker are named; the rest is a number.
_NAMED_JOBS = 8


@dataclass(frozen=True)
class Hand:
    row: Worker
    #: How many jobs it holds, and those of them that the viewer may see.
    holds: int
    jobs: list[Job]


@console.get("/workers")
def workers() -> ResponseReturnValue:
    if request.args.get("part") == "list":
        return live.fragment(lambda: render_template("console/_workers.html", hands=_hands()))
    return render_template("console/workers.html", hands=_hands())


def _hands() -> list[Hand]:
    alive = queries.live_workers(db.session(), current_app.config["SETTINGS"].lease_seconds)
    return [_hand(row) for row in sorted(alive, key=lambda row: (row.kind != "worker", row.id))]


def _hand(row: Worker) -> Hand:
    ids = list(json.loads(row.holds))
    jobs = queries.jobs_by_ids(db.session(), ids[:_NAMED_JOBS], visible_owner()) if ids else []
    return Hand(row, len(ids), jobs)
