"""`make bench`: every measurement, as one table.

Private RabbitMQ and PostgreSQL are started for it and stopped after it. Absolute figures belong to the machine;
compare the ratios.
"""

import os
import platform
import tempfile
from pathlib import Path

from bench import draining, loading, mailing, relaying
from tests import services


def main() -> None:
    folder = Path(tempfile.mkdtemp(prefix="offload-bench-"))
    folder.chmod(0o711)
    print(f"Python {platform.python_version()}, {os.cpu_count()} cores", flush=True)
    print(f"{'what':<58} {'ours':>12} {'other':>12} {'ratio':>7}")
    with services.rabbitmq(folder / "rabbitmq") as broker, services.postgresql(folder / "postgresql") as database:
        for row in (
            *draining.rows(broker, database, folder),
            *relaying.rows(broker, database),
            *mailing.rows(broker, database, folder),
        ):
            show(*row)
    for row in loading.rows(folder):
        show(*row)


def show(what: str, ours: str, other: str = "", ratio: float | None = None) -> None:
    print(f"{what:<58} {ours:>12} {other:>12} {'' if ratio is None else f'{ratio:.2f}':>7}", flush=True)


if __name__ == "__main__":
    main()
