"""The forms in which a mail is written, as they were sent: addresses as people type them, a time, files."""

import re
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import NAMESPACE_OID, uuid4, uuid5

from flask import Request

from flaskapp.errors import BadArguments
from flaskapp.mail import moments
from flaskapp.uploads.storage import IncomingFile

#: A comma, semicolon or line end between addresses, but not inside quotes or angle brackets.
#: What is read is never read again, closed quotes or not: while it reads, nothing else of this process runs.
_ADDRESS = re.compile(r'(?:"(?:\\.|[^"\\\n])*+"?|<[^<>\n]*>|[^,;\n"<]|<)+')


@dataclass
class Draft:
    """What stands in the fields; kept through every error."""

    to: str = ""
    subject: str = ""
    text: str = ""
    when: str = "now"
    send_at: str = ""
    at_least_once: bool = False
    files: list[tuple[str, IncomingFile]] = field(default_factory=list)
    #: Of the page that was filled in.
    key: str = field(default_factory=lambda: str(uuid4()))

    @classmethod
    def of(cls, request: Request) -> "Draft":
        form = request.form
        sent = [(one.filename or "", one.stream) for one in request.files.getlist("attachments") if one.filename]
        return cls(
            to=form.get("to", ""),
            subject=form.get("subject", "").strip(),
            text=form.get("text", "").replace("\r\n", "\n"),
            when=form.get("when", "now"),
            send_at=form.get("send_at", ""),
            at_least_once=bool(form.get("at_least_once")),
            files=[(name, stream) for name, stream in sent if isinstance(stream, IncomingFile)],
            key=form.get("key") or str(uuid4()),
        )

    def message_id(self, owner: str, *more: str) -> str:
        """The same for the same words from the same page: on a slow line people press twice."""
        files = [(name, file.digest) for name, file in self.files]
        words = (self.key, owner, self.to, self.subject, self.text, self.when, self.send_at, self.at_least_once, files)
        return str(uuid5(NAMESPACE_OID, repr((*words, *more))))

    def addresses(self) -> list[str]:
        return split_addresses(self.to)

    def moment(self) -> datetime | None:
        """When it is to be sent, None for now; raises BadArguments."""
        if self.when != "later":
            if self.send_at:
                # Who fills in a time means it, and what is sent cannot be taken back.
                raise BadArguments("A time is filled in, but “Now” is chosen. Choose “At”, or empty the time.")
            return None
        return moments.read(self.send_at)


def split_addresses(text: str) -> list[str]:
    return [found.strip() for found in _ADDRESS.findall(text) if found.strip()]


def chosen_states(args: Any, known: list[str]) -> list[str]:
    return [state for state in known if state in args.getlist("state")]
