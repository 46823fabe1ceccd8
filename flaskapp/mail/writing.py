"""The page where a mail is written, with its preview; and the page of what landed in the folder."""

from collections.abc import Callable

from flask import Response, abort, flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_login import current_user
from sqlalchemy.exc import IntegrityError
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge

from flaskapp.accounts.audit import nothing_changed, write_audit
from flaskapp.accounts.protection import requires
from flaskapp.errors import BadArguments
from flaskapp.extensions import db
from flaskapp.mail import actions, markdown, moments, outbox, queries
from flaskapp.mail.forms import Draft
from flaskapp.mail.letter_page import letter_page
from flaskapp.mail.models import Message
from flaskapp.mail.views import mail


@mail.get("/new")
def new() -> str:
    draft = Draft()
    if template := queries.template_by_name(db.session(), request.args.get("template", "")):
        draft.subject, draft.text = template.subject, template.text
    return _page(draft)


@mail.post("/new")
def compose() -> ResponseReturnValue:
    """Send it, or (without script) only show how it will look."""
    draft = Draft.of(request)
    if request.form.get("verb") == "preview":
        nothing_changed()
        return _page(draft, preview=True)
    message_id = draft.message_id(current_user.name)

    def write() -> Message:
        return actions.write(
            draft.addresses(),
            draft.subject,
            draft.text,
            markdown.as_html_mail(draft.text),
            draft.files,
            owner=current_user.name,
            send_at=draft.moment(),
            at_least_once=draft.at_least_once,
            message_id=message_id,
        )

    try:
        return written_once(message_id, "mail.write", write)
    except BadArguments as refusal:
        db.session.rollback()
        return _page(draft, str(refusal)), 422


def written_once(message_id: str, action: str, write: Callable[[], Message]) -> ResponseReturnValue:
    """To the page of the message, which a press before this one may have written; commits."""
    place = url_for("mail.show", message_id=message_id)
    nothing_changed()
    if queries.message_by_id(db.session(), message_id, None) is None:
        try:
            message = write()
        except IntegrityError:
            db.session.rollback()  # the other press arrived at the same moment
        else:
            write_audit(db.session(), action, message.id, message.subject)
            db.session.commit()
    return redirect(place, 303)


@mail.post("/preview")
def preview() -> Response:
    """The text as it will look; the page's script asks while somebody types."""
    nothing_changed()
    text = request.form.get("text", "")[: markdown.LONGEST_SHOWN]
    return Response(render_template("mail/_preview.html", preview=markdown.rendered(text)))


@mail.errorhandler(RequestEntityTooLarge)
def too_large(_: HTTPException) -> ResponseReturnValue:
    # What was typed came in the same body and could not be read.
    most = f"{actions.MOST_ATTACHED_BYTES / 1e6:.0f} MB of attachments, and 500 kB of text"
    flash(f"This mail is too large: at most {most}. Longer lists of people go in as an uploaded table.", "warning")
    if request.endpoint == "mail.merge_send":
        return redirect(url_for("mail.merge"), 303)
    return _page(Draft()), 413


def _page(draft: Draft, error: str = "", preview: bool = False) -> str:
    shown = draft.text[: markdown.LONGEST_SHOWN]
    return render_template(
        "mail/new.html",
        draft=draft,
        error=error,
        again=preview or error,
        zone=moments.zone(),
        preview=markdown.rendered(shown) if shown.strip() else "",
        templates=queries.templates(db.session()),
        most=actions.MOST_ATTACHED_BYTES,
    )


@mail.get("/outbox")
@requires("operator")
def outbox_page() -> str:
    if outbox.folder() is None:
        abort(404, "Mail goes to a server here; there is no folder to show.")
    return render_template("mail/outbox.html", letters=outbox.newest())


@mail.get("/outbox/<name>")
@requires("operator")
def outbox_letter(name: str) -> ResponseReturnValue:
    found = outbox.landed(name)
    if found is None:
        abort(404, "There is no such mail in the folder.")
    return letter_page(found, None)
