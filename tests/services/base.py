"""What every private service can do: start, stop, be killed, be frozen, lose its data.

Promises that it starts again on the same port, that what it keeps lies below the given folder, and that
leaving the context leaves no process.
"""

import fcntl
import os
import pwd
import shutil
import socket
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from tests.services.processes import LOCALHOST, Program, ServiceFailed, free_port, run_as, wait_until

SOMEBODY_MAY_BE_STOPPING_SECONDS = 8


class Service(ABC):
    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self.folder.mkdir(parents=True, exist_ok=True)
        self.data = self.folder / "data"
        self.log = self.folder / "log"
        self.port = free_port()
        self.user: str | None = None
        self._elsewhere: Path | None = None
        self._lock: int | None = None
        self.program: Program | None = None

    @property
    @abstractmethod
    def url(self) -> str: ...

    @abstractmethod
    def _prepare(self) -> Program:
        """Find the program, write what it needs and say how to run it."""

    @abstractmethod
    def _is_ready(self) -> bool: ...

    @property
    def is_alive(self) -> bool:
        return self.program is not None and self.program.is_alive

    @property
    def pid(self) -> int | None:
        return self.program.pid if self.program else None

    def start(self) -> None:
        """Start it, or start it again on the same port with the same data; returns when it is ready."""
        self._claim_folder()
        if self.program is None:
            self.program = self._prepare()
        self.program.start(self._is_ready, lock=self._lock)

    @property
    def keeps_data(self) -> bool:
        """False if the data lies elsewhere and goes with the service."""
        return self._elsewhere is None

    def stop(self) -> None:
        if self.program:
            self.program.stop()

    def kill(self) -> None:
        """kill -9 for the service and its helpers, as a power cut would."""
        if self.program:
            self.program.kill()

    def freeze(self) -> None:
        """It holds its connections but answers nothing, until `resume`."""
        if self.program:
            self.program.freeze()

    def resume(self) -> None:
        if self.program:
            self.program.resume()

    def wipe(self) -> None:
        """Lose all data; the next start begins from nothing."""
        self.kill()
        shutil.rmtree(self.data, ignore_errors=True)
        self.program = None

    def close(self) -> None:
        self.stop()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None
        if self._elsewhere:
            shutil.rmtree(self._elsewhere)

    def _claim_folder(self) -> None:
        """Two servers on one folder would ruin each other's data: the second is refused.

        The program inherits the lock, so that it holds as long as the program lives, and not only us.
        """
        if self._lock is not None:
            return
        lock = os.open(self.folder / "lock", os.O_CREAT | os.O_RDWR, 0o600)
        try:
            wait_until(lambda: _is_locked_by_us(lock), SOMEBODY_MAY_BE_STOPPING_SECONDS, "the folder is free")
        except TimeoutError:
            os.close(lock)
            raise ServiceFailed(f"{self.folder} is in use by services that run already: stop those first.") from None
        self._lock = lock

    def _leave_root(self, account: str) -> None:
        """Have the program run by `account` (or nobody) when we are root, with data it can reach."""
        if os.geteuid() != 0 or self.user:
            return
        self.user = account if account in {known.pw_name for known in pwd.getpwall()} else "nobody"
        if not all(place.stat().st_mode & 0o001 for place in (self.folder, *self.folder.parents)):
            # That account cannot pass through, say, /root.
            self._elsewhere = Path(tempfile.mkdtemp(prefix="offload-services-"))
            shutil.chown(self._elsewhere, self.user)
            self.data = self._elsewhere / "data"

    def _make_data(self, command: Sequence[str | Path]) -> None:
        """Let the service's own program fill an empty data folder; none is left when it fails."""
        self.data.mkdir(mode=0o700, exist_ok=True)
        if self.user:
            shutil.chown(self.data, self.user)
        try:
            run_as(self.user, command)
        except ServiceFailed:
            shutil.rmtree(self.data)
            raise

    def _answers(self, question: bytes) -> bool:
        """Does the port answer anything at all to these bytes?"""
        try:
            with socket.create_connection((LOCALHOST, self.port), timeout=1) as connection:
                connection.sendall(question)
                return bool(connection.recv(1))
        except OSError:
            return False


def _is_locked_by_us(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


AnyService = TypeVar("AnyService", bound=Service)


@contextmanager
def running(service: AnyService) -> Iterator[AnyService]:
    try:
        service.start()
        yield service
    finally:
        service.close()
