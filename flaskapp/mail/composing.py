"""A mail as the bytes that travel: built by the standard library, safe against lines that are not meant as lines.

All that is the same for everybody is built once; only To, Message-ID and the links of the reader differ.

What a person typed never goes through the library's header parser: that decodes `=?utf-8?q?=0D=0ABcc:…?=` and writes
the line end that was hidden in it, and it takes the quotes off a long name with commas.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from email.header import Header
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime, formataddr
from pathlib import Path
from typing import Any

from flaskapp.errors import BadArguments
from flaskapp.mail.addresses import Mailbox
from flaskapp.mail.models import Message

#: Plain ASCII on the wire: no server needs an extension for it.
POLICY = SMTP.clone(cte_type="7bit")
LONGEST_SUBJECT = 500
LONGEST_BODY = 1_000_000
#: What html may name as `cid:NAME`.
_PICTURE = re.compile(r"[A-Za-z0-9_-]+\.(?:png|jpe?g|gif)")
_LINE_END = re.compile(rb"\r\n|\r|\n")


@dataclass(frozen=True)
class File:
    """An attachment as it is read from storage."""

    path: Path
    name: str
    content_type: str


@dataclass(frozen=True)
class Letter:
    """One mail to one person, ready to be sent. A second sending has the same id."""

    sender: str
    recipient: str
    message_id: str
    content: bytes


def check_texts(subject: object, text: object, html: object = None) -> None:
    """Raises BadArguments for what no mail can say."""
    if not isinstance(subject, str) or not subject.strip():
        raise BadArguments("subject is missing. Say in a line what the mail is about.")
    if len(subject) > LONGEST_SUBJECT:
        raise BadArguments(f"subject is longer than {LONGEST_SUBJECT} characters. Shorten it.")
    if not subject.isprintable():
        raise BadArguments("subject holds a line break or another control character. Write it in one line.")
    if html is not None and not isinstance(html, str):
        raise BadArguments("html must be a text.")
    if not isinstance(text, str) or not (text.strip() or (html or "").strip()):
        raise BadArguments("text is missing. Write what the mail says.")
    for name, body in (("text", text), ("html", html or "")):
        if len(body) > LONGEST_BODY:
            raise BadArguments(f"{name} is longer than {LONGEST_BODY:,} characters. Attach it as a file.")
        if "\0" in body:
            raise BadArguments(f"{name} holds a NUL character. Take it out.")
        try:
            body.encode()
        except UnicodeEncodeError:
            raise BadArguments(f"{name} holds half of a character pair. Send whole ones.") from None


class Composer:
    """Makes the letters of one message."""

    def __init__(self, message: Message, files: Sequence[File] = ()) -> None:
        self._message = message
        self._pictures = [file for file in files if _stands_in(file, message.html or "")]
        self._files = [file for file in files if file not in self._pictures]
        self._domain = message.sender.rpartition("@")[2]
        self._common: bytes | None = None
        #: Its attachments, read and encoded once for all letters.
        self._parts: list[Any] | None = None

    def letter(self, number: int, to: Mailbox, link: str | None = None) -> Letter:
        """The mail that is the same for everybody."""
        if self._common is None:
            self._common = self._content(self._message.subject, self._message.text, self._message.html)
        return self._addressed(number, to, self._common, link)

    def filled_letter(
        self, number: int, to: Mailbox, texts: tuple[str, str, str | None], link: str | None = None
    ) -> Letter:
        """A mail with texts of its own: (subject, text, html)."""
        return self._addressed(number, to, self._content(*texts), link)

    def _addressed(self, number: int, to: Mailbox, content: bytes, link: str | None) -> Letter:
        message_id = f"<{number}.{self._message.id}@{self._domain}>"
        headers = [
            _to(to),
            b"Message-ID: " + message_id.encode() + b"\r\n",
        ]
        if link is not None:
            headers.append(
                f"List-Unsubscribe: <{link}>\r\nList-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n".encode()
            )
        return Letter(self._message.sender, to.address, message_id, b"".join(headers) + content)

    def _content(self, subject: str, text: str, html: str | None) -> bytes:
        return _subject(subject) + _bytes_of(self._body(text, html), self._pictures)

    def _body(self, text: str, html: str | None) -> EmailMessage:
        mail = EmailMessage(policy=POLICY)
        mail["From"] = self._message.sender
        if self._message.reply_to:
            mail["Reply-To"] = self._message.reply_to
        # Not when it was written: mail for next month would arrive below a month of other mail.
        mail["Date"] = format_datetime(self._message.send_at)
        # No loop of two machines that answer each other.
        mail["Auto-Submitted"] = "auto-generated"
        mail.set_content(text)
        if html:
            mail.add_alternative(html, subtype="html")
        if self._files:
            mail.make_mixed()
            for part in self._attachments():
                mail.attach(part)
        return mail

    def _attachments(self) -> list[Any]:
        if self._parts is None:
            carrier = EmailMessage(policy=POLICY)
            carrier.make_mixed()
            for file in self._files:
                main, _, sub = file.content_type.partition("/")
                # A name is parsed all the same, so it may hold nothing that looks like an encoded word.
                name = file.name.replace("=?", "=_")
                carrier.add_attachment(file.path.read_bytes(), maintype=main, subtype=sub, filename=name)
            self._parts = list(carrier.iter_attachments())
        return self._parts


def _to(to: Mailbox) -> bytes:
    if _is_plain(to.name):
        return f"To: {formataddr((to.name, to.address))}\r\n".encode("ascii")
    return f"To: {_encoded('To', to.name)} <{to.address}>\r\n".encode("ascii")


def _subject(text: str) -> bytes:
    return f"Subject: {text if _is_plain(text) else _encoded('Subject', text)}\r\n".encode("ascii")


def _is_plain(text: str) -> bool:
    """It needs neither folding nor encoding, and nothing in it is decoded."""
    return text.isascii() and text.isprintable() and "=?" not in text and len(text) <= 60


def _encoded(header: str, text: str) -> str:
    """In encoded words, which hold any text."""
    return Header(text, "utf-8", header_name=header).encode(linesep="\r\n")


def _stands_in(file: File, html: str) -> bool:
    return _PICTURE.fullmatch(file.name) is not None and f'"cid:{file.name}"' in html


def _bytes_of(mail: EmailMessage, pictures: Sequence[File] = ()) -> bytes:
    body = mail.get_body(("html",)) if pictures else None
    if body is not None:
        for file in pictures:
            main, _, sub = file.content_type.partition("/")
            content, place = file.path.read_bytes(), f"<{file.name}>"
            # It stands where the text names it, and is no attachment.
            body.add_related(content, main, sub, cid=place, disposition="inline", filename=file.name)
    # A bare CR or LF may be a line end to one server and none to the next: that is how mails are smuggled.
    return _LINE_END.sub(b"\r\n", mail.as_bytes())
