"""The one door to polars, opened inside the functions that need it, in a worker's child process.

polars starts threads on import, which do not survive a fork, and 35 MB that the web process need not carry.
"""

import os
from types import ModuleType


def polars() -> ModuleType:
    # One chunk fits one core; more threads mean more memory arenas. It is read on the first import only.
    os.environ.setdefault("POLARS_MAX_THREADS", "1")
    import polars

    return polars
