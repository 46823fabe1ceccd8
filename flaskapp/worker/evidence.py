"""What is known about the end of a pool child, as a sentence and in a few words."""

import re
import signal
import socket

from flaskapp.jobs.crashes import size
from flaskapp.jobs.outcomes import Claimed, Crashed, Error


def crashed(claimed: Claimed, exc: BaseException, pid: int | None, memory: int | None) -> Crashed:
    """The outcome of an attempt whose process `pid` ended by itself; `memory` is what it had when last seen."""
    end, brief = _how_it_ended(exc)
    words = [f"The process {pid} on {socket.gethostname()} that ran it {end}."]
    if memory is not None:
        words.append(f"Its memory had reached {size(memory)}.")
        brief = f"{brief}, {size(memory)}"
    return Crashed(claimed, Error("WorkerLost", " ".join(words)), brief)


def _how_it_ended(exc: BaseException) -> tuple[str, str]:
    text = str(exc)
    if found := re.search(r"signal (\d+)|exitcode -(\d+)", text):
        number = int(found[1] or found[2])
        return f"was ended by {_name(number)} (signal {number})", f"signal {number}"
    code = re.search(r"exitcode (\d+)", text)
    if code or (isinstance(exc, SystemExit) and text.isdigit()):
        number = int(code[1] if code else text)
        return f"ended with exit code {number}", f"exit code {number}"
    return f"ended: {text or type(exc).__name__}", "lost"


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return "a signal"
