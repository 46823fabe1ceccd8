"""A table of a million rows and five columns into SQLite: rows per second, both passes and the profile included."""

import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROWS = 1_000_000
_CODE = """
import sys, time, resource
from pathlib import Path
from sqlalchemy import create_engine
from flaskapp.extensions import tune, engine_options
from sqlalchemy.engine import URL
from flaskapp.uploads import columns, loading, sniffing
path, database = Path(sys.argv[1]), sys.argv[2]
url = URL.create("sqlite", database=database)
engine = tune(create_engine(url, **engine_options(url)))
began = time.perf_counter()
dialect = sniffing.sniff(path)
report = loading.load(path, dialect, columns.survey(path, dialect).columns, engine, "t_bench")
print(report.rows, time.perf_counter() - began, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


def rows(folder: Path) -> Iterator[tuple[str, str]]:
    path = folder / "million.csv"
    chance = random.Random(3)
    with path.open("w") as file:
        file.write("id,name,price,day,active\n")
        for n in range(ROWS):
            file.write(
                f"{n},name {n % 5000},{chance.random() * 1000:.2f},2026-{n % 12 + 1:02d}-{n % 28 + 1:02d},true\n"
            )
    command = [sys.executable, "-c", _CODE, str(path), str(folder / "bench.sqlite3")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    loaded, seconds, megabytes = done.stdout.split()
    yield f"loading {int(loaded):,} rows of five columns into SQLite", f"{int(loaded) / float(seconds):,.0f}/s"
    yield "  peak memory of the process that loads", f"{megabytes} MB"
