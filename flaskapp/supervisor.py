"""Keeps a few programs running side by side: starts them, names their output, restarts them, ends them.

Promises that nothing it started outlives it, even when it is killed with -9 itself.
Knows nothing about what the programs do: up.py says what runs.
"""

import contextlib
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import IO

#: A program that ends this often within a minute will not come back by being started again.
MOST_DEATHS = 5
DEATHS_WITHIN_SECONDS = 60
FIRST_START_SECONDS = 10
LOOK_EVERY_SECONDS = 0.2
#: `timeout`, make and some shells send one wish to end twice.
SAME_SIGNAL_SECONDS = 0.5


class GaveUp(Exception):
    """A program cannot be kept running; the message says which and how it ended."""


@dataclass
class Program:
    name: str
    command: Sequence[str]
    colour: str
    process: subprocess.Popen[bytes] | None = None
    deaths: list[float] = field(default_factory=list)
    #: When it started, or when it starts again.
    start_at: float = 0.0


class Supervisor:
    def __init__(
        self, programs: Sequence[Program], folder: Path, environment: Mapping[str, str], stop_seconds: float
    ) -> None:
        self.programs = programs
        self.folder = folder
        self.environment = {**environment, "PYTHONUNBUFFERED": "1"}
        self.stop_seconds = stop_seconds
        self.is_ready = False
        self._signals: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._pumps: list[threading.Thread] = []
        self._colours = {program.name: program.colour for program in programs}
        self._width = max(len(program.name) for program in programs)
        self._guard_pid, self._guard = start_guard(stop_seconds)

    def run(self, is_ready: Callable[[], bool]) -> None:
        """Keep all running until a signal asks for the end; raises GaveUp when that is impossible.

        A program that gives up by itself on its first start has found a mistake in the settings, which
        no restart mends: all stop. Any other end is an accident (out of memory, a kill), and a job
        system is made to survive those: the program starts again, after 1, 2, 4 and 8 seconds.
        """
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._note)
        try:
            while self._asked_to_end() is None:
                for program in self.programs:
                    self._look_after(program)
                self.is_ready = self.is_ready or is_ready()
        finally:
            self._stop()

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self._signals.put(number)

    def _asked_to_end(self) -> int | None:
        with contextlib.suppress(queue.Empty):
            return self._signals.get(timeout=LOOK_EVERY_SECONDS)
        return None

    def _look_after(self, program: Program) -> None:
        if program.process is None:
            if time.monotonic() >= program.start_at:
                self._start(program)
        elif has_ended(program.process):
            code = self._bury(program.process)
            program.process = None
            self._plan_restart(program, code)

    def _start(self, program: Program) -> None:
        # A process group of its own: Ctrl-C in the terminal reaches only us, and we decide the order.
        process = subprocess.Popen(
            program.command,
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            process_group=0,
        )
        self._tell_guard("+", process.pid)
        program.process = process
        program.start_at = time.monotonic()
        pump = threading.Thread(target=self._pump, args=(program, process.stdout), daemon=True)
        pump.start()
        self._pumps = [*filter(threading.Thread.is_alive, self._pumps), pump]

    def _bury(self, process: subprocess.Popen[bytes]) -> int:
        """End what is left of a program and its group; answers with its exit code."""
        # The group's number stays ours until the wait below, so this cannot hit a stranger.
        signal_group(process.pid, signal.SIGKILL)
        code = process.wait()
        self._tell_guard("-", process.pid)
        return code

    def _plan_restart(self, program: Program, code: int) -> None:
        how = describe_end(code)
        now = time.monotonic()
        on_first_start = not program.deaths and now - program.start_at < FIRST_START_SECONDS
        if code >= 0 and (on_first_start or not self.is_ready):
            raise GaveUp(f"{program.name} {how} while starting; its own words are above.")
        program.deaths = [at for at in program.deaths if now - at < DEATHS_WITHIN_SECONDS] + [now]
        if len(program.deaths) >= MOST_DEATHS:
            raise GaveUp(f"{program.name} {how}, the {MOST_DEATHS}th time within a minute.")
        pause = 2 ** (len(program.deaths) - 1)
        program.start_at = now + pause
        self._say(program.name, f"{program.name} {how}; it starts again in {pause} s.")

    def _stop(self) -> None:
        """TERM, then KILL after `stop_seconds`, or at once on a second Ctrl-C."""
        running = {one.name: one.process for one in self.programs if one.process}
        for process in running.values():
            # Only the program itself: a pool child that gets a TERM dies in the middle of its job.
            os.kill(process.pid, signal.SIGTERM)
        began = time.monotonic()
        while running:
            hurry = self._asked_to_end() == signal.SIGINT and time.monotonic() - began > SAME_SIGNAL_SECONDS
            out_of_time = time.monotonic() - began >= self.stop_seconds
            for name, process in list(running.items()):
                ended = has_ended(process)
                if hurry or out_of_time or ended:
                    self._bury(process)
                    if not ended:
                        self._say(name, f"{name} did not end by itself and was killed.")
                    del running[name]
        for pump in self._pumps:
            pump.join(timeout=1)
        os.close(self._guard)
        os.waitpid(self._guard_pid, 0)

    def _tell_guard(self, sign: str, pid: int) -> None:
        # If somebody killed the guard there is nobody to tell; the programs need not end for that.
        with contextlib.suppress(BrokenPipeError):
            os.write(self._guard, f"{sign}{pid}\n".encode())

    def _pump(self, program: Program, output: IO[bytes]) -> None:
        for line in output:
            self._say(program.name, line.decode(errors="replace").rstrip("\n"))

    def _say(self, name: str, line: str) -> None:
        prefix = f"{name:<{self._width}} |"
        if sys.stdout.isatty() and "NO_COLOR" not in os.environ:
            prefix = f"\033[{self._colours[name]}m{prefix}\033[0m"
        # Nobody reads any more (`make up | head`): the programs go on, and their pipes must not fill up.
        with contextlib.suppress(BrokenPipeError):
            sys.stdout.write(f"{prefix} {line}\n")
            sys.stdout.flush()


def has_ended(process: subprocess.Popen[bytes]) -> bool:
    """Look without reaping, so that its number and its group cannot be given to somebody else yet."""
    return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def describe_end(code: int) -> str:
    return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"


def signal_group(group: int, number: int) -> bool:
    try:
        os.killpg(group, number)
    except (
        ProcessLookupError,
        PermissionError,
    ):  # Nobody is left in it; some systems word it the second way.
        return False
    return True


def start_guard(stop_seconds: float) -> tuple[int, int]:
    """Fork the process that ends the others if we are killed before we can; returns its pid and our pipe.

    The pipe tells it what runs. The kernel closes our end however we die, and that is its sign.
    """
    reader, writer = os.pipe()
    pid = os.fork()
    if pid:
        os.close(reader)
        return pid, writer
    os.close(writer)
    os.setsid()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    nothing = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(nothing, standard)
    try:
        guard(reader, stop_seconds)
    finally:
        os._exit(0)


def guard(reader: int, stop_seconds: float) -> None:
    groups: set[int] = set()
    with os.fdopen(reader) as news:
        for line in news:
            (groups.add if line[0] == "+" else groups.discard)(int(line[1:]))
    for group in groups:
        with contextlib.suppress(ProcessLookupError):
            os.kill(group, signal.SIGTERM)
    deadline = time.monotonic() + stop_seconds
    while time.monotonic() < deadline and any(signal_group(group, 0) for group in groups):
        time.sleep(LOOK_EVERY_SECONDS)
    for group in groups:
        signal_group(group, signal.SIGKILL)
