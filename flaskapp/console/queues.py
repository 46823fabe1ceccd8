"""The page of queues: what stands in each, since when, how operators steer them, and what could not be delivered.

The numbers come from SQL, not from the broker. Dead letters hold other people's words: only operators see them.
"""

from contextlib import suppress

from flask import abort, current_app, flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_login import current_user

from flaskapp.accounts.audit import nothing_changed, write_audit
from flaskapp.accounts.protection import requires
from flaskapp.api.rules import read_rule
from flaskapp.console import charts, live
from flaskapp.console.blueprint import console
from flaskapp.console.remember import remembered
from flaskapp.errors import BadArguments, NotReplayable
from flaskapp.extensions import db
from flaskapp.jobs import control, letters, masking, queries
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
    live = {d.name: {"waiting": d.waiting, "queued": d.queued, "running": d.running} for d in depths}
    # All bars have one scale: the longest queue fills its line.
    most = max((sum(counts.values()) for counts in live.values()), default=0)
    bars = {name: charts.stacked_bar(counts, whole=most) for name, counts in live.items()}
    return {"depths": depths, "bars": bars}


def _declared() -> tuple[str, ...]:
    """The queues that the application declares, so that an empty one is shown as empty."""
    celery = current_app.extensions.get("celery")
    return tuple(sorted(queue.name for queue in (celery.conf.task_queues or ()))) if celery else ()
