"""The public contact form: a stranger's words to one fixed address, a few times an hour.

Who it goes to is a setting; a stranger chooses neither recipient nor sender, and gets no copy.
"""

from flask import Blueprint, Flask, abort, current_app, render_template, request
from flask.typing import ResponseReturnValue
from flask_login import current_user
from limits import RateLimitItemPerHour
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter

from flaskapp.accounts.audit import nothing_changed, write_audit
from flaskapp.accounts.guessing import network
from flaskapp.accounts.protection import public
from flaskapp.errors import BadArguments
from flaskapp.extensions import db
from flaskapp.mail import actions
from flaskapp.mail.addresses import mailbox

contact = Blueprint("contact", __name__, url_prefix="/contact")
PER_ADDRESS = RateLimitItemPerHour(5, 1, namespace="contact")
#: Whatever the number of addresses they come from.
IN_ALL = RateLimitItemPerHour(200, 1, namespace="contact")
_LONGEST = 20_000


def init_app(app: Flask) -> None:
    app.extensions["contact_limits"] = MovingWindowRateLimiter(MemoryStorage())


@contact.get("")
@public
def form() -> str:
    _open_or_404()
    return render_template("mail/contact.html", error="", done=False, form={})


@contact.post("")
@public
def send() -> ResponseReturnValue:
    to = _open_or_404()
    nothing_changed()
    # Invisible to people: what fills it in is a program, which need not learn that it was noticed.
    if request.form.get("website"):
        return render_template("mail/contact.html", error="", done=True, form={})
    name, text = request.form.get("name", "").strip()[:100], request.form.get("text", "")
    try:
        sender = mailbox(request.form.get("email", ""), "Your address")
        if not text.strip() or len(text) > _LONGEST:
            raise BadArguments(f"Write what it is about, in at most {_LONGEST:,} characters.")
        _count()
        words = f"{name or 'Somebody'} <{sender.address}> writes:\n\n{text}"
        subject = f"Contact: {request.form.get('subject', '').strip()[:200] or 'no subject'}"
        message = actions.write([to], subject, words, reply_to=sender.address)
    except BadArguments as refusal:
        db.session.rollback()
        return render_template("mail/contact.html", error=str(refusal), done=False, form=request.form), 422
    except TooOften:
        sentence = "That was the fifth message within an hour from where you are. Try again later."
        return render_template("mail/contact.html", error=sentence, done=False, form=request.form), 429
    write_audit(db.session(), "mail.contact", message.id, account="(contact form)")
    db.session.commit()
    return render_template("mail/contact.html", error="", done=True, form={})


class TooOften(Exception):
    pass


def _count() -> None:
    limiter: MovingWindowRateLimiter = current_app.extensions["contact_limits"]
    whose = [("address", network(request.remote_addr or ""))]
    if current_user.is_authenticated:
        whose.append(("account", current_user.name))
    if not all([limiter.hit(PER_ADDRESS, *one) for one in whose]) or not limiter.hit(IN_ALL, "all"):
        raise TooOften


def _open_or_404() -> str:
    to: str = current_app.config["SETTINGS"].mail_contact
    if not to:
        abort(404, "There is no contact form here. MAIL_CONTACT names who reads it.")
    return to
