"""Workers over HTTP: the processes whose heartbeat is younger than a lease."""

from flask import Response, current_app

from flaskapp.api.blueprint import answer, api
from flaskapp.api.shapes import moment
from flaskapp.extensions import db
from flaskapp.jobs import queries
from flaskapp.jobs.masking import decoded


@api.get("/workers")
def list_workers() -> Response:
    lease_seconds = current_app.config["SETTINGS"].lease_seconds
    items = []
    for worker in queries.live_workers(db.session(), lease_seconds):
        holds = decoded(worker.holds)
        items.append(
            {
                "id": worker.id,
                "kind": worker.kind,
                "host": worker.host,
                "pid": worker.pid,
                "queues": [name for name in worker.queues.split(",") if name],
                "concurrency": worker.concurrency,
                "started_at": moment(worker.started_at),
                "heartbeat_at": moment(worker.heartbeat_at),
                # How many, not which: a viewer may not see other people's jobs.
                "jobs": len(holds) if isinstance(holds, dict) else 0,
                "memory": worker.memory,
            }
        )
    return answer({"items": items})
