"""Leaving by the signed link in a mail; one click of a mail program is enough (RFC 8058).

GET only asks: link checkers open every link of a mail.
"""

from flask import Blueprint, abort, current_app, render_template
from flask.typing import ResponseReturnValue
from sqlalchemy import select

from flaskapp.accounts.audit import write_audit
from flaskapp.accounts.protection import public, signed
from flaskapp.extensions import db
from flaskapp.mail import actions, links
from flaskapp.mail.models import Recipient

leaving = Blueprint("leaving", __name__, url_prefix="/unsubscribe")


@leaving.get("/<token>")
@public
def ask(token: str) -> str:
    return render_template("mail/unsubscribe.html", address=_address(token), done=False)


@leaving.post("/<token>")
@public
@signed
def leave(token: str) -> ResponseReturnValue:
    address = _address(token)
    if actions.suppress(db.session(), address, "unsubscribed by the link in a mail"):
        write_audit(db.session(), "mail.unsubscribe", address, account="(reader)")
    db.session.commit()
    return render_template("mail/unsubscribe.html", address=address, done=True)


def _address(token: str) -> str:
    try:
        message_id, number = links.read(current_app.config["SETTINGS"], token)
    except ValueError:
        abort(404, "This link is not one of ours, or not whole. Copy all of it from the mail.")
    query = select(Recipient.address).where(Recipient.message_id == message_id, Recipient.number == number)
    address = db.session.scalar(query)
    if address is None:
        abort(404, "The mail of this link is not kept any more. Use the link of a newer one.")
    return address
