"""The pages of mail: what was written, how far each is, who got it and what the server said."""

from flask import Blueprint, Response, abort, flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_login import current_user

from flaskapp.accounts.audit import nothing_changed, write_audit
from flaskapp.extensions import db
from flaskapp.jobs.models import Job
from flaskapp.mail import actions, exporting, files, forms, markdown, moments, outbox, queries, routes
from flaskapp.mail.letter_page import letter_page
from flaskapp.mail.models import OPEN_STATES, Message, RecipientState
from flaskapp.mail.words import signs_of, state_of

mail = Blueprint("mail", __name__, url_prefix="/mail")
_MESSAGES, _RECIPIENTS = 50, 100
_STATES = [state.value for state in RecipientState]


@mail.get("")
def index() -> str:
    """The list; `?part=list` is the piece that a live page fetches again."""
    template = "mail/_list.html" if request.args.get("part") == "list" else "mail/index.html"
    last = queries.message_by_id(db.session(), request.args.get("after", ""), current_user.visible_owner)
    older = (last.created_at, last.id) if last is not None else None
    found = queries.messages(db.session(), current_user.visible_owner, older, _MESSAGES + 1)
    shown = found[:_MESSAGES]
    jobs = queries.live_jobs(db.session(), shown)
    counts = queries.counts_of(db.session(), [message.id for message in shown])
    return render_template(
        template,
        messages=shown,
        counts=counts,
        state_of=state_of,
        signs_of=signs_of,
        jobs=jobs,
        more=shown[-1].id if len(found) > _MESSAGES else None,
        troubled=routes.troubled(db.session()),
        is_folder=outbox.folder() is not None,
    )


@mail.get("/<message_id>")
def show(message_id: str) -> str:
    """`?state=rejected` lists only those; `?part=now` is the piece that a live page fetches again."""
    message = _or_404(message_id)
    states = forms.chosen_states(request.args, _STATES)
    try:
        after = int(request.args.get("after", "-1"))
    except ValueError:
        after = -1
    after = after if abs(after) < 2**31 else -1
    jobs = queries.live_jobs(db.session(), [message]).get(message.id, [])
    found = queries.recipients(db.session(), message.id, states, after, _RECIPIENTS + 1)
    counts = queries.counts(db.session(), message.id)
    # A live page asks for its piece again and again: the text does not change meanwhile.
    is_page = request.args.get("part") != "now"
    return render_template(
        "mail/show.html" if is_page else "mail/_now.html",
        message=message,
        counts=counts,
        state=state_of(message, counts),
        signs_of=signs_of,
        said=moments.said(message.send_at),
        is_open=any(state in counts for state in OPEN_STATES),
        total=sum(counts.values()),
        states=states,
        after=after,
        recipients=found[:_RECIPIENTS],
        more=found[_RECIPIENTS - 1].number if len(found) > _RECIPIENTS else None,
        jobs=jobs,
        troubled=routes.troubled(db.session()),
        body=markdown.rendered(message.text[: markdown.LONGEST_SHOWN]) if is_page else "",
        is_long=len(message.text) > markdown.LONGEST_SHOWN,
        attachments=files.attachments_of(db.session(), message.id),
        is_folder=outbox.folder() is not None,
    )


@mail.post("/<message_id>/steer")
def steer(message_id: str) -> ResponseReturnValue:
    message, verb = _or_404(message_id), request.form.get("verb", "")
    sentence = _steered(message, verb)
    if sentence is None:
        nothing_changed()
        flash("There was nothing to do: it had changed meanwhile.", "warning")
    else:
        write_audit(db.session(), f"mail.{verb}", message.id)
        flash(sentence)
    db.session.commit()
    return redirect(url_for("mail.show", message_id=message_id), 303)


def _steered(message: Message, verb: str) -> str | None:
    """What was done, for the person; None if it was so already."""
    session = db.session()
    match verb:
        case "pause":
            return (
                "Paused. Who is being sent to gets it; nobody else does." if actions.pause(session, message) else None
            )
        case "resume":
            return "It goes on." if actions.resume(session, message) else None
        case "cancel":
            count = actions.cancel(session, message)
            return f"Cancelled. {count:,} of them will not get it." if count else None
        case "retry" | "retry-unknown":
            count = actions.retry(session, message, also_unknown=verb == "retry-unknown")
            return f"Sending again to {count:,}." if count else None
    abort(404)


@mail.get("/<message_id>/recipients.csv")
def recipients_csv(message_id: str) -> Response:
    """Everybody, or `?state=…`."""
    return exporting.recipients_csv(_or_404(message_id), forms.chosen_states(request.args, _STATES))


@mail.get("/<message_id>/letters/<int:number>")
def letter(message_id: str, number: int) -> ResponseReturnValue:
    """The mail to one recipient as it landed in the folder of file://."""
    message = _or_404(message_id)
    found = outbox.letter_of(message, number) if number < 2**31 else None
    if found is None:
        abort(404, "This mail is not in the folder.")
    return letter_page(found, message)


def _or_404(message_id: str) -> Message:
    message = queries.message_by_id(db.session(), message_id, current_user.visible_owner)
    if message is None:
        abort(404, "There is no such message, or it belongs to somebody else.")
    return message


def title_of(job: Job) -> str:
    """`Mail “Hello”`: what a person would call the job."""
    message = queries.message_of_job(db.session(), job)
    return f"Mail “{message.subject}”" if message else ""


def result_of(job: Job) -> str:
    message = queries.message_of_job(db.session(), job)
    if message is None:
        return ""
    counts = queries.counts(db.session(), message.id)
    return render_template("mail/_result.html", message=message, counts=counts, signs_of=signs_of)
