"""Where mail goes, chosen by MAIL_URL: a server (smtp.py) or a folder of .eml files (folder.py).

A transport sends one letter at a time over one kept connection, in two steps: `offer` may always be repeated;
after `send` has begun nobody but the server knows whether it counts.
"""

from dataclasses import dataclass
from typing import Protocol
from urllib.parse import parse_qs, unquote, urlsplit

from flaskapp.config import Settings
from flaskapp.mail.composing import Letter


@dataclass(frozen=True)
class Reply:
    """What came back for one letter: a code of three digits, and the server's own words."""

    code: int
    text: str

    def __str__(self) -> str:
        return f"{self.code} {self.text}".strip()


class NotSent(Exception):
    """The letter did not leave, or the server refused it: nobody got it. `reply` is None if there was no answer."""

    def __init__(self, sentence: str, reply: Reply | None = None, is_route: bool = False) -> None:
        super().__init__(sentence)
        self.reply = reply
        #: It concerns whoever goes this way, not this letter.
        self.is_route = is_route

    @property
    def is_final(self) -> bool:
        return self.reply is not None and self.reply.code >= 500 and not self.is_route


class NobodyKnows(Exception):
    """The content left and no answer came."""


class Transport(Protocol):
    #: A letter that is sent again replaces the first: then nothing has to stay unknown.
    is_repeatable: bool

    def open(self) -> None:
        """Be connected; raises NotSent."""

    def offer(self, letter: Letter) -> None:
        """Say from whom and to whom; raises NotSent."""

    def send(self, letter: Letter) -> Reply:
        """Hand the content over; raises NotSent or NobodyKnows."""

    def withdraw(self) -> None:
        """Take the offer back."""

    def close(self) -> None:
        """Leave politely; never raises."""


def open_transport(settings: Settings) -> Transport:
    from flaskapp.mail.folder import Folder
    from flaskapp.mail.smtp import Server, Smtp

    parts = urlsplit(settings.mail_url)
    if parts.scheme == "file":
        return Folder(unquote(parts.path))
    is_smtps = parts.scheme == "smtps"
    host = parts.hostname or ""
    usual = "off-if-not-offered" if host in ("localhost", "::1") or host.startswith("127.") else "required"
    return Smtp(
        Server(
            host,
            parts.port or (465 if is_smtps else 587 if parts.username else 25),
            unquote(parts.username or ""),
            unquote(parts.password or ""),
            "from the start" if is_smtps else parse_qs(parts.query).get("tls", [usual])[0],
            settings.mail_timeout_seconds,
        )
    )
