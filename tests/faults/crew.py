"""The processes of a storm: two workers, a beat and two submitters that are started again when they have died."""

import contextlib
import os
import signal
from pathlib import Path

from tests.acceptance.conftest import Stack
from tests.helpers import FRONT_DOOR, Process
from tests.services.processes import family

ROLES = {
    "worker 1": [*FRONT_DOOR, "worker", "-c", "2", "-l", "info", "-n", "one"],
    "worker 2": [*FRONT_DOOR, "worker", "-c", "2", "-l", "info", "-n", "two"],
    "beat": [*FRONT_DOOR, "beat", "-l", "info"],
}


class Crew:
    def __init__(self, stack: Stack, submitters: dict[str, list[str]]) -> None:
        self.stack = stack
        self.roles = ROLES | submitters
        self.processes: dict[str, Process] = {}
        #: The files that deadly processes leave behind.
        self.proofs: list[Path] = []

    def restore(self) -> None:
        """Start what has died; a submitter that has said all stays away."""
        for role in self.roles:
            if role not in self.processes or (self.has_ended(role) and not self.has_said_all(role)):
                self.start(role)

    def start(self, role: str, **more: str) -> None:
        """In its place, whatever is left of the one before is ended."""
        self.end(role)
        log = self.stack.bench.folder / f"{role}.log"
        self.processes[role] = Process(self.roles[role], {**self.stack.environment, **more}, log, program=())

    def start_deadly(self, role: str, place: str) -> None:
        self.proofs.append(self.stack.bench.folder / f"{len(self.proofs)}.proof")
        self.start(role, DIE_AT=place, DIE_PROOF=str(self.proofs[-1]))

    def has_ended(self, role: str) -> bool:
        return self.processes[role].popen.poll() is not None

    def has_said_all(self, role: str) -> bool:
        return "submitter" in role and self.processes[role].popen.poll() == 0

    def signal(self, role: str, number: signal.Signals) -> None:
        """To the process and all its children."""
        for pid in family(self.processes[role].pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def end(self, role: str) -> None:
        if role in self.processes:
            self.signal(role, signal.SIGKILL)
            self.processes[role].popen.wait(10)

    def end_all(self) -> None:
        for role in self.processes:
            self.end(role)

    def hits(self) -> int:
        return len([proof for proof in self.proofs if proof.exists()])
