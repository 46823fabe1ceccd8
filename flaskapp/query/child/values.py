"""Values of any database as JSON that every reader understands alike.

A whole number beyond 2^53 and a decimal that a float cannot hold are texts, NaN and the infinities are the texts
NaN, Infinity and -Infinity, bytes are \\x and hexadecimal digits, times are texts as the database writes them.
"""

import json
import math
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any

_EXACT = 2**53
#: Of one text; a longer one is cut and counts as truncated.
LONGEST_CELL = 100_000


def plain(value: Any) -> Any:
    """One value as JSON has it."""
    match value:
        case None | bool():
            return value
        case int():
            return value if -_EXACT <= value <= _EXACT else str(value)
        case float():
            return value if math.isfinite(value) else _not_finite(value)
        case Decimal():
            return _decimal(value)
        case bytes() | bytearray() | memoryview():
            return "\\x" + bytes(value[: LONGEST_CELL // 2 + 1]).hex()
        case list() | tuple() | set():
            return [plain(each) for each in value]
        case dict():
            return {str(key): plain(each) for key, each in value.items()}
        case _:
            # Half a character pair can be in no JSON that travels as UTF-8.
            return str(value).encode("utf-8", "replace").decode()


def _not_finite(value: float | Decimal) -> str:
    if value != value:
        return "NaN"
    return "Infinity" if value > 0 else "-Infinity"


def _decimal(value: Decimal) -> Any:
    if not value.is_finite():
        return _not_finite(value)
    if value == value.to_integral_value():
        return plain(int(value)) if abs(value) <= _EXACT else format(value, "f")
    near = float(value)
    return near if Decimal(repr(near)) == value else str(value)


class Collected:
    """Rows as they come, up to the caps."""

    def __init__(self, most_rows: int, most_bytes: int) -> None:
        self.rows: list[list[Any]] = []
        self.truncated = False
        self._most_rows = most_rows
        self._room = most_bytes

    def take(self, rows: Iterable[Sequence[Any]]) -> bool:
        """False once there is room for no more."""
        for row in rows:
            if len(self.rows) >= self._most_rows:
                self.truncated = True
                return False
            cells = [self._cut(plain(value)) for value in row]
            self._room -= len(json.dumps(cells)) + 1
            if self._room < 0:
                self.truncated = True
                return False
            self.rows.append(cells)
        return True

    def _cut(self, cell: Any) -> Any:
        if isinstance(cell, str) and len(cell) > LONGEST_CELL:
            self.truncated = True
            return cell[: LONGEST_CELL - 1] + "…"
        return cell
