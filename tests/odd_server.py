"""A mail server that says what a test tells it to, whether it makes sense or not."""

import socket
import threading
import time
from collections.abc import Mapping


class OddServer:
    """`answers` are by command; `connect` is the greeting, `.` the answer to the content. The rest is as usual.

    It ends a line without a word after `most` contents, and reads a megabyte in `seconds_each`.
    """

    def __init__(self, answers: Mapping[str, bytes], most: int = 0, seconds_each: float = 0) -> None:
        self._most, self._seconds_each = most, seconds_each
        self._answers = {"connect": b"220 here\r\n", "DATA": b"354 go on\r\n", ".": b"250 taken\r\n", **answers}
        self.contents = 0
        self._door = socket.create_server(("127.0.0.1", 0))

    @property
    def url(self) -> str:
        return f"smtp://127.0.0.1:{self._door.getsockname()[1]}"

    def __enter__(self) -> "OddServer":
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._door.close()

    def _serve(self) -> None:
        while True:
            try:
                line, _ = self._door.accept()
            except OSError:
                return  # the test is over
            threading.Thread(target=self._talk, args=(line,), daemon=True).start()

    def _talk(self, line: socket.socket) -> None:
        with line, line.makefile("rb") as said:
            line.sendall(self._answers["connect"])
            is_content, contents, size = False, 0, 0
            for words in said:
                size += len(words)
                if size > 1_000_000:
                    time.sleep(self._seconds_each)
                    size = 0
                if is_content and words != b".\r\n":
                    continue
                verb = "." if is_content else words.split()[0].upper().decode()
                answer = self._answers.get(verb, b"250 fine\r\n")
                self.contents += is_content
                contents += is_content
                is_content = verb == "DATA" and answer.startswith(b"354")
                line.sendall(answer)
                if verb == "QUIT" or (verb == "." and contents == self._most):
                    return
