"""The page of queues: what stands in each, and since when. The numbers come from SQL, not from the broker."""

from flask import current_app, render_template, request
from flask.typing import ResponseReturnValue

from flaskapp.console import charts, live
from flaskapp.console.blueprint import console
from flaskapp.console.remember import remembered
from flaskapp.jobs import queries


@console.get("/queues")
def queues() -> ResponseReturnValue:
    if request.args.get("part") == "list":
        return live.fragment(lambda: render_template("console/_queues.html", **_listed()))
    return render_template("console/queues.html", **_listed())


def _listed() -> dict[str, object]:
    depths = remembered(queries.queue_depths, _declared())
    live = {d.name: {"waiting": d.waiting, "queued": d.queued, "running": d.running} for d in depths}
    # All bars have one scale: the longest queue fills its line.
    most = max((sum(counts.values()) for counts in live.values()), default=0)
    bars = {name: charts.stacked_bar(counts, whole=most) for name, counts in live.items()}
    return {"depths": depths, "bars": bars}


def _declared() -> tuple[str, ...]:
    """The queues that the application declares, so that an empty one is shown as empty."""
    celery = current_app.extensions.get("celery")
    return tuple(sorted(queue.name for queue in (celery.conf.task_queues or ()))) if celery else ()
