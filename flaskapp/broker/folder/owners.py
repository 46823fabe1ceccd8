"""Who holds a message: names for processes.

Promises: a name is never used twice, neither when its pid is given to another process nor after a reboot.
Does not know processes of other machines or containers.
"""

import os
from functools import cache
from pathlib import Path

PROC = Path("/proc")
START_TIME = 19  # its place in /proc/PID/stat, counted from the state


def me() -> str:
    return _name_for_life(os.getpid())


def is_alive(owner: str) -> bool:
    pid = owner.partition(".")[0]
    return pid.isdigit() and _name_of(int(pid)) == owner


@cache
def _name_for_life(pid: int) -> str:
    """A process may ask for its own name only, so that a forked child gets a new one."""
    return _name_of(pid) or f"{pid}.0.0"


def _name_of(pid: int) -> str | None:
    """PID.START.BOOT of a living process, None for one that is gone."""
    if not _boot():
        return _name_without_proc(pid)
    try:
        stat = (PROC / str(pid) / "stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = stat.rpartition(")")[2].split()
    is_corpse = fields[0] in "ZX"
    return None if is_corpse else f"{pid}.{fields[START_TIME]}.{_boot()}"


def _name_without_proc(pid: int) -> str | None:
    # A pid given to another process keeps its predecessor's messages back until that one ends too.
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass  # alive, but somebody else's
    return f"{pid}.0.0"


@cache
def _boot() -> str:
    """Eight letters that change with every boot; none where there is no /proc."""
    boot_id = PROC / "sys/kernel/random/boot_id"
    return boot_id.read_text()[:8] if boot_id.exists() else ""
