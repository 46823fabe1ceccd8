"""One connection to a mail server, kept for as many letters as it takes.

TLS is always verified. A password is never sent in the clear, except to this machine itself. The server's words
are kept as it said them, but never its password prompt's answer.
"""

import contextlib
import smtplib
import socket
import ssl
from dataclasses import dataclass, field

from flaskapp.mail.composing import Letter
from flaskapp.mail.transport import NobodyKnows, NotSent, Reply

#: Some servers close after so many; a fresh connection is cheap against a refusal.
_LETTERS_PER_CONNECTION = 500
_LONGEST_REPLY = 2000
_TOO_LARGE = 552
#: The time-out is for each piece: a large mail on a slow line takes longer, and nobody is silent meanwhile.
_PIECE = 1_000_000


@dataclass(frozen=True)
class Server:
    host: str
    port: int
    user: str
    password: str = field(repr=False)
    #: `from the start`, `required`, `off-if-not-offered` (this machine only) or `off`.
    tls: str
    timeout: float


class Smtp:
    is_repeatable = False

    def __init__(self, server: Server) -> None:
        self._server = server
        self._client: smtplib.SMTP | None = None
        self._letters = 0

    def open(self) -> None:
        if self._client is not None and self._letters < _LETTERS_PER_CONNECTION:
            return
        self.close()
        try:
            self._client = self._connected()
        except NotSent:
            raise
        except smtplib.SMTPResponseException as refusal:
            reply = _reply(refusal.smtp_code, refusal.smtp_error)
            raise NotSent(f"The mail server refuses us: {reply}", reply, is_route=True) from None
        except ssl.SSLError as problem:
            reason = getattr(problem, "verify_message", "") or problem.reason or "no TLS"
            raise NotSent(f"The mail server's certificate or TLS is not good: {reason}.", is_route=True) from None
        except (OSError, smtplib.SMTPException) as problem:
            raise NotSent(f"The mail server cannot be reached: {_words(problem)}.", is_route=True) from None
        except UnicodeError:
            # smtplib speaks ASCII to a server; only the account can have anything else in it.
            raise NotSent("User and password of MAIL_URL must be ASCII to be sent.", is_route=True) from None
        self._letters = 0

    def _connected(self) -> smtplib.SMTP:
        server = self._server
        client: smtplib.SMTP
        if server.tls == "from the start":
            client = smtplib.SMTP_SSL(server.host, server.port, timeout=server.timeout, context=_context())
        else:
            client = smtplib.SMTP(server.host, server.port, timeout=server.timeout)
        if client.sock is not None:
            # Else the last line of each mail waits 40 ms for the answer to what came before it.
            client.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            client.ehlo_or_helo_if_needed()
            if server.tls in ("required", "off-if-not-offered") and self._wants_tls(client):
                client.starttls(context=_context())
                client.ehlo()
            if server.user:
                _login(client, server)
        except BaseException:
            client.close()
            raise
        return client

    def _wants_tls(self, client: smtplib.SMTP) -> bool:
        if client.has_extn("starttls"):
            return True
        if self._server.tls == "required":
            raise NotSent("The mail server offers no TLS. Use smtps://, or MAIL_URL=…?tls=off.", is_route=True)
        return False

    def offer(self, letter: Letter) -> None:
        is_used = self._letters > 0
        try:
            self._offer(letter)
        except NotSent as problem:
            # Many servers end a line that carried so many letters without a word: that is nobody's fault.
            if problem.reply is not None or not is_used:
                raise
            self.open()
            self._offer(letter)

    def _offer(self, letter: Letter) -> None:
        client = self._open_client()
        try:
            reply = _reply(*client.mail(letter.sender))
            if reply.code // 100 != 2:
                # Who we are does not please it: that would be the same for every recipient.
                raise self._refusal(reply, is_route=reply.code != _TOO_LARGE)
            reply = _reply(*client.rcpt(letter.recipient))
            if reply.code // 100 != 2:
                raise self._refusal(reply)
        except (OSError, smtplib.SMTPException) as problem:
            self._drop()
            raise NotSent(f"The connection broke before the content was sent: {_words(problem)}.") from None

    def send(self, letter: Letter) -> Reply:
        client = self._open_client()
        is_whole = False
        try:
            code, text = client.docmd("DATA")
            if code != 354:
                raise self._refusal(_reply(code, text))
            content = smtplib._quote_periods(letter.content)  # type: ignore[attr-defined]
            whole = memoryview((content if content.endswith(b"\r\n") else content + b"\r\n") + b".\r\n")
            # If this raises, the last bytes were not handed over: without its last line a server must forget a mail.
            for begin in range(0, len(whole), _PIECE):
                client.send(bytes(whole[begin : begin + _PIECE]))
            is_whole = True
            reply = _reply(*client.getreply())
        except (OSError, smtplib.SMTPException) as problem:
            self._drop()
            if is_whole:
                raise NobodyKnows(f"The connection broke before the server answered: {_words(problem)}.") from None
            raise NotSent(f"The connection broke before the content was whole: {_words(problem)}.") from None
        self._letters += 1
        if reply.code // 100 == 2:
            return reply
        if reply.code // 100 in (4, 5):
            raise self._refusal(reply)
        # Neither yes nor no: it may have it. What comes next on this line answers who knows which command.
        self._drop()
        raise NobodyKnows(f"The mail server's answer to the content is no answer: {reply}.")

    def withdraw(self) -> None:
        if self._client is not None:
            try:
                self._client.rset()
            except (OSError, smtplib.SMTPException):
                self._drop()

    def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            with contextlib.suppress(OSError, smtplib.SMTPException):
                client.quit()
            client.close()

    def _refusal(self, reply: Reply, is_route: bool = False) -> NotSent:
        """The server stays usable after any answer but 421, with which it leaves."""
        if reply.code == 421:
            self._drop()
            return NotSent(f"The mail server leaves: {reply}", reply, is_route=True)
        self.withdraw()
        return NotSent(str(reply), reply, is_route)

    def _drop(self) -> None:
        if self._client is not None:
            self._client.close()
        self._client = None

    def _open_client(self) -> smtplib.SMTP:
        if self._client is None:
            raise NotSent("The connection is closed.")
        return self._client


def _context() -> ssl.SSLContext:
    """The server must prove who it is. Made where it is used only: that takes 20 ms."""
    return ssl.create_default_context()


def _login(client: smtplib.SMTP, server: Server) -> None:
    is_clear = not isinstance(client.sock, ssl.SSLSocket)
    if is_clear and server.tls == "required":
        raise NotSent("The mail server offers no TLS: the password is not sent.", is_route=True)
    try:
        client.login(server.user, server.password)
    except smtplib.SMTPNotSupportedError:
        raise NotSent("The mail server takes no password on this connection.", is_route=True) from None


def _reply(code: int, text: bytes | str) -> Reply:
    words = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
    return Reply(code, "".join(char if char.isprintable() or char == "\n" else "�" for char in words)[:_LONGEST_REPLY])


def _words(problem: Exception) -> str:
    if isinstance(problem, TimeoutError):
        return "it was silent for too long"
    if isinstance(problem, smtplib.SMTPServerDisconnected):
        # smtplib wraps the time-out of a read in a sentence.
        return "it was silent for too long" if "timed out" in str(problem) else "the server closed it"
    return str(getattr(problem, "strerror", None) or problem).rstrip(".")[:300]
