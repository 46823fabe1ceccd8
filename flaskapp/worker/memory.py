"""How much memory a pool child had when it was last seen: once it is gone nobody can tell."""

from pathlib import Path


class Peaks:
    """Looks at processes each second; knows which of them has grown past its own peak since the last look."""

    def __init__(self) -> None:
        self._known: dict[int, int] = {}

    def look(self, pid: int) -> int | None:
        """Bytes: the peak if it was reached since the last look, else what there is now; None if it cannot be told."""
        told = _status(pid)
        if told is None:
            return None
        resident, peak = told
        before = self._known.get(pid, peak)
        self._known[pid] = peak
        # An older peak may be another job's, run by the same process.
        return peak if peak > before else resident

    def forget_all_but(self, pids: set[int]) -> None:
        self._known = {pid: peak for pid, peak in self._known.items() if pid in pids}


def _status(pid: int) -> tuple[int, int] | None:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        told = dict(line.split(":", 1) for line in lines if line.startswith(("VmRSS", "VmHWM")))
        resident, peak = (int(told[name].split()[0]) * 1024 for name in ("VmRSS", "VmHWM"))
    except (OSError, KeyError, ValueError, IndexError):
        return None  # gone, a zombie, or no Linux
    return resident, peak
