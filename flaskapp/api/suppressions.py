"""Who gets no mail from here, over HTTP. For operators."""

from typing import Any

from flask import Response, url_for
from werkzeug.exceptions import NotFound

from flaskapp.accounts.audit import nothing_changed, write_audit
from flaskapp.accounts.protection import requires
from flaskapp.api.blueprint import answer, api
from flaskapp.api.keys import changes
from flaskapp.api.parsing import json_object, query_limit, query_text, refuse_unknown, text_field
from flaskapp.api.shapes import moment
from flaskapp.extensions import db
from flaskapp.mail import actions, queries
from flaskapp.mail.addresses import mailbox
from flaskapp.mail.models import Suppression


@api.get("/suppressions")
@requires("operator")
def list_suppressions() -> Response:
    limit, after = query_limit(), query_text("cursor", 320) or ""
    found = queries.suppressions_by_address(db.session(), after, limit + 1)
    following = found[limit - 1].address if len(found) > limit else None
    return answer({"items": [_shape(one) for one in found[:limit]], "next": following})


@api.post("/suppressions")
@requires("operator")
@changes()
def suppress() -> Response:
    """On the list already is on the list: asking twice is no mistake, and keeps the first reason."""
    fields = json_object()
    refuse_unknown(fields, ("address", "reason"))
    address = mailbox(fields.get("address"), "address").address
    reason = text_field(fields, "reason", 200) or "added by a script"
    is_new = actions.suppress(db.session(), address, reason)
    if is_new:
        write_audit(db.session(), "mail.suppress", address)
    else:
        nothing_changed()
    place = url_for("api.show_suppression", address=address.lower())
    return answer(_shape(_suppression(address)), 201 if is_new else 200, place)


@api.get("/suppressions/<path:address>")
@requires("operator")
def show_suppression(address: str) -> Response:
    return answer(_shape(_suppression(address)))


@api.delete("/suppressions/<path:address>")
@requires("operator")
@changes()
def unsuppress(address: str) -> Response:
    shape = _shape(_suppression(address))
    actions.unsuppress(db.session(), address)
    write_audit(db.session(), "mail.unsuppress", shape["address"])
    return answer(shape)


def _suppression(address: str) -> Suppression:
    found = queries.suppression(db.session(), address)
    if found is None:
        raise NotFound(f"{address[:80]!r} is not on the list of those who get no mail.")
    db.session.refresh(found)
    return found


def _shape(one: Suppression) -> dict[str, Any]:
    return {"address": one.address, "reason": one.reason, "created_at": moment(one.created_at)}
