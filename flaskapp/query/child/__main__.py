"""Limits first, then the question."""

import os
import resource

from . import mariadb, postgresql, sqlite
from .link import Link, Refused, Unable

_READERS = {"sqlite": sqlite.ask, "postgresql": postgresql.ask, "mariadb": mariadb.ask}


def main() -> None:
    link = Link()
    request = link.request
    os.nice(10)  # whoever waits for a page goes before whoever waits for an answer
    resource.setrlimit(resource.RLIMIT_AS, (request["memory"], request["memory"]))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    seconds = int(request["seconds"]) + 5
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    # Room for SQLite's own small file beside the database; nothing else is written.
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
    try:
        link.answer(**_READERS[request["backend"]](request, link))
    except Refused as refused:
        link.answer(refused=str(refused))
    except Unable as trouble:
        link.answer(unable=str(trouble))
    except MemoryError:
        link.answer(refused=f"It needs more memory than a question may have ({request['memory'] // 10**6:,} MB).")


main()
