"""A whole installation as `make up` starts it: real web, worker and beat processes, spoken to over HTTP.

Promises a private folder and port, and that leaving ends every process it started. Knows no single journey.
"""

import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

from tests.helpers import ROOT, wait_until
from tests.services import free_port
from tests.services.processes import family, running_processes

PASSWORD = "correct horse battery"
FINAL = {"succeeded", "failed", "cancelled"}


class Installation:
    def __init__(self, folder: Path, **settings: str) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = folder / "up.log"
        kept = {name: value for name, value in os.environ.items() if name != "MAKELEVEL"}
        self.environment = {
            **kept,
            "INSTANCE_PATH": str(folder / "instance"),
            "HOST": "127.0.0.1",
            "PORT": str(self.port),
            "ADMIN_PASSWORD": PASSWORD,
            "STOP_SECONDS": "1",
            **settings,
        }
        self._started = [self.start(self.log, "-m", "flaskapp.up")]
        self._token = ""

    def start(self, log: Path, *words: str) -> subprocess.Popen[bytes]:
        with log.open("ab") as output:
            return subprocess.Popen(
                [sys.executable, *words],
                cwd=ROOT,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def wait_until_ready(self) -> None:
        self.wait_for("Offload is ready")

    def wait_for(self, words: str, log: Path | None = None) -> None:
        log = log or self.log

        def said() -> bool:
            return words in log.read_text(errors="replace") or self._started[0].poll() is not None

        try:
            wait_until(said, 90, words)
        except AssertionError as reason:
            raise AssertionError(f"{reason}:\n{log.read_text(errors='replace')[-3000:]}") from None
        assert words in log.read_text(errors="replace"), log.read_text(errors="replace")[-3000:]

    def add_worker(self, name: str) -> subprocess.Popen[bytes]:
        """A second worker beside the one of `make up`."""
        log = self.log.with_name(f"{name}.log")
        worker = self.start(log, "-m", "celery", "-A", "celery_worker", "worker", "-c", "2", "-l", "info", "-n", name)
        self._started.append(worker)
        self.wait_for(" ready.", log)
        return worker

    def worker_pid(self) -> int:
        """The worker that `make up` watches."""
        for pid in sorted(family(self._started[0].pid)):
            with contextlib.suppress(OSError):
                words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
                if b"celery" in words and b"worker" in words:
                    return pid
        raise LookupError("no worker is running")

    def kill_worker(self) -> None:
        """The power cut: the worker and its pool at once."""
        for pid in sorted(family(self.worker_pid())):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def end(self) -> None:
        """At once: the polite end has tests of its own (test_up.py)."""
        pids = {pid for process in self._started for pid in family(process.pid)}
        for pid in pids & {pid for pid, _, _ in running_processes()}:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for process in self._started:
            process.wait(5)

    # --- over HTTP ----------------------------------------------------------------------------------------

    @property
    def token(self) -> str:
        """Of the first admin, as `flask users token` gives it."""
        if not self._token:
            done = subprocess.run(
                [sys.executable, "-m", "flask", "--app", "flaskapp", "users", "token", "admin"],
                cwd=ROOT,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                check=True,
            )
            self._token = done.stdout.strip()
        return self._token

    def ask(
        self, method: str, path: str, body: bytes | None = None, content_type: str = "application/json", **headers: str
    ) -> tuple[int, Any]:
        """Status and JSON."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            sent = {"Authorization": f"Bearer {self.token}", **headers}
            if body is not None:
                sent["Content-Type"] = content_type
            connection.request(method, f"/api/v1{path}", body, sent)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        finally:
            connection.close()

    def get(self, path: str) -> Any:
        status, body = self.ask("GET", path)
        assert status == 200, body
        return body

    def submit(self, task: str, *args: Any, **more: Any) -> str:
        status, job = self.ask("POST", "/jobs", json.dumps({"task": task, "args": args, **more}).encode())
        assert status == 202, job
        return str(job["id"])

    def upload(self, content: bytes, name: str = "table.csv", **headers: str) -> tuple[int, Any]:
        cut = uuid4().hex
        head = f'--{cut}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n'
        body = head.encode() + content + f"\r\n--{cut}--\r\n".encode()
        return self.ask("POST", "/uploads", body, f"multipart/form-data; boundary={cut}", **headers)

    def finished(self, job_id: str, seconds: float = 60) -> Any:
        """The job, once it is final."""

        def final() -> Any:
            job = self.get(f"/jobs/{job_id}")
            return job if job["state"] in FINAL else None

        try:
            return wait_until(final, seconds, f"job {job_id} is final")
        except AssertionError as reason:
            raise AssertionError(f"{reason}; {self.get(f'/jobs/{job_id}')}") from None


@contextlib.contextmanager
def installation(folder: Path, **settings: str) -> Iterator[Installation]:
    running = Installation(folder, **settings)
    try:
        running.wait_until_ready()
        yield running
    finally:
        running.end()
