"""An answer as a page shows it: sorted, its first rows, each value as a cell."""

import json
import math
import re
from dataclasses import dataclass
from typing import Any

#: The rest is a download away; a browser with ten thousand rows is no pleasure.
ROWS_SHOWN = 300
COLUMNS_SHOWN = 80
_LONGEST_SHOWN = 200
_LONGEST_NUMBER = 60
_DECIMAL = re.compile(r"-?\d+\.\d+")
#: A float has as many for certain.
_DIGITS_OF_A_FLOAT = 15


@dataclass(frozen=True)
class Order:
    """By which column, counted from 0; None: as the database gave them."""

    column: int | None = None
    descending: bool = False


def read_order(text: str, columns: int) -> Order:
    """`3` or `-3`: the third column, falling with a minus. What is neither is no order."""
    number = text.removeprefix("-")
    if not (number.isascii() and number.isdigit() and len(number) < 5 and 1 <= int(number) <= columns):
        return Order()
    return Order(int(number) - 1, text.startswith("-"))


def ordered(rows: list[list[Any]], order: Order) -> list[list[Any]]:
    """Numbers before texts, nothing last, whichever way."""
    if order.column is None:
        return rows
    column = order.column
    filled = [row for row in rows if row[column] is not None]
    filled.sort(key=lambda row: _sort_key(row[column]), reverse=order.descending)
    return filled + [row for row in rows if row[column] is None]


def _sort_key(value: Any) -> tuple[int, Any]:
    number = as_number(value)
    return (0, number) if number is not None else (1, str(value))


def as_number(value: Any) -> float | None:
    """Also of a whole number or decimal that travels as a text, because JSON would lose digits."""
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, int | float):
        return float(value)
    if isinstance(value, str) and value[:1] in "-0123456789" and len(value) < _LONGEST_NUMBER:
        try:
            number = float(value)
        except ValueError:
            return None
        return number if math.isfinite(number) else None
    return None


def numeric_columns(columns: list[str], rows: list[list[Any]]) -> set[int]:
    """Those that hold numbers, wherever they hold anything."""
    found = set()
    for i in range(len(columns)):
        values = [row[i] for row in rows[:1000] if row[i] is not None]
        if values and all(_is_number(value) for value in values):
            found.add(i)
    return found


def _is_number(value: Any) -> bool:
    """Also a decimal with more digits than JSON would keep: PostgreSQL's averages are such texts."""
    if isinstance(value, str):
        is_decimal = len(value) < _LONGEST_NUMBER and _DECIMAL.fullmatch(value) is not None
        return is_decimal and len(value.lstrip("-0")) > _DIGITS_OF_A_FLOAT + 1
    return isinstance(value, int | float) and not isinstance(value, bool)


def cell(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.15g}"
    text = json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else str(value)
    return text if len(text) <= _LONGEST_SHOWN else text[: _LONGEST_SHOWN - 1] + "…"
