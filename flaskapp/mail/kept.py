"""What is kept beside the messages: reply templates, and the addresses that want no mail. Operators change them."""

from flask import abort, flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from sqlalchemy import delete
from sqlalchemy.exc import IntegrityError

from flaskapp.accounts.audit import nothing_changed, write_audit
from flaskapp.accounts.protection import requires
from flaskapp.errors import BadArguments
from flaskapp.extensions import db
from flaskapp.jobs.clock import now
from flaskapp.mail import actions, outbox, queries
from flaskapp.mail.addresses import mailbox
from flaskapp.mail.composing import check_texts
from flaskapp.mail.models import ReplyTemplate, Suppression
from flaskapp.mail.views import mail

_MOST = 500
_LARGEST_ID = 2**31


@mail.get("/templates")
def templates() -> str:
    chosen = request.args.get("id", "")
    editing = db.session.get(ReplyTemplate, int(chosen)) if chosen.isdigit() and int(chosen) < _LARGEST_ID else None
    return _templates(editing)


@mail.post("/templates")
@requires("operator")
def template_save() -> ResponseReturnValue:
    """A new one, or new words for the one with this name."""
    name = request.form.get("name", "").strip()
    subject, text = request.form.get("subject", "").strip(), request.form.get("text", "").replace("\r\n", "\n")
    try:
        if not 1 <= len(name) <= 80 or not name.isprintable():
            raise BadArguments("Give it a name of 1 to 80 characters.")
        check_texts(subject, text)
    except BadArguments as refusal:
        draft = ReplyTemplate(name=name, subject=subject, text=text)
        return _templates(draft, str(refusal)), 422
    found = queries.template_by_name(db.session(), name)
    if found is None:
        db.session.add(ReplyTemplate(name=name, subject=subject, text=text))
    else:
        found.subject, found.text, found.changed_at = subject, text, now()
    write_audit(db.session(), "mail.template", name)
    try:
        db.session.commit()
    except IntegrityError:
        db.session.rollback()
        nothing_changed()
        flash("Somebody else saved a template with this name just now. Look at it first.", "warning")
    return redirect(url_for("mail.templates"), 303)


@mail.post("/templates/<int:template_id>/delete")
@requires("operator")
def template_delete(template_id: int) -> ResponseReturnValue:
    found = db.session.get(ReplyTemplate, template_id) if template_id < _LARGEST_ID else None
    if found is None:
        abort(404, "There is no such template any more.")
    write_audit(db.session(), "mail.template-delete", found.name)
    db.session.delete(found)
    db.session.commit()
    return redirect(url_for("mail.templates"), 303)


def _templates(editing: ReplyTemplate | None, error: str = "") -> str:
    found = queries.templates(db.session())
    where = {"is_folder": outbox.folder() is not None}
    return render_template("mail/templates.html", templates=found, editing=editing, error=error, **where)


@mail.get("/unwanted")
@requires("operator")
def suppressions() -> str:
    return _suppressions()


@mail.post("/unwanted")
@requires("operator")
def suppress() -> ResponseReturnValue:
    try:
        address = mailbox(request.form.get("address", ""), "The address").address
    except BadArguments as refusal:
        return _suppressions(str(refusal)), 422
    actions.suppress(db.session(), address, request.form.get("reason", "").strip()[:200] or "added by hand")
    write_audit(db.session(), "mail.suppress", address)
    db.session.commit()
    return redirect(url_for("mail.suppressions"), 303)


@mail.post("/unwanted/remove")
@requires("operator")
def unsuppress() -> ResponseReturnValue:
    address = request.form.get("address", "").lower()[:320].replace("\0", "")
    db.session.execute(delete(Suppression).where(Suppression.address == address))
    write_audit(db.session(), "mail.unsuppress", address)
    db.session.commit()
    return redirect(url_for("mail.suppressions"), 303)


def _suppressions(error: str = "") -> str:
    found = queries.suppressions(db.session(), _MOST)
    where = {"is_folder": outbox.folder() is not None}
    return render_template("mail/unwanted.html", suppressions=found, error=error, **where)
