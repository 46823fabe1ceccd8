"""Reply templates over HTTP: texts that are sent again and again. Everybody reads them, operators change them."""

from typing import Any

from flask import Response, url_for
from werkzeug.exceptions import Conflict, NotFound

from flaskapp.accounts.audit import write_audit
from flaskapp.accounts.protection import requires
from flaskapp.api.blueprint import answer, api
from flaskapp.api.keys import changes
from flaskapp.api.parsing import json_object, refuse_unknown
from flaskapp.api.shapes import moment
from flaskapp.extensions import db
from flaskapp.mail import keeping, queries
from flaskapp.mail.models import ReplyTemplate

_BODY_LIMIT = 1_200_000


@api.get("/reply-templates")
def list_templates() -> Response:
    return answer({"items": [_shape(one) for one in queries.templates(db.session())]})


@api.post("/reply-templates")
@requires("operator")
@changes(body_limit=_BODY_LIMIT)
def create_template() -> Response:
    template = _save(ReplyTemplate())
    return answer(_shape(template), 201, url_for("api.show_template", template_id=template.id))


@api.get("/reply-templates/<template_id>")
def show_template(template_id: str) -> Response:
    return answer(_shape(_template(template_id)))


@api.put("/reply-templates/<template_id>")
@requires("operator")
@changes(body_limit=_BODY_LIMIT)
def change_template(template_id: str) -> Response:
    return answer(_shape(_save(_template(template_id))))


@api.delete("/reply-templates/<template_id>")
@requires("operator")
@changes()
def delete_template(template_id: str) -> Response:
    template = _template(template_id)
    shape = _shape(template)
    write_audit(db.session(), "mail.template-delete", template.name)
    db.session.delete(template)
    return answer(shape)


def _save(template: ReplyTemplate) -> ReplyTemplate:
    fields = json_object()
    refuse_unknown(fields, ("name", "subject", "text"))
    name, subject, text = (fields.get(field) for field in ("name", "subject", "text"))
    keeping.check_template(name, subject, text)
    if not keeping.save_template(db.session(), template, str(name), str(subject), str(text)):
        raise Conflict(f"Another reply template is called {str(name)[:80]!r}. Change that one, or choose another name.")
    write_audit(db.session(), "mail.template", template.name)
    return template


def _template(written: str) -> ReplyTemplate:
    template = keeping.template_by_id(db.session(), written)
    if template is None:
        raise NotFound(f"There is no reply template {written[:20]!r}. GET /api/v1/reply-templates lists them.")
    return template


def _shape(template: ReplyTemplate) -> dict[str, Any]:
    return {
        "id": template.id,
        "name": template.name,
        "subject": template.subject,
        "text": template.text,
        "changed_at": moment(template.changed_at),
    }
