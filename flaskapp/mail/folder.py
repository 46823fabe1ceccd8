"""`file://`: mail lands as .eml files, so that a fresh installation sends mail without a server."""

import os
from pathlib import Path
from uuid import uuid4

from flaskapp.mail.composing import Letter
from flaskapp.mail.outbox import file_name
from flaskapp.mail.transport import NotSent, Reply


class Folder:
    #: A file's name comes from the Message-ID: sent again, it is the same file.
    is_repeatable = True

    def __init__(self, path: str) -> None:
        self._path = Path(path)

    def open(self) -> None:
        try:
            self._path.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as problem:
            raise NotSent(f"The folder of MAIL_URL cannot be made: {problem.strerror}.", is_route=True) from None

    def offer(self, letter: Letter) -> None:
        """Everybody may write into a folder."""

    def send(self, letter: Letter) -> Reply:
        name = file_name(letter.message_id)
        draft = self._path / f".{uuid4().hex}"
        envelope = f"X-Envelope-To: {letter.recipient}\r\n".encode()
        try:
            draft.write_bytes(envelope + letter.content)
            os.replace(draft, self._path / name)
        except OSError as problem:
            draft.unlink(missing_ok=True)
            raise NotSent(f"The mail cannot be written: {problem.strerror}.", is_route=True) from None
        return Reply(250, f"written to {name}")

    def withdraw(self) -> None:
        """Nothing was said."""

    def close(self) -> None:
        """Nothing is open."""
