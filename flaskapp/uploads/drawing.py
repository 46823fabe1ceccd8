"""A histogram as SVG, drawn on the server for a page with a strict content security policy.

Classes and currentColor only: no inline style, no script, no link. What stands in the table is escaped.
The numbers are read out by the label, so the picture is never the only carrier of what it shows.
"""

import unicodedata
from dataclasses import dataclass

from markupsafe import Markup, escape


@dataclass(frozen=True)
class _Size:
    name: str
    width: int
    height: int
    #: Room below the bars for the two ends of the range.
    foot: int


_SMALL = _Size("small", 160, 40, 0)
_LARGE = _Size("large", 640, 220, 24)


def sparkline(column: dict[str, object]) -> Markup:
    """The histogram of one column of a profile, 160 by 40; empty if it has none."""
    return _draw(column, _SMALL)


def chart(column: dict[str, object]) -> Markup:
    """The same, large, with the ends of the range written below."""
    return _draw(column, _LARGE)


def bar(count: int, most: int) -> Markup:
    """One bar, as long as its share of the longest; what it counts is written beside it."""
    return Markup(
        '<svg class="share" viewBox="0 0 44 7" aria-hidden="true" focusable="false">'
        '<rect fill="currentColor" width="{:.1f}" height="7" rx="1"/></svg>'
    ).format(max(1.0, 44 * count / most))


def _draw(column: dict[str, object], size: _Size) -> Markup:
    bins = _bins(column)
    if not bins:
        return Markup("")
    most = max(count for _, _, count in bins)
    label = f"{column['name']}: {len(bins)} bins from {bins[0][0]} to {bins[-1][1]}, at most {most:,} rows in one"
    parts = [
        Markup('<svg class="histogram histogram-{}" viewBox="0 0 {} {}" width="{}" height="{}" role="img" '
               'aria-label="{}"><title>{}</title>').format(
            size.name, size.width, size.height, size.width, size.height, _printable(label), _printable(label)
        )
    ]  # fmt: skip
    parts += [_bar(bin_, place, len(bins), most, size) for place, bin_ in enumerate(bins)]
    if size.foot:
        parts += [_end(bins[0][0], 0, "start", size), _end(bins[-1][1], size.width, "end", size)]
    return Markup("").join([*parts, Markup("</svg>")])


def _bins(column: dict[str, object]) -> list[tuple[str, str, int]]:
    histogram = column.get("histogram")
    if not isinstance(histogram, dict):
        return []
    return [(_number(bin_["from"]), _number(bin_["to"]), bin_["count"]) for bin_ in histogram["bins"]]


def _bar(bin_: tuple[str, str, int], place: int, bins: int, most: int, size: _Size) -> Markup:
    start, end, count = bin_
    room = size.height - size.foot - 1
    # A bin with a single row among a million still shows as a line.
    height = max(1.0, room * count / most) if count else 0.0
    step = size.width / bins
    gap = 1 if size is _SMALL else 2
    return Markup(
        '<rect class="histogram-bar" fill="currentColor" '
        'x="{:.2f}" y="{:.2f}" width="{:.2f}" height="{:.2f}">'
        "<title>{}: {} {}</title></rect>"
    ).format(
        place * step + gap / 2,
        size.height - size.foot - height,
        max(1.0, step - gap),
        height,
        _printable(start if start == end else f"{start} to {end}"),
        f"{count:,}",
        "row" if count == 1 else "rows",
    )


def _end(text: str, x: int, anchor: str, size: _Size) -> Markup:
    return Markup('<text class="histogram-end" x="{}" y="{}" text-anchor="{}" fill="currentColor">{}</text>').format(
        x, size.height - 6, anchor, _printable(text)
    )


def _number(value: object) -> str:
    """A number short enough to read; dates are text already."""
    if isinstance(value, int):
        return f"{value}"
    if isinstance(value, float):
        return f"{value:.6g}"
    return str(value)


def _printable(text: str) -> Markup:
    return escape("".join(letter for letter in text if unicodedata.category(letter) != "Cc"))
