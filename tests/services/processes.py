"""One started program and everything it starts in turn; free ports; waiting on a condition.

Promises to signal only processes that descend from the one it started, and to leave none of them behind.
Knows nothing about brokers or databases.
"""

import contextlib
import ctypes
import os
import pwd
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

LOCALHOST = "127.0.0.1"
PR_SET_PDEATHSIG = 1
libc = ctypes.CDLL(None)


class ServiceMissing(Exception):
    """The program is not here and could not be brought; the message is one sentence with the cure."""


class ServiceFailed(Exception):
    """The program is here but did not come up; the message ends with the last lines of its log."""


def free_port() -> int:
    # Below the range from which the kernel takes ports for outgoing connections: a port that is free
    # now must still be free when the service starts again after a kill.
    for _ in range(200):
        port = random.randrange(20000, 32000)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((LOCALHOST, port))
            except OSError:
                continue
            return port
    raise ServiceFailed("No free port between 20000 and 32000 on 127.0.0.1; end what occupies them.")


def wait_until(condition: Callable[[], bool], seconds: float, what: str) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"Not within {seconds:g} s: {what}.")
        time.sleep(0.05)


def running_processes() -> Iterator[tuple[int, int, int]]:
    """(pid, parent, session) of every process that is not a zombie."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                state, parent, _group, session = (entry / "stat").read_text().rpartition(")")[2].split(maxsplit=4)[:4]
            except (FileNotFoundError, ProcessLookupError):
                continue
            if state not in "ZX":
                yield int(entry.name), int(parent), int(session)


def family(pid: int) -> set[int]:
    """The process, its session and all that descends from them.

    By session because a child whose parent died is adopted by init; by descent because PostgreSQL's
    backends each open a session of their own.
    """
    processes = list(running_processes())
    members = {child for child, _, session in processes if pid in (child, session)}
    while grown := {child for child, parent, _ in processes if parent in members} - members:
        members |= grown
    return members


@dataclass
class Program:
    command: Sequence[str | Path]
    log: Path
    environment: Mapping[str, str] | None = None
    user: str | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    @property
    def is_alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self, is_ready: Callable[[], bool], seconds: float = 60, lock: int | None = None) -> None:
        """Start it and wait until it is ready; raises ServiceFailed with its last words otherwise."""
        if self.is_alive:
            return
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [str(word) for word in self.command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self.environment,
                cwd="/",
                user=self.user,
                group=_group_of(self.user),
                extra_groups=[] if self.user else None,
                start_new_session=True,
                pass_fds=() if lock is None else (lock,),
                preexec_fn=_end_with_parent(self.stop_signal),
            )
        try:
            wait_until(lambda: not self.is_alive or is_ready(), seconds, f"{self.command[0]} is ready")
        except BaseException as reason:
            self.kill()
            if isinstance(reason, TimeoutError):
                raise ServiceFailed(f"{reason}\n{self.last_words()}") from None
            raise
        if not self.is_alive:
            raise ServiceFailed(f"{self.command[0]} ended while starting.\n{self.last_words()}")

    def stop(self, seconds: float = 30) -> None:
        """The polite end: waits until the program and all its relatives are gone."""
        if not self._process:
            return
        self.resume()
        relatives = family(self._process.pid)
        if self.is_alive:
            self._process.send_signal(self.stop_signal)
            try:
                self._process.wait(seconds)
            except subprocess.TimeoutExpired:
                self.kill()
                return
        self._wait_for_the_end(relatives)

    def kill(self) -> None:
        """The power cut: kill -9 for the program and all its relatives at once."""
        if not self._process:
            return
        relatives = family(self._process.pid)
        _signal(relatives, signal.SIGKILL)
        self._process.wait()
        self._wait_for_the_end(relatives)

    def freeze(self) -> None:
        if self._process:
            _signal(family(self._process.pid), signal.SIGSTOP)

    def resume(self) -> None:
        if self._process:
            _signal(family(self._process.pid), signal.SIGCONT)

    def last_words(self, lines: int = 15) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def _wait_for_the_end(self, relatives: set[int]) -> None:
        def all_gone() -> bool:
            return not relatives & {pid for pid, _, _ in running_processes()}

        try:
            wait_until(all_gone, 5, "helpers end with their program")
        except TimeoutError:
            _signal(relatives, signal.SIGKILL)
            wait_until(all_gone, 5, "helpers end after kill -9")
        self._process = None


def _signal(pids: set[int], number: signal.Signals) -> None:
    for pid in pids:
        # Who ended between the look and the signal needs none.
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def run_as(user: str | None, command: Sequence[str | Path]) -> None:
    """Run a preparing command to its end; raises ServiceFailed with what it said."""
    done = subprocess.run(
        command,
        cwd="/",
        user=user,
        group=_group_of(user),
        extra_groups=[] if user else None,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode:
        raise ServiceFailed(f"{command[0]} failed: {done.stdout.strip()}")


def _group_of(user: str | None) -> int | None:
    return pwd.getpwnam(user).pw_gid if user else None


def _end_with_parent(number: signal.Signals) -> Callable[[], None] | None:
    """Ask the kernel to stop the service when a test run is killed before it can clean up.

    The kernel means the *thread* that started it, so only the main thread may ask.
    """
    if sys.platform != "linux" or threading.current_thread() is not threading.main_thread():
        return None
    return lambda: libc.prctl(PR_SET_PDEATHSIG, int(number), 0, 0, 0)
