"""The page of one mail that landed in the folder; `?part=reader` is its HTML, as its reader's program would show it."""

from flask import Response, render_template, request
from flask.typing import ResponseReturnValue

from flaskapp.mail import outbox
from flaskapp.mail.models import Message
from flaskapp.mail.outbox import Landed

#: Nothing of it runs, nothing is fetched, and only our own page may frame it.
_SEALED = {
    "Content-Security-Policy": "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; "
    "frame-ancestors 'self'",
    "X-Frame-Options": "SAMEORIGIN",
}


def letter_page(letter: Landed, message: Message | None) -> ResponseReturnValue:
    if request.args.get("part") == "reader":
        return Response(outbox.html_of(letter), headers=_SEALED)
    reader = request.path + "?part=reader" if letter.has_html else None
    return render_template("mail/letter.html", message=message, letter=letter, reader=reader)
