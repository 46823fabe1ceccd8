"""Where uploaded bytes lie: streamed to their volume once, then renamed, never copied.

A file that no request kept is deleted at the request's end; what a killed process left behind is swept later.
"""

import hashlib
import os
import time
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote, urlsplit
from uuid import uuid4

#: Nothing in here is older than its request, unless its process was killed.
_FORGOTTEN_SECONDS = 86_400


class Storage:
    """The folder of a `file://` STORAGE_URL."""

    def __init__(self, url: str) -> None:
        folder = Path(unquote(urlsplit(url).path))
        self.kept = folder / "kept"
        self.incoming = folder / "incoming"
        for place in (self.kept, self.incoming):
            place.mkdir(parents=True, exist_ok=True)

    def path(self, file_id: str) -> Path:
        return self.kept / file_id

    def receive(self) -> "IncomingFile":
        return IncomingFile(self.incoming / str(uuid4()))

    def sweep(self, is_known: "set[str]") -> int:
        """Delete old files that no row knows; answers how many."""
        stale = [path for path in self.incoming.iterdir() if _is_forgotten(path)]
        stale += [path for path in self.kept.iterdir() if path.name not in is_known and _is_forgotten(path)]
        for path in stale:
            path.unlink(missing_ok=True)
        return len(stale)


def _is_forgotten(path: Path) -> bool:
    try:
        return path.stat().st_mtime < time.time() - _FORGOTTEN_SECONDS
    except FileNotFoundError:
        return False  # a request has just kept or discarded it


class IncomingFile:
    """What Werkzeug writes an upload into: counts and digests the bytes as they pass by."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = 0
        self._digest = hashlib.sha256()
        self._file: BinaryIO = path.open("w+b")

    @property
    def digest(self) -> str:
        return self._digest.hexdigest()

    def write(self, block: bytes) -> int:
        self.size += len(block)
        self._digest.update(block)
        return self._file.write(block)

    def keep(self, path: Path) -> None:
        """Put it in its final place; from here on it is the caller's."""
        self._file.flush()
        # The row that is committed next must not outlive its bytes in a power cut.
        os.fsync(self._file.fileno())
        self.path = self.path.rename(path)

    def discard(self) -> None:
        self._file.close()
        self.path.unlink(missing_ok=True)

    # The rest of a file, as Werkzeug's FileStorage asks for it.

    def read(self, size: int = -1) -> bytes:
        return self._file.read(size)

    def readline(self, size: int = -1) -> bytes:
        return self._file.readline(size)

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def flush(self) -> None:
        self._file.flush()

    def close(self) -> None:
        self._file.close()
