"""What is kept beside the messages: reply templates, and the addresses that want no mail. Operators change them."""

from flask import abort, flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from flaskapp.accounts.audit import nothing_changed, write_audit
from flaskapp.accounts.protection import requires
from flaskapp.errors import BadArguments
from flaskapp.extensions import db
from flaskapp.mail import actions, keeping, outbox, queries
from flaskapp.mail.addresses import mailbox
from flaskapp.mail.models import ReplyTemplate
from flaskapp.mail.views import mail

_MOST = 500


@mail.get("/templates")
def templates() -> str:
    return _templates(keeping.template_by_id(db.session(), request.args.get("id", "")))


@mail.post("/templates")
@requires("operator")
def template_save() -> ResponseReturnValue:
    """A new one, or new words for the one with this name."""
    name = request.form.get("name", "").strip()
    subject, text = request.form.get("subject", "").strip(), request.form.get("text", "").replace("\r\n", "\n")
    try:
        keeping.check_template(name, subject, text)
    except BadArguments as refusal:
        draft = ReplyTemplate(name=name, subject=subject, text=text)
        return _templates(draft, str(refusal)), 422
    found = queries.template_by_name(db.session(), name) or ReplyTemplate()
    if keeping.save_template(db.session(), found, name, subject, text):
        write_audit(db.session(), "mail.template", name)
        db.session.commit()
    else:
        db.session.rollback()
        nothing_changed()
        flash("Somebody else saved a template with this name just now. Look at it first.", "warning")
    return redirect(url_for("mail.templates"), 303)


@mail.post("/templates/<template_id>/delete")
@requires("operator")
def template_delete(template_id: str) -> ResponseReturnValue:
    found = keeping.template_by_id(db.session(), template_id)
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
    address = request.form.get("address", "")
    if actions.unsuppress(db.session(), address):
        write_audit(db.session(), "mail.unsuppress", address)
    else:
        nothing_changed()
    db.session.commit()
    return redirect(url_for("mail.suppressions"), 303)


def _suppressions(error: str = "") -> str:
    found = queries.suppressions(db.session(), _MOST)
    where = {"is_folder": outbox.folder() is not None}
    return render_template("mail/unwanted.html", suppressions=found, error=error, typed=request.form, **where)
