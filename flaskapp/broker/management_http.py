"""One bounded question to RabbitMQ's management API: in time, of limited size, and JSON, or a sentence why not.

The account is sent to this one address and nowhere else: no redirect is followed, no proxy asked. Of a refusal only
its number is told, for a server may repeat in words what it was sent.
"""

import base64
import json
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from typing import Any
from urllib.parse import unquote, urlsplit

CONNECT_SECONDS = 2.0
MOST_BYTES = 1_000_000


class NoAnswer(Exception):
    """Its text is a sentence for people, in our words only; `status` is 0 if there was none."""

    def __init__(self, sentence: str, status: int = 0) -> None:
        super().__init__(sentence)
        self.status = status


@dataclass(frozen=True)
class Address:
    """Where the API is and who asks."""

    secure: bool
    host: str
    port: int
    path: str
    user: str = field(repr=False)
    password: str = field(repr=False)

    @classmethod
    def of(cls, url: str) -> "Address":
        parts = urlsplit(url)
        secure = parts.scheme == "https"
        port = parts.port or (443 if secure else 80)
        user, password = unquote(parts.username or ""), unquote(parts.password or "")
        return cls(secure, parts.hostname or "", port, parts.path.rstrip("/"), user, password)

    @property
    def basic(self) -> str:
        return base64.b64encode(f"{self.user}:{self.password}".encode()).decode()

    def is_secret(self, text: str) -> bool:
        """It holds what nobody may see, should the server ever repeat it."""
        spellings = (text, unquote(text))
        return self.basic in text or (bool(self.password) and any(self.password in each for each in spellings))


class Questions:
    """Asks one after the other until the time for all of them is up."""

    def __init__(self, address: Address, seconds: float) -> None:
        self._address = address
        self._ends = time.monotonic() + seconds
        self._seconds = seconds
        self._line: socket.socket | None = None
        self._cut = False

    def get(self, path: str) -> Any:
        """The answer's JSON; raises NoAnswer."""
        try:
            return self._read(path)
        except (OSError, HTTPException, ValueError, RecursionError) as trouble:
            # Not chained: what the server said stands in it.
            raise NoAnswer(self._sentence(trouble)) from None

    def cut(self) -> None:
        """The time is up: whoever reads or writes on this line gets its end."""
        self._cut = True
        if self._line is not None:
            with suppress(OSError):
                # Not by SSLSocket.shutdown, which takes the session from under the thread that reads.
                socket.socket.shutdown(self._line, socket.SHUT_RDWR)

    def _read(self, path: str) -> Any:
        with self._connected() as connection:
            headers = {"Authorization": f"Basic {self._address.basic}", "Accept": "application/json"}
            headers |= {"Accept-Encoding": "identity", "Connection": "close"}
            connection.request("GET", f"{self._address.path}/api{path}", headers=headers)
            answer = connection.getresponse()
            if answer.status != 200:
                raise NoAnswer(_REFUSALS.get(answer.status, f"it answers with status {answer.status}"), answer.status)
            body = answer.read(MOST_BYTES + 1)
        if len(body) > MOST_BYTES:
            raise NoAnswer(f"its answer is larger than {MOST_BYTES // 1_000_000} MB")
        return json.loads(body, parse_constant=_no_number)

    @contextmanager
    def _connected(self) -> Iterator[HTTPConnection]:
        address, left = self._address, self._ends - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._line = socket.create_connection((address.host, address.port), min(CONNECT_SECONDS, left))
        try:
            if address.secure:
                # The handshake comes once `cut` can reach this line.
                context = ssl.create_default_context()
                line = context.wrap_socket(self._line, server_hostname=address.host, do_handshake_on_connect=False)
                self._line = line
                line.do_handshake()
            connection = HTTPConnection(address.host, address.port)
            connection.sock = self._line
            yield connection
        finally:
            used, self._line = self._line, None
            used.close()

    def _sentence(self, trouble: BaseException) -> str:
        if self._cut or isinstance(trouble, TimeoutError):
            return f"it does not answer within {self._seconds:g} s"
        if isinstance(trouble, ssl.SSLError):
            return "its certificate is not accepted" if isinstance(trouble, ssl.CertificateError) else "TLS fails"
        if isinstance(trouble, ConnectionRefusedError):
            return "nobody listens there (connection refused)"
        if isinstance(trouble, socket.gaierror):
            return "its name is not known"
        if isinstance(trouble, OSError):
            return f"it cannot be reached ({type(trouble).__name__})"
        return "it answers nonsense"


@contextmanager
def questions(address: Address, seconds: float) -> Iterator[Questions]:
    asked = Questions(address, seconds)
    # A timeout of the socket alone would let a server that sends a byte a second go on for ever.
    end = threading.Timer(seconds, asked.cut)
    end.daemon = True
    end.start()
    try:
        yield asked
    finally:
        end.cancel()


_REFUSALS = {
    401: "it refuses the account of RABBITMQ_MANAGEMENT_URL (401)",
    403: "the account of RABBITMQ_MANAGEMENT_URL may not look; it needs the tag `monitoring` (403)",
    404: "there is nothing at this address (404)",
}


def _no_number(_name: str) -> None:
    raise ValueError("NaN and Infinity are no JSON")
