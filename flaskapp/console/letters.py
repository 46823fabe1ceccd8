"""The dead letters on the page of queues. They hold other people's words: only operators see them."""

from flask import abort, current_app, flash, redirect, url_for
from flask.typing import ResponseReturnValue
from flask_login import current_user

from flaskapp.accounts.audit import nothing_changed, write_audit
from flaskapp.accounts.protection import requires
from flaskapp.console.blueprint import console
from flaskapp.errors import NotReplayable
from flaskapp.extensions import db
from flaskapp.jobs import letters, masking
from flaskapp.worker.replay import replay
from flaskapp.worker.sessions import wake_relay

_SHOWN, _BEGINNING = 20, 1000


@console.post("/queues/letters/<int:letter_id>/replay")
@requires("operator")
def letter_replay(letter_id: int) -> ResponseReturnValue:
    """Make a dead letter a job again."""
    try:
        letter = replay(db.session(), letter_id, current_user.name) if letter_id < 2**31 else None
    except NotReplayable as refusal:
        db.session.rollback()
        nothing_changed()
        flash(str(refusal), "warning")
        return redirect(url_for("console.queues", _anchor="letters"), 303)
    if letter is None:
        abort(404, "There is no such dead letter. Old ones are removed after a while.")
    job_id = letter.job_id
    write_audit(db.session(), "letter.replay", str(letter_id), f"job {job_id}")
    wake_relay(db.session())
    db.session.commit()
    flash("It is a job again.")
    return redirect(url_for("console.job", job_id=job_id), 303)


def shown_letters() -> dict[str, object]:
    """The newest of them, each with its headers and how its payload begins."""
    if not current_user.may("operator"):
        return {"letters": [], "open_letters": 0}
    celery = current_app.extensions.get("celery")
    tasks = celery.tasks if celery else {}
    shown = []
    for one in letters.newest(db.session(), _SHOWN, beginning=_BEGINNING):
        headers, payload = masking.shown_letter(one.letter.headers, one.beginning, tasks.get(one.letter.task or ""))
        shown.append((one.letter, headers, payload))
    return {"letters": shown, "open_letters": letters.count_open(db.session())}
