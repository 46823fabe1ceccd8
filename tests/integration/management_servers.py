"""Servers that stand for RabbitMQ's management API: a good one, and ones that are slow, refuse, swell or babble.

Each listens on a free loopback port of its own and ends with its context.
"""

import contextlib
import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Answer = Callable[[socket.socket, str, threading.Event], None]

ACCOUNT, SECRET = "offload-monitoring", "s3cret/p@ss word"
_ESCAPED = "s3cret%2Fp%40ss%20word"

QUEUE = {"name": "default", "type": "quorum", "state": "running", "consumers": 2, "messages_ready": 41}
QUEUE |= {"messages_unacknowledged": 7}
QUEUE |= {"message_stats": {"publish_details": {"rate": 12.5}, "ack_details": {"rate": 3}}}
NODE = {"name": "rabbit@here", "running": True, "mem_alarm": False, "disk_free_alarm": False, "mem_used": 166_000_000}
NODE |= {"mem_limit": 512_000_000, "disk_free": 9_000_000_000, "disk_free_limit": 200_000_000}
GOOD = {
    "/api/overview": {"rabbitmq_version": "3.10.8"},
    "/api/nodes": [NODE],
    "/api/queues": {"items": [QUEUE], "total_count": 1},
}


@contextmanager
def serving(answer: Answer, tls: ssl.SSLContext | None = None) -> Iterator[str]:
    """The URL for RABBITMQ_MANAGEMENT_URL; each connection gets a thread of its own."""
    ended = threading.Event()
    server = socket.create_server(("127.0.0.1", 0))
    lines: list[socket.socket] = []

    def take() -> None:
        while True:
            try:
                line, _ = server.accept()
            except OSError:
                return
            lines.append(line)
            threading.Thread(target=serve, args=(line,), daemon=True).start()

    def serve(line: socket.socket) -> None:
        with contextlib.suppress(OSError), tls.wrap_socket(line, server_side=True) if tls else line as asked:
            answer(asked, _request(asked), ended)

    threading.Thread(target=take, daemon=True).start()
    try:
        yield f"{'https' if tls else 'http'}://{ACCOUNT}:{_ESCAPED}@127.0.0.1:{server.getsockname()[1]}"
    finally:
        ended.set()
        # close() alone leaves a thread in accept().
        server.shutdown(socket.SHUT_RDWR)
        server.close()
        for line in lines:
            line.close()


def _request(line: socket.socket) -> str:
    text = b""
    while b"\r\n\r\n" not in text and (piece := line.recv(4096)):
        text += piece
    return text.decode("latin-1")


def reply(line: socket.socket, body: bytes, status: str = "200 OK") -> None:
    line.sendall(f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)


def good(pages: dict[str, object] = GOOD) -> Answer:
    """Answers as RabbitMQ does."""

    def answer(line: socket.socket, request: str, _ended: threading.Event) -> None:
        path = request.split(" ")[1]
        found = [value for start, value in pages.items() if path.startswith(start)]
        reply(line, json.dumps(found[0] if found else {}).encode(), "200 OK" if found else "404 Not Found")

    return answer


def always(body: str | bytes, status: str = "200 OK") -> Answer:
    """The same to every question."""
    raw = body.encode() if isinstance(body, str) else body
    return lambda line, _request, _ended: reply(line, raw, status)


def raw(text: bytes) -> Answer:
    """No HTTP at all."""
    return lambda line, _request, _ended: line.sendall(text)


def silent(_line: socket.socket, _request: str, ended: threading.Event) -> None:
    """Takes the question and says nothing."""
    ended.wait(30)


def trickling(line: socket.socket, _request: str, ended: threading.Event) -> None:
    """A byte now and then: no timeout of a socket ever meets it."""
    line.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
    while not ended.wait(0.2):
        line.sendall(b" ")


def endless(line: socket.socket, _request: str, ended: threading.Event) -> None:
    """As much as one takes."""
    line.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while not ended.is_set():
        line.sendall(b"10000\r\n" + b"[" * 0x10000 + b"\r\n")


def echoing(line: socket.socket, request: str, _ended: threading.Event) -> None:
    """Repeats what it was sent wherever it can, the account in the clear included."""
    basic = request.split("Authorization: Basic ")[1].split("\r\n")[0]
    words = [SECRET, basic, f"http://{ACCOUNT}:{_ESCAPED}@here"]
    name, state, node = words
    pages: dict[str, object] = {
        "/api/overview": {"rabbitmq_version": basic},
        "/api/nodes": [NODE | {"name": node, "running": False}, NODE | {"name": name, "mem_alarm": True}],
        "/api/queues": [{"name": name, "state": "down"}, QUEUE | {"state": state, "type": SECRET}],
    }
    good(pages)(line, request, _ended)


def refusing_aloud(line: socket.socket, request: str, _ended: threading.Event) -> None:
    """Says no, and repeats the password in its reason, a header and its body."""
    head = f"HTTP/1.1 401 {SECRET}\r\nX-Said: {SECRET}\r\nContent-Length: {len(request)}\r\n\r\n{request}"
    line.sendall(head.encode("latin-1"))
