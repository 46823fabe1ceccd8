"""`make up`: checks what can be wrong before a start, prepares the database, runs the three processes.

Promises one sentence with the cure for a taken port, an unwritable folder or an old Python.
How the processes are kept running is in supervisor.py; nothing of the application is imported here.
"""

import ctypes
import errno
import http.client
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NoReturn

from flaskapp.supervisor import GaveUp, Program, Supervisor

ROOT = Path(__file__).parents[1]
PYTHON = sys.executable
STEPS = {
    "migrating the database": [PYTHON, "-m", "flask", "--app", "flaskapp", "db", "upgrade"],
    "making the first account": [PYTHON, "-m", "flask", "--app", "flaskapp", "users", "first-admin"],
}
WEB = [PYTHON, "-m", "gunicorn", "flaskapp:create_app()"]
#: One of them may be held by a heavy question: on a machine with one core nothing else would run.
SLOTS = max(2, os.cpu_count() or 1)
WORKER = [PYTHON, "-m", "celery", "-A", "celery_worker", "worker", "--loglevel", "info", "--concurrency", str(SLOTS)]
BEAT = [PYTHON, "-m", "celery", "-A", "celery_worker", "beat", "--loglevel", "info"]
GREEN, YELLOW, CYAN = "32", "33", "36"
#: Ctrl-C ends everything within ten seconds: TERM, and KILL after this.
KILL_AFTER_SECONDS = 8.0
PATIENCE_SECONDS = 30.0


class CannotStart(Exception):
    """What is wrong and what to do, in one sentence."""


def main() -> int:
    end_with_make()
    signal.signal(signal.SIGTERM, leave)
    started = time.monotonic()
    try:
        host, port = address(os.environ)
        check_python()
        instance = Path(os.environ.get("INSTANCE_PATH") or ROOT / "instance")
        check_folder(instance)
        check_port(host, port)
        environment = {**os.environ, "STOP_SECONDS": os.environ.get("STOP_SECONDS") or "3"}
        prepare(environment, instance / "up.log")
        supervisor = Supervisor(
            [Program("web", WEB, CYAN), Program("worker", WORKER, GREEN), Program("beat", BEAT, YELLOW)],
            ROOT,
            environment,
            kill_after(environment["STOP_SECONDS"]),
        )
        supervisor.run(announcement(host, port, started))
    except (CannotStart, GaveUp) as reason:
        print(reason, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    print("Offload has ended.", flush=True)
    return 0


# --- checks -----------------------------------------------------------------------------------------


def check_python() -> None:
    if sys.version_info < (3, 11):  # noqa: UP036 - for who runs this file by another Python than .venv's
        raise CannotStart(
            f"Offload needs Python 3.11 or newer, and this is {sys.version.split()[0]}:"
            " install a newer one, remove .venv and run make up again."
        )


def address(environment: Mapping[str, str]) -> tuple[str, int]:
    host, port = environment.get("HOST") or "127.0.0.1", environment.get("PORT") or "8000"
    if not port.isascii() or not port.isdigit() or not 1 <= int(port) <= 65535:
        raise CannotStart(f"PORT is {port!r}: write a number from 1 to 65535, e.g. PORT=8000 make up.")
    return host, int(port)


def check_folder(instance: Path) -> None:
    try:
        # Closed to others: the database in it holds password hashes.
        instance.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=instance) as probe:
            probe.write(b"x")
    except OSError as reason:
        raise CannotStart(
            f"Offload cannot write to {instance} ({reason.strerror}): make the folder yours (chown, chmod),"
            " or name another one, e.g. INSTANCE_PATH=/a/folder make up."
        ) from reason


def check_port(host: str, port: int) -> None:
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            # As gunicorn does: connections of an earlier run that the kernel still remembers do not count.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(place)
            probe.listen()
    except OSError as reason:
        if reason.errno == errno.EADDRINUSE:
            raise CannotStart(
                f"Port {port} on {host} is taken: end the program that holds it,"
                f" or choose another port, e.g. PORT={port + 1 if port < 65535 else 8000} make up."
            ) from reason
        if reason.errno == errno.EACCES:
            raise CannotStart(
                f"Port {port} is reserved for the administrator: choose one above 1023, e.g. PORT=8000 make up."
            ) from reason
        raise CannotStart(
            f"HOST is {host!r}, which is no address of this machine ({reason.strerror}):"
            " write one, e.g. HOST=127.0.0.1 make up."
        ) from reason


def kill_after(stop_seconds: str) -> float:
    """Who gives running jobs more time than ten seconds allow has asked for a longer end."""
    try:
        return max(KILL_AFTER_SECONDS, float(stop_seconds) + 3)
    except ValueError as reason:
        raise CannotStart(
            f"STOP_SECONDS is {stop_seconds!r}: write a number of seconds, e.g. STOP_SECONDS=3 make up."
        ) from reason


# --- preparing --------------------------------------------------------------------------------------


def prepare(environment: Mapping[str, str], log: Path) -> None:
    """Migrate, and make the first account; its password is printed here and nowhere else."""
    for name, step in STEPS.items():
        done = subprocess.run(
            step,
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
        )
        if done.returncode:
            said = (done.stdout + done.stderr).strip()
            log.write_text(said + "\n")
            raise CannotStart(f"Offload did not start, {name} failed: {last_words(said)} (All of it is in {log}.)")
        # The migration's log is of no interest when it went well, the password is.
        print(done.stdout, end="", flush=True)


def last_words(said: str) -> str:
    """What went wrong, without the way there: the error at the end of a traceback, else the last line."""
    _, traceback, after = said.rpartition("Traceback (most recent call last):\n")
    lines = after.splitlines() or ["it said nothing"]
    return next((line for line in lines if line[:1].strip()), lines[-1]) if traceback else lines[-1]


# --- being ready ------------------------------------------------------------------------------------


def announcement(host: str, port: int, started: float) -> Callable[[], bool]:
    """A question that is answered yes, and announced, once /readyz says so."""
    patience_ends = started + PATIENCE_SECONDS
    # Who listens on every address is reached on the machine's own.
    name = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104
    url = f"http://[{name}]:{port}" if ":" in name else f"http://{name}:{port}"

    def is_ready() -> bool:
        nonlocal patience_ends
        status, words = ask_readyz(name, port)
        now = time.monotonic()
        if status == 200:
            print(f"\nOffload is ready at {url} after {now - started:.1f} s. Ctrl-C ends it.\n", flush=True)
            return True
        if now > patience_ends:
            patience_ends += PATIENCE_SECONDS
            print(f"Not ready after {now - started:.0f} s; {url}/readyz says: {words}", flush=True)
        return False

    return is_ready


def ask_readyz(host: str, port: int) -> tuple[int, str]:
    # Not urllib: it would go through a proxy that the environment may name.
    connection = http.client.HTTPConnection(host, port, timeout=2)
    try:
        connection.request("GET", "/readyz")
        answer = connection.getresponse()
        return answer.status, answer.read(500).decode(errors="replace").strip()
    except (OSError, http.client.HTTPException) as reason:
        return 0, f"no answer ({reason})"
    finally:
        connection.close()


# --- ending -----------------------------------------------------------------------------------------


def leave(*_: object) -> NoReturn:
    sys.exit(128 + signal.SIGTERM)


def end_with_make() -> None:
    """When make itself is killed with -9, the kernel sends us a TERM: nobody else would."""
    if "MAKELEVEL" in os.environ and sys.platform == "linux":
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, int(signal.SIGTERM), 0, 0, 0)


if __name__ == "__main__":
    sys.exit(main())
