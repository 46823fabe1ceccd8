"""A real SMTP server whose answers the recipient's name picks, and which remembers what it took.

`no@` 550 · `later@` 451 · `grey@` 451 the first time · `leave@` 421 the first time ·
`never@` 421 always · `full@` 554 after the content ·
`cut-before@`, `cut-after@` the line breaks · `slow@` silence. Everybody else: 250.
"""

import asyncio
import ssl
import time
from collections import Counter
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import SMTP as POLICY
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult

from tests.services import free_port


class Inbox:
    def __init__(self) -> None:
        self.letters: list[tuple[str, bytes]] = []
        #: When each was taken, by this machine's clock, and to which domain it goes.
        self.taken: list[tuple[float, str]] = []
        self.asked: Counter[str] = Counter()
        self.connections = 0
        self.silence = 30.0

    def of(self, address: str) -> list[EmailMessage]:
        """As their reader's program shows them."""
        contents = [content.replace(b"\r\n", b"\n") for to, content in self.letters if to == address]
        return [message_from_bytes(content, policy=POLICY) for content in contents]

    def counts(self) -> Counter[str]:
        return Counter(to for to, _ in self.letters)

    async def handle_EHLO(self, server: Any, session: Any, envelope: Any, hostname: str, responses: list[str]) -> Any:
        self.connections += 1
        session.host_name = hostname
        return responses

    async def handle_RCPT(self, server: Any, session: Any, envelope: Any, address: str, options: Any) -> str:
        self.asked[address] += 1
        first = self.asked[address] == 1
        match address.split("@")[0].rstrip("0123456789"):
            case "no":
                return "550 5.1.1 no such person"
            case "later":
                return "451 4.3.0 try later"
            case "grey" if first:
                return "451 4.7.1 greylisted"
            case "never":
                asyncio.get_running_loop().call_later(0.05, server.transport.close)
                return "421 4.3.0 not with this one"
            case "leave" if first:
                asyncio.get_running_loop().call_later(0.05, server.transport.close)
                return "421 4.3.2 closing"
            case "cut-before" if first:
                server.transport.abort()
            case "slow":
                await asyncio.sleep(self.silence)
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 fine"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        (address,) = envelope.rcpt_tos
        match address.split("@")[0]:
            case "full":
                return "554 5.6.0 not this"
            case "cut-after":
                self.letters.append((address, envelope.original_content))
                server.transport.abort()
                return "250 2.0.0 nobody hears this"
            case "slow-after":
                await asyncio.sleep(self.silence)
        self.letters.append((address, envelope.original_content))
        self.taken.append((time.monotonic(), address.rpartition("@")[2]))
        return f"250 2.0.0 taken as {len(self.letters)}"


class Server:
    """The inbox with a door: plain, with TLS, or with a password."""

    def __init__(self, tls: ssl.SSLContext | None = None, from_the_start: bool = False, password: str = "") -> None:
        self.inbox = Inbox()
        self.port = free_port()
        options: dict[str, Any] = {"ssl_context" if from_the_start else "tls_context": tls} if tls is not None else {}
        if password:
            options |= {"authenticator": _authenticator(password), "auth_required": True, "auth_require_tls": False}
        self._controller = Controller(self.inbox, hostname="127.0.0.1", port=self.port, **options)

    def __enter__(self) -> "Server":
        self._controller.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._controller.stop()

    @property
    def url(self) -> str:
        return f"smtp://127.0.0.1:{self.port}"


def _authenticator(password: str) -> Any:
    def check(server: SMTP, session: Any, envelope: Any, mechanism: str, data: Any) -> AuthResult:
        fine = getattr(data, "password", b"") == password.encode()
        return AuthResult(success=fine, handled=fine)

    return check
