"""What a loaded table looks like: its profile, its first rows, its bad rows. SELECTs only."""

from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa
from kombu.utils.json import loads

from flaskapp.extensions import db
from flaskapp.uploads.drawing import bar, sparkline
from flaskapp.uploads.escaping import bad_rows_csv
from flaskapp.uploads.models import Upload
from flaskapp.uploads.names import nice_name

_FIRST_ROWS = 12
_BAD_ROWS_SHOWN = 20


def shown(upload: Upload) -> dict[str, Any]:
    """What the pages of a loaded table render."""
    report = loads(upload.report or "{}")
    return {
        "columns": report.get("columns", []),
        "report": report,
        "nice_name": nice_name(upload),
        "drawn": sparkline,
        "bar": bar,
        "short": short,
        "percent": percent,
        "cell": cell,
        "first_rows": _rows(str(upload.table_name), _FIRST_ROWS),
        "bad_rows": _rows(upload.bad_table_name, _BAD_ROWS_SHOWN) if upload.bad_table_name else [],
    }


def short(value: object) -> str:
    """A value as a cell of the profile shows it; the exact one is its tooltip."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return cell(value)[:80]
    # Years and short codes are not grouped; a mean in the billions needs no last digit.
    if 10_000 <= abs(value) < (1e19 if isinstance(value, int) else 1e9):
        return f"{value:,}" if isinstance(value, int) else f"{value:,.0f}"
    return f"{value:.6g}" if abs(value) < 10_000 else f"{value:.4g}"


def cell(value: object) -> str:
    """A value as its row shows it: what was read, without the noise of a binary fraction."""
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.15g}" if isinstance(value, float) else str(value)


def percent(count: int, total: int) -> str:
    share = 100 * count / total if total else 0.0
    return "<1 %" if 0 < share < 1 else f"{min(share, 99) if count < total else share:.0f} %"


def bad_rows_lines(upload: Upload) -> Iterator[str]:
    """The listed bad rows as CSV, safe to open in a spreadsheet."""
    return bad_rows_csv((number, reason, raw) for _id, number, reason, raw in _rows(str(upload.bad_table_name), None))


def _rows(table_name: str | None, limit: int | None) -> list[tuple[Any, ...]]:
    quoted = db.engine.dialect.identifier_preparer.quote(str(table_name))
    # The name is ours (t_, hex digits, a number), and quoted all the same.
    query = f"SELECT * FROM {quoted} ORDER BY 1" + (f" LIMIT {limit}" if limit else "")  # noqa: S608
    with db.engine.connect() as connection:
        return [tuple(row) for row in connection.execute(sa.text(query))]
