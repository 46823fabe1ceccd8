"""The page of queues: what stands in each by SQL and by RabbitMQ, how operators steer them, and what died.

The broker's figures are what is known of it, never waited for; without it the page is SQL's alone. Dead letters hold
other people's words: only operators see them.
"""

from contextlib import suppress

from flask import abort, current_app, flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_login import current_user

from flaskapp.accounts.audit import nothing_changed, write_audit
from flaskapp.accounts.protection import requires
from flaskapp.api.broker_view import management
from flaskapp.api.rules import read_rule
from flaskapp.broker import topology
from flaskapp.broker.management import OLD_SECONDS
from flaskapp.console import charts, live
from flaskapp.console.blueprint import console
from flaskapp.console.remember import remembered
from flaskapp.errors import BadArguments, NotReplayable
from flaskapp.extensions import db
from flaskapp.jobs import control, last_hour, letters, masking, queries
from flaskapp.jobs.limits import Rule
from flaskapp.worker.replay import replay
from flaskapp.worker.sessions import wake_relay

_MOST_LIMITS = 200
_LETTERS_SHOWN, _PAYLOAD_SHOWN = 20, 1000


@console.get("/queues")
def queues() -> ResponseReturnValue:
    if request.args.get("part") == "list":
        return live.fragment(lambda: render_template("console/_queues.html", **_listed()))
    limits = control.limits(db.session())[:_MOST_LIMITS]
    return render_template("console/queues.html", **_listed(), **_letters(), declared=_declared(), limits=limits)


@console.post("/queues/steer")
@requires("operator")
def queue_steer() -> ResponseReturnValue:
    # A button of a row names its queue in the address: its form stands outside of the live part.
    name, verb = request.args.get("queue") or request.form.get("queue", ""), request.form.get("verb", "")
    if name not in {depth.name for depth in queries.queue_depths(db.session(), _declared())}:
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
        case "drain":
            control.drain_queue(db.session(), name)
            return f"The queue {name} is draining: what is at the broker finishes, new work waits here.", ""
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


@console.post("/queues/letters/<int:letter_id>/replay")
@requires("operator")
def letter_replay(letter_id: int) -> ResponseReturnValue:
    """Make a dead letter a job again."""
    try:
        letter = replay(db.session(), letter_id, current_user.name) if letter_id < 2**31 else None
    except NotReplayable as refusal:
        db.session.rollback()
        flash(str(refusal), "warning")
        return redirect(url_for("console.queues", _anchor="letters"), 303)
    if letter is None:
        abort(404, "There is no such dead letter. Old ones are removed after a while.")
    job_id = letter.job_id
    write_audit(db.session(), "letter.replay", str(letter_id), f"job {job_id}")
    db.session.commit()
    flash("It is a job again.")
    return redirect(url_for("console.job", job_id=job_id), 303)


def _letters() -> dict[str, object]:
    if not current_user.may("operator"):
        return {"letters": [], "open_letters": 0}
    celery = current_app.extensions.get("celery")
    tasks = celery.tasks if celery else {}
    shown = []
    for one in letters.newest(db.session(), _LETTERS_SHOWN, beginning=_PAYLOAD_SHOWN):
        headers, payload = masking.shown_letter(one.letter.headers, one.beginning, tasks.get(one.letter.task or ""))
        shown.append((one.letter, headers, payload))
    return {"letters": shown, "open_letters": letters.count_open(db.session())}


def _listed() -> dict[str, object]:
    depths = remembered(queries.queue_depths, _declared())
    minutes = remembered(last_hour.minutes_of_queues)
    broker = management()
    view = broker.view() if broker else None
    at_broker = {d.name: view.queue(d.name) if view else None for d in depths}
    live = {d.name: {"waiting": d.waiting, "queued": d.queued, "running": d.running} for d in depths}
    held = {name: {"ready": at.ready or 0, "unacked": at.unacked or 0} for name, at in at_broker.items() if at}
    # All bars have one scale, jobs and messages alike: the longest fills its line.
    most = max((sum(counts.values()) for counts in (*live.values(), *held.values())), default=0)
    return {
        "depths": depths,
        "bars": {name: charts.stacked_bar(counts, whole=most) for name, counts in live.items()},
        "message_bars": {name: charts.stacked_bar(counts, whole=most) for name, counts in held.items()},
        "hours": {d.name: _hour(d.name, minutes) for d in depths},
        "ended": {one.queue: one.jobs for one in minutes if one.minutes_ago == 0},
        "broker": broker,
        "view": view,
        "at_broker": at_broker,
        "dead_at_broker": view.queue(topology.DEAD_QUEUE.name) if view else None,
        # A second or two is the usual rhythm, no news.
        "is_old": view is not None and (view.age_seconds is None or view.age_seconds > OLD_SECONDS),
    }


def _hour(queue: str, minutes: list[last_hour.QueueMinute]) -> charts.Chart:
    ended = [
        last_hour.Minute(one.minutes_ago, "succeeded", one.jobs, None, None) for one in minutes if one.queue == queue
    ]
    return charts.throughput(ended)


def _declared() -> tuple[str, ...]:
    """The queues that the application declares, so that an empty one is shown as empty."""
    celery = current_app.extensions.get("celery")
    return tuple(sorted(queue.name for queue in (celery.conf.task_queues or ()))) if celery else ()
