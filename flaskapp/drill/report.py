"""How a drill is told: a table for the terminal, and a page that needs nothing beside itself."""

import platform
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import celery
from flask import render_template

from flaskapp.config import Settings
from flaskapp.drill.count import Count

_BINS = 60
#: Of the problems, how many the terminal shows; the page shows all.
_SHOWN = 10


def table(count: Count) -> str:
    hits = " ".join(str(len(kill.hit)) for kill in count.kills)
    rows = [
        ("accepted", count.accepted, ""),
        ("succeeded", count.succeeded, ""),
        ("failed", count.failed, f"after three crashes: {count.parked}"),
        ("lost", count.lost, "not final in time, or without row or effect"),
        ("doubled", count.doubled, "more than one effect"),
        ("late", count.late, f"started more than {count.late_after:g} s after it was due"),
        ("kills", count.useful_kills, f"of {count.kills_wanted}; they hit {count.interrupted} jobs: {hits}"),
        ("drift", count.drift_after, f"of the books; before the drill it was {count.drift_before}"),
        ("seconds", round(count.seconds), ""),
    ]
    lines = [f"  {name:<10}{number:>7}   {remark}".rstrip() for name, number, remark in rows]
    problems = [f"  {problem.what}: {problem.sentence}" for problem in count.problems]
    more = [f"  … and {len(problems) - _SHOWN} more in the report"] if len(problems) > _SHOWN else []
    return "\n".join(["", *lines, "", *problems[:_SHOWN], *more, verdict(count)])


def verdict(count: Count) -> str:
    if count.is_good:
        return "Nothing was lost, nothing ran twice, nothing failed."
    parts = [f"{number} {what}" for what in ("lost", "doubled", "failed") if (number := getattr(count, what))]
    if count.useful_kills < count.kills_wanted:
        parts.append(f"only {count.useful_kills} of {count.kills_wanted} kills hit a running job in time")
    if count.drift_after != count.drift_before:
        parts.append(f"the books drifted from {count.drift_before} to {count.drift_after}")
    return f"Not proven: {', '.join(parts)}."


@dataclass(frozen=True)
class Bar:
    x: float
    width: float
    height: float


@dataclass(frozen=True)
class Timeline:
    """Drawn in a box of 1000 × 100 that the page stretches."""

    #: Jobs that ended, in slices of time.
    bars: list[Bar]
    #: (x, how many jobs it hit, at which second)
    kills: list[tuple[float, int, float]]
    #: The highest bar, in jobs.
    most: int
    seconds: float


def timeline(count: Count) -> Timeline:
    seconds = max([count.seconds, 1.0, *count.ended_at])
    slices = [0] * _BINS
    for at in count.ended_at:
        slices[min(_BINS - 1, max(0, int(at / seconds * _BINS)))] += 1
    most = max([1, *slices])
    width = 1000 / _BINS
    bars = [Bar(index * width, width - 2, 92 * jobs / most) for index, jobs in enumerate(slices) if jobs]
    return Timeline(bars, [(1000 * kill.at / seconds, len(kill.hit), kill.at) for kill in count.kills], most, seconds)


def write_report(path: Path, count: Count, settings: Settings) -> None:
    installation = {
        "database": settings.database_url.get_backend_name(),
        "broker": settings.broker_url.partition(":")[0],
        "LEASE_SECONDS": f"{settings.lease_seconds:g}",
        "Celery": celery.__version__,
        "Python": platform.python_version(),
        "host": platform.node(),
    }
    page = render_template(
        "drill/report.html",
        count=count,
        verdict=verdict(count),
        timeline=timeline(count),
        installation=installation,
        held_at=datetime.now().astimezone(),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page, encoding="utf-8")
