"""A background thread that works when it is nudged: the shape that the outbox and the search for lost messages share.

It starts with the first nudge of each process (a fork leaves its parent's thread behind), and a nudge returns at once.
"""

import os
import threading


class Nudged:
    """Whoever inherits says in `_run` what the thread does until `_stopping`."""

    _name: str

    def __init__(self) -> None:
        self._wake = threading.Event()
        self._lock = threading.Lock()
        # Whoever held it at a fork does not live in the child.
        os.register_at_fork(after_in_child=self._renew_lock)
        self._end = threading.Event()
        self._owner_pid = 0
        self._stopping = False
        self._thread: threading.Thread | None = None

    def nudge(self) -> None:
        """Say that there is something to do; returns at once."""
        if self._stopping:
            return
        with self._lock:
            if self._owner_pid != os.getpid() or self._thread is None or not self._thread.is_alive():
                self._owner_pid = os.getpid()
                self._wake, self._end = threading.Event(), threading.Event()
                self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                self._thread.start()
        self._wake.set()

    def stop(self, seconds: float = 2) -> None:
        self._stopping = True
        self._end.set()
        self._wake.set()
        if self._thread is not None and self._owner_pid == os.getpid():
            self._thread.join(seconds)

    def _renew_lock(self) -> None:
        self._lock = threading.Lock()

    def _run(self) -> None:
        raise NotImplementedError
