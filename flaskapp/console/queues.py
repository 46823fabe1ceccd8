"""The page of queues: what stands in each, and since when, and for operators how to steer them.

The numbers come from SQL, not from the broker.
"""

from contextlib import suppress

from flask import abort, current_app, flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from flaskapp.accounts.audit import nothing_changed, write_audit
from flaskapp.accounts.protection import requires
from flaskapp.api.rules import read_rule
from flaskapp.console import charts, live
from flaskapp.console.blueprint import console
from flaskapp.console.remember import remembered
from flaskapp.errors import BadArguments
from flaskapp.extensions import db
from flaskapp.jobs import control, queries
from flaskapp.jobs.limits import Rule
from flaskapp.worker.sessions import wake_relay

_MOST_LIMITS = 200


@console.get("/queues")
def queues() -> ResponseReturnValue:
    if request.args.get("part") == "list":
        return live.fragment(lambda: render_template("console/_queues.html", **_listed()))
    limits = control.limits(db.session())[:_MOST_LIMITS]
    return render_template("console/queues.html", **_listed(), declared=_declared(), limits=limits)


@console.post("/queues/steer")
@requires("operator")
def queue_steer() -> ResponseReturnValue:
    name, verb = request.form.get("queue", ""), request.form.get("verb", "")
    if name not in _declared():
        abort(404, "There is no such queue.")
    try:
        sentence, detail = _steer(name, verb)
    except BadArguments as problem:
        nothing_changed()
        flash(str(problem), "warning")
    else:
        write_audit(db.session(), f"queue.{verb}", name, detail)
        wake_relay(db.session())
        db.session.commit()
        flash(sentence)
    return redirect(url_for("console.queues"), 303)


def _steer(name: str, verb: str) -> tuple[str, str]:
    """What was done, for the person and for the audit log."""
    match verb:
        case "pause":
            control.pause_queue(db.session(), name)
            return f"The queue {name} is paused: no further job of it starts.", ""
        case "resume":
            control.resume_queue(db.session(), name)
            return f"The queue {name} goes on.", ""
        case "limits":
            rule = _asked_rule()
            control.set_queue_limits(db.session(), name, rule)
            words = rule.in_words()
            return f"The queue {name}: {words or 'no limit'}.", words or "none"
    abort(404)


def _asked_rule() -> Rule:
    """The same checks as in the API; an empty field does not limit."""
    running, count, seconds = (_number(field) for field in ("max_running", "count", "seconds"))
    return read_rule({"max_running": running, "rate": None if count is None else {"count": count, "seconds": seconds}})


def _number(field: str) -> object:
    """As the API would get it; a text that is no number is refused there."""
    text = request.form.get(field, "").strip()
    with suppress(ValueError):
        return float(text) if field == "seconds" else int(text)
    return text or None


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
