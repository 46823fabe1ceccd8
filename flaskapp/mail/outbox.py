"""The folder of `file://` as a mailbox: what a fresh installation has "sent", to look at."""

import base64
import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from email import message_from_bytes
from email.message import EmailMessage
from email.parser import BytesHeaderParser
from email.policy import default
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from flask import current_app

from flaskapp.mail.models import Message

_MOST = 200
_LONGEST = 200_000
_LONGEST_HEAD = 20_000
_PICTURES = ("image/png", "image/jpeg", "image/gif")


@dataclass(frozen=True)
class Head:
    """What a list shows of an .eml file."""

    name: str
    at: datetime
    size: int
    headers: list[tuple[str, str]]

    def header(self, name: str) -> str:
        return next((value for key, value in self.headers if key.lower() == name.lower()), "")


@dataclass(frozen=True)
class Landed(Head):
    """An .eml file as its reader would see it."""

    text: str
    attachments: list[str]
    has_html: bool
    source: str


def folder() -> Path | None:
    """None if mail goes to a server."""
    parts = urlsplit(current_app.config["SETTINGS"].mail_url)
    return Path(unquote(parts.path)) if parts.scheme == "file" else None


def newest() -> list[Head]:
    where = folder()
    if where is None or not where.is_dir():
        return []
    found = [(path.stat().st_mtime, path) for path in where.glob("*.eml")]
    return [_head(path) for _, path in sorted(found, reverse=True)[:_MOST]]


def letter_of(message: Message, number: int) -> Landed | None:
    where = folder()
    message_id = f"<{number}.{message.id}@{message.sender.rpartition('@')[2]}>"
    path = where / file_name(message_id) if where else None
    return _read(path) if path is not None and path.is_file() else None


def landed(name: str) -> Landed | None:
    where = folder()
    path = where / name if where and len(name) == 36 and name.removesuffix(".eml").isalnum() else None
    return _read(path) if path is not None and path.is_file() else None


def html_of(letter: Landed) -> str:
    """Its HTML with the pictures that it names; empty if it has none."""
    where = folder()
    if where is None or not letter.has_html:
        return ""
    mail = message_from_bytes((where / letter.name).read_bytes(), EmailMessage, policy=default)
    html = _text(mail.get_body(("html",)))
    for part in mail.walk():
        name = str(part["Content-ID"] or "").strip("<> ")
        if name and part.get_content_type() in _PICTURES:
            data = base64.b64encode(part.get_payload(decode=True)).decode()  # type: ignore[arg-type]
            html = html.replace(f'"cid:{name}"', f'"data:{part.get_content_type()};base64,{data}"')
    return html


def file_name(message_id: str) -> str:
    return f"{hashlib.sha256(message_id.encode()).hexdigest()[:32]}.eml"


def _head(path: Path) -> Head:
    # Two hundred mails with twenty megabytes of attachments each are not read for their subjects.
    with path.open("rb") as file:
        mail = BytesHeaderParser(policy=default).parsebytes(file.read(_LONGEST_HEAD))
    about = path.stat()
    headers = [(key, str(value)) for key, value in mail.items()]
    return Head(path.name, datetime.fromtimestamp(about.st_mtime, UTC), about.st_size, headers)


def _read(path: Path) -> Landed:
    content = path.read_bytes()
    mail = message_from_bytes(content, EmailMessage, policy=default)
    body = mail.get_body(("plain", "html"))
    return Landed(
        **vars(_head(path)),
        text=_text(body)[:_LONGEST],
        has_html=mail.get_body(("html",)) is not None,
        attachments=[part.get_filename() or "without a name" for part in mail.iter_attachments()],
        source=content[:_LONGEST].decode("utf-8", "replace"),
    )


def _text(part: Any) -> str:
    if part is None:
        return ""
    try:
        return str(part.get_content())
    except (LookupError, ValueError):
        return str(part.get_payload())
