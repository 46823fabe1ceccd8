"""A gate before a broker: while it is closed the broker is down for those who come through it, in no time.

Promises: closing cuts every connection and refuses new ones; opening lets them in again on the same port.
Does not stop the broker itself: other tests may be using it.
"""

import contextlib
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from tests.services.processes import LOCALHOST, free_port


class Gate:
    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        assert parts.hostname
        assert parts.port
        self.port = free_port()
        self.url = url.replace(f":{parts.port}/", f":{self.port}/")
        self._target = (parts.hostname, parts.port)
        self._listener: socket.socket | None = None
        self._sockets: list[socket.socket] = []

    def open(self) -> None:
        listener = socket.create_server((LOCALHOST, self.port))
        self._listener = listener
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def close(self) -> None:
        if self._listener is None:
            return
        listener, self._listener = self._listener, None
        for each in (listener, *self._sockets):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        self._sockets.clear()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                guest, _ = listener.accept()
            except OSError:
                return
            host = socket.create_connection(self._target)
            self._sockets += [guest, host]
            for source, sink in ((guest, host), (host, guest)):
                threading.Thread(target=_pass_on, args=(source, sink), daemon=True).start()


def _pass_on(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_RDWR)


@contextmanager
def gate(url: str) -> Iterator[Gate]:
    """An open gate before the broker at `url`."""
    gate = Gate(url)
    gate.open()
    try:
        yield gate
    finally:
        gate.close()
