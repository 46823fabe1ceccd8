"""The recipients of a message as a table to take away."""

from collections.abc import Sequence

from flask import Response

from flaskapp.extensions import db
from flaskapp.mail import queries
from flaskapp.mail.models import Message
from flaskapp.uploads.escaping import csv_lines

_HEADER = ("address", "name", "state", "reply", "tries", "changed at (UTC)")


def recipients_csv(message: Message, states: Sequence[str]) -> Response:
    """Everybody (or those in `states`) with state and reply; text that a spreadsheet would run is escaped."""
    rows = [
        (one.address, one.name, one.state, one.reply or "", one.tries, one.changed_at.isoformat(timespec="seconds"))
        for one in queries.recipients(db.session(), message.id, states)
    ]
    response = Response(csv_lines(_HEADER, rows), mimetype="text/csv")
    response.headers.set("Content-Disposition", "attachment", filename="recipients.csv")
    return response
