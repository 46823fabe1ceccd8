"""The public contact form: a stranger's words to one fixed address, a few times an hour.

Who it goes to is a setting; a stranger chooses neither recipient nor sender, and gets no copy. How often somebody wrote
is counted from the messages themselves, so that all web processes count together and a restart forgets nothing.
"""

from flask import Blueprint, abort, current_app, render_template, request
from flask.typing import ResponseReturnValue
from flask_login import current_user

from flaskapp.accounts.audit import nothing_changed, write_audit
from flaskapp.accounts.guessing import network
from flaskapp.accounts.protection import public
from flaskapp.errors import BadArguments
from flaskapp.extensions import db
from flaskapp.mail import actions, queries, routes
from flaskapp.mail.addresses import mailbox

contact = Blueprint("contact", __name__, url_prefix="/contact")
PER_ADDRESS = 5
#: Whatever the number of addresses they come from.
IN_ALL = 200
_LONGEST = 20_000


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
        if queries.suppression(db.session(), to):
            raise BadArguments("Whoever reads this wants no mail now, so nothing was sent. Reach them another way.")
        origin = _origin_that_may_write()
        words = f"{name or 'Somebody'} <{sender.address}> writes:\n\n{text}"
        subject = f"Contact: {request.form.get('subject', '').strip()[:200] or 'no subject'}"
        message = actions.write([to], subject, words, reply_to=sender.address, origin=origin)
    except BadArguments as refusal:
        db.session.rollback()
        return render_template("mail/contact.html", error=str(refusal), done=False, form=request.form), 422
    except TooOften as refusal:
        db.session.rollback()
        return render_template("mail/contact.html", error=str(refusal), done=False, form=request.form), 429
    write_audit(db.session(), "mail.contact", message.id, account="(contact form)")
    db.session.commit()
    return render_template("mail/contact.html", error="", done=True, form={})


class TooOften(Exception):
    """With the sentence for whoever asks."""


def _origin_that_may_write() -> str:
    """Who asks; raises TooOften. Locked until this message is committed: of two at once the second counts the first."""
    # A proxy's header is not read here: remote_addr is the peer's, unless TRUSTED_PROXIES says whom to believe.
    whose = [network(request.remote_addr or "")]
    if current_user.is_authenticated:
        whose.append(f"account {current_user.name}")
    routes.lock(db.session(), routes.CONTACT)
    wrote = queries.origins_of_last_hour(db.session())
    if any(sum(one in origin for origin in wrote) >= PER_ADDRESS for one in whose):
        raise TooOften(f"{PER_ADDRESS} messages came from where you are within an hour: the most. Try again later.")
    if len(wrote) >= IN_ALL:
        raise TooOften("Too many messages were written here within an hour, by others. Try again later.")
    return "\n".join(whose)


def _open_or_404() -> str:
    to: str = current_app.config["SETTINGS"].mail_contact
    if not to:
        abort(404, "There is no contact form here. MAIL_CONTACT names who reads it.")
    return to
