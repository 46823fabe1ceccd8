"""An answer to take home: CSV that no spreadsheet runs, JSON as the API has it, Parquet with types."""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from flaskapp.uploads.escaping import csv_lines

_WRITER = Path(__file__).parent / "parquet.py"
_WRITER_SECONDS = 60
#: Each writer takes 200 MB, and the web process has hundreds of threads: the others wait.
_turns = threading.BoundedSemaphore(2)


def file_name(stem: str, kind: str, truncated: bool) -> str:
    """A file of rows has no place where it could say that there are more of them; its name has."""
    return f"{stem}{'-truncated' if truncated else ''}.{kind}"


def as_csv(columns: list[str], rows: list[list[Any]]) -> Iterator[str]:
    return csv_lines(columns, ([_flat(value) for value in row] for row in rows))


def _flat(value: Any) -> Any:
    if value is None:
        return ""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict | bool) else value


def as_json(columns: list[str], rows: list[list[Any]], truncated: bool) -> str:
    return json.dumps({"columns": columns, "rows": rows, "truncated": truncated}, ensure_ascii=False)


def as_parquet(columns: list[str], rows: list[list[Any]], truncated: bool) -> bytes:
    """Written by a process of its own: what it needs for that is much more than a web process should keep."""
    with _turns:
        done = subprocess.run(
            [sys.executable, "-P", str(_WRITER)],
            input=json.dumps({"columns": unique(columns), "rows": rows, "truncated": truncated}).encode(),
            stdout=subprocess.PIPE,
            timeout=_WRITER_SECONDS,
            check=True,
        )
    return done.stdout


def unique(names: list[str]) -> list[str]:
    """Parquet wants each name once: the second `id` is called id_2."""
    taken: set[str] = set()
    given = []
    for name in names:
        number, wanted = 1, name or "column"
        while wanted in taken:
            number += 1
            wanted = f"{name or 'column'}_{number}"
        taken.add(wanted)
        given.append(wanted)
    return given
