"""The page of a mail merge: a table, a text with its columns in it, and how it looks for any row."""

from flask import abort, render_template, request
from flask.typing import ResponseReturnValue
from flask_login import current_user

from flaskapp.accounts.audit import nothing_changed
from flaskapp.errors import BadArguments
from flaskapp.extensions import db
from flaskapp.mail import actions, merge_texts, merging, moments, outbox, people, queries
from flaskapp.mail.forms import Draft
from flaskapp.mail.merge_texts import Preview
from flaskapp.mail.models import Message
from flaskapp.mail.views import mail
from flaskapp.mail.writing import written_once
from flaskapp.uploads import actions as uploads
from flaskapp.uploads.models import Upload


@mail.get("/merge")
def merge() -> str:
    """Without `?upload=` the tables to choose from."""
    upload = _chosen(request.args.get("upload"))
    if upload is None:
        tables = [one for one in uploads.newest(db.session(), current_user.visible_owner) if one.table_name]
        return render_template("mail/merge_choose.html", uploads=tables, is_folder=outbox.folder() is not None)
    draft = Draft()
    if template := queries.template_by_name(db.session(), request.args.get("template", "")):
        draft.subject, draft.text = template.subject, template.text
    return _page(upload, people.address_column(upload) or "", draft)


@mail.post("/merge")
def merge_send() -> ResponseReturnValue:
    """Show a row, or send to all of them."""
    upload = _chosen(request.form.get("upload"))
    if upload is None:
        abort(404, "There is no such table, or it belongs to somebody else.")
    column, draft = request.form.get("column", ""), Draft.of(request)
    message_id = draft.message_id(current_user.name, upload.id, column)

    def write() -> Message:
        return merging.write(
            db.session(),
            upload,
            column,
            draft.subject,
            draft.text,
            current_user.name,
            attachments=draft.files,
            send_at=draft.moment(),
            at_least_once=draft.at_least_once,
            message_id=message_id,
        )

    try:
        if request.form.get("verb") == "preview":
            nothing_changed()
            shown = merge_texts.preview(upload, column, draft.subject, draft.text, _row_number())
            return _page(upload, column, draft, preview=shown)
        return written_once(message_id, "mail.merge", write)
    except BadArguments as refusal:
        db.session.rollback()
        return _page(_chosen(upload.id) or upload, column, draft, str(refusal)), 422


def _row_number() -> int:
    text = request.form.get("row", "1")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 1


def _page(upload: Upload, column: str, draft: Draft, error: str = "", preview: Preview | None = None) -> str:
    asked = people.row_of(upload, _row_number(), ())
    return render_template(
        "mail/merge.html",
        upload=upload,
        columns=people.columns_of(upload),
        column=column,
        draft=draft,
        row=preview.row if preview else asked[0] if asked else _row_number(),
        error=error,
        again=bool(draft.files),
        preview=preview,
        most=actions.MOST_ATTACHED_BYTES,
        zone=moments.zone(),
        templates=queries.templates(db.session()),
    )


def _chosen(upload_id: str | None) -> Upload | None:
    upload = uploads.upload_by_id(db.session(), upload_id, current_user.visible_owner) if upload_id else None
    return upload if upload is not None and upload.table_name else None
