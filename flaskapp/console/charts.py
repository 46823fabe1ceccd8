"""Drawings as numbers: where each bar begins and how long it is. Templates draw them as SVG.

Lengths are shares of a box of 100 by 100, so that one drawing fits a desk and a phone; no inline style is needed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from flaskapp.jobs.last_hour import Minute

MINUTES = 60
#: Nothing that exists is drawn too thin to be seen.
_LEAST_SHARE = 0.7


@dataclass(frozen=True)
class Segment:
    state: str
    count: int
    x: float
    width: float


@dataclass(frozen=True)
class Bar:
    kind: str
    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True)
class Column:
    x: float
    width: float
    label: str
    bars: list[Bar]


@dataclass(frozen=True)
class Chart:
    columns: list[Column]
    #: What the full height stands for.
    top: float
    is_empty: bool


def stacked_bar(counts: Mapping[str, int], whole: int | None = None) -> list[Segment]:
    """The states as one bar, in the order given; its width of 100 stands for `whole`, or for their sum.

    A small share is widened until it can be seen.
    """
    total = whole or sum(counts.values())
    shares = {state: max(100 * count / total, _LEAST_SHARE) for state, count in counts.items() if count}
    if not shares:
        return []
    scale = min(1, 100 / sum(shares.values())) if whole else 100 / sum(shares.values())
    segments, x = [], 0.0
    for state, share in shares.items():
        segments.append(Segment(state, counts[state], round(x, 3), round(share * scale, 3)))
        x += share * scale
    return segments


def throughput(minutes: Sequence[Minute]) -> Chart:
    """Jobs that ended per minute, stacked by the state they ended in."""
    by_minute: dict[int, dict[str, int]] = {}
    for minute in minutes:
        by_minute.setdefault(minute.minutes_ago, {})[minute.state] = minute.jobs
    top = max((sum(ends.values()) for ends in by_minute.values()), default=0)
    columns = []
    for ago, ends in _in_hour(by_minute):
        level, bars = 100.0, []
        for state in ("succeeded", "failed", "cancelled"):
            height = 100 * ends.get(state, 0) / top
            level -= height
            bars.append(_bar(state, ago, level, height))
        told = ", ".join(f"{count} {state}" for state, count in sorted(ends.items(), reverse=True))
        columns.append(Column(_x(ago), _WIDTH, f"{_when(ago)}: {told}", [bar for bar in bars if bar.height]))
    return Chart(columns, top, not columns)


def waiting_time(minutes: Sequence[Minute]) -> Chart:
    """Seconds between due and started, for jobs that ended in that minute: the mean within the longest."""
    started = [minute for minute in minutes if minute.longest_wait is not None]
    by_minute: dict[int, list[Minute]] = {}
    for minute in started:
        by_minute.setdefault(minute.minutes_ago, []).append(minute)
    top = max((minute.longest_wait or 0 for minute in started), default=0)
    columns = []
    for ago, rows in _in_hour(by_minute):
        longest = max(row.longest_wait or 0 for row in rows)
        mean = sum((row.mean_wait or 0) * row.jobs for row in rows) / sum(row.jobs for row in rows)
        # On a logarithmic scale nothing would be seen of the usual; the longest is drawn behind it.
        bars = [_bar(kind, ago, 100 - 100 * value / (top or 1), 100 * value / (top or 1))
                for kind, value in (("longest", longest), ("mean", mean))]  # fmt: skip
        label = f"{_when(ago)}: {mean:.1f} s on average, {longest:.1f} s at most"
        columns.append(Column(_x(ago), _WIDTH, label, bars))
    return Chart(columns, top, not columns)


_WIDTH = 100 / MINUTES * 0.76


def _in_hour(by_minute: Mapping[int, object]) -> list:  # type: ignore[type-arg]
    return sorted((ago, value) for ago, value in by_minute.items() if 0 <= ago < MINUTES)


def _x(ago: int) -> float:
    return round(100 / MINUTES * (MINUTES - 1 - ago) + 100 / MINUTES * 0.12, 3)


def _bar(kind: str, ago: int, y: float, height: float) -> Bar:
    return Bar(kind, _x(ago), round(y, 2), round(_WIDTH, 3), round(height, 2))


def _when(ago: int) -> str:
    return "the last minute" if ago == 0 else f"{ago} min ago"
