"""The drill's own worker: a real `celery worker` on the scratch queue, killed with -9 and started again.

A session of its own, so that its whole process group can be killed and Ctrl-C does not reach it; the same
environment as ours, so that it is this installation's worker. It does not outlive the drill.
"""

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

from sqlalchemy import ColumnElement

from flaskapp.jobs.models import Job, Worker

ROOT = Path(__file__).parents[2]
_PR_SET_PDEATHSIG = 1
_STOP_SECONDS = 10


class Victim:
    def __init__(self, queue: str, log: Path, front_door: str, instance: Path) -> None:
        self.log = log
        self._name = f"{queue}@{socket.gethostname()}"
        self._command = [sys.executable, "-m", "celery", "-A", front_door, "worker"]
        self._command += ["-Q", queue, "-n", self._name, "-c", "2", "-l", "info"]
        # Other workers need not know of it, and it leaves no queue for remote control behind.
        self._command += ["--without-gossip", "--without-mingle", "worker.enable_remote_control=false"]
        path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        self._environment = {**os.environ, "PYTHONPATH": path, "INSTANCE_PATH": str(instance)}
        self._process: subprocess.Popen[bytes] | None = None
        self._ended_by_us = False

    @property
    def lives(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def died_by_itself(self) -> bool:
        return self._process is not None and not self.lives and not self._ended_by_us

    def start(self) -> None:
        self._ended_by_us = False
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                self._command,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=_end_with_parent,
            )

    def kill(self) -> None:
        """kill -9 for the worker and its pool; returns once the worker is gone for certain."""
        if self._process is None or self._ended_by_us:
            # Its number may be another group's by now.
            return
        self._ended_by_us = True
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def stop(self) -> None:
        """The polite end, so that it takes itself off the broker; whatever is left is killed."""
        if self._process is not None and self.lives:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_STOP_SECONDS)
        self.kill()

    def last_words(self) -> str:
        lines = self.log.read_text(errors="replace").strip().splitlines() if self.log.exists() else []
        return lines[-1][:300] if lines else "it said nothing"

    def is_holder(self) -> ColumnElement[bool]:
        """Of jobs: held by one of its lives."""
        return Job.worker.startswith(f"{self._name}/", autoescape=True)

    def is_listed(self) -> ColumnElement[bool]:
        """Of workers: one of its lives."""
        return Worker.id.startswith(f"{self._name}/", autoescape=True)


def _end_with_parent() -> None:
    """When the drill itself is killed with -9, the kernel kills the worker: nobody else would."""
    if sys.platform == "linux":
        _libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)


_libc = ctypes.CDLL(None)
