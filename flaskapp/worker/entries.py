"""Entries of `app.conf.beat_schedule`, read once and checked: Celery's keys, and three of ours.

Whatever is wrong with one is said in a sentence that names the entry, the key and what it may say.
"""

import zoneinfo
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, tzinfo
from typing import Any

from celery.beat import BeatLazyFunc, ScheduleEntry

from flaskapp.errors import BadArguments, BadSchedule
from flaskapp.jobs.outcomes import clean_text
from flaskapp.jobs.schedules import Order
from flaskapp.worker import checks
from flaskapp.worker.rhythms import Rhythm, read_rhythm

MISSED = ("latest", "skip", "all")
OVERLAP = ("allow", "skip")
#: Celery's own keys; its stock scheduler refuses any other.
_CELERYS = ("task", "schedule", "args", "kwargs", "options", "relative")
#: Ours; `add_periodic_task` puts what it does not know into the options, so they are also looked for there.
_OURS = ("missed", "overlap", "timezone")


@dataclass(frozen=True)
class Entry:
    name: str
    task: str
    rhythm: Rhythm
    zone: tzinfo
    #: The zone's name.
    timezone: str
    missed: str
    overlap: str
    args: Any
    kwargs: Any
    options: Mapping[str, Any]

    def order(self, app: Any) -> Order:
        """What it submits; Celery's BeatLazyFunc among its arguments are called now."""
        options = dict(self.options)
        if options.get("eta") is not None:
            raise BadSchedule("options may not have an eta: for one run at a date write schedule = at(…).")
        expires = options.pop("expires", getattr(app.tasks.get(self.task), "expires", None))
        countdown = options.pop("countdown", None)
        in_seconds = isinstance(expires, int | float)
        wish = app.wish(
            self.task,
            [_called(one) for one in self.args] if isinstance(self.args, list | tuple) else self.args,
            {key: _called(one) for key, one in self.kwargs.items()} if isinstance(self.kwargs, dict) else self.kwargs,
            options | {"expires": None if in_seconds else expires},
        )
        return Order(
            wish,
            checks.seconds("time until it expires", expires) if in_seconds else None,
            None if countdown is None else checks.seconds("countdown", countdown),
        )


def check_name(name: object) -> str:
    """The name itself; raises BadSchedule if no row can hold it."""
    if not isinstance(name, str) or not 0 < len(name) <= 255 or name != clean_text(name):
        raise BadSchedule(f"{name!r:.80} is no name of a schedule: write a text of 1 to 255 characters.")
    return name


def read_entry(app: Any, name: str, written: Any) -> tuple[Entry, Order]:
    """The entry and what it would submit now; raises BadSchedule with one sentence."""
    try:
        entry = _read(app, name, written)
        return entry, entry.order(app)
    except (BadSchedule, BadArguments) as problem:
        raise BadSchedule(f"Schedule {name!r}: {problem}") from problem
    except Exception as problem:
        raise BadSchedule(f"Schedule {name!r}: its entry cannot be read: {problem!r:.200}") from problem


def _read(app: Any, name: str, written: Any) -> Entry:
    if isinstance(written, ScheduleEntry):
        written = {key: getattr(written, key) for key in _CELERYS if key != "relative"}
    if not isinstance(written, Mapping):
        raise BadSchedule(f"its entry must be a dict with the keys task and schedule, not {written!r:.80}.")
    options = dict(written.get("options") or {})
    ours = {key: options.pop(key) for key in _OURS if key in options} | {k: written[k] for k in _OURS if k in written}
    if unknown := [key for key in written if key not in _CELERYS + _OURS]:
        raise BadSchedule(f"{unknown[0]!r} is no key of an entry. The keys are {', '.join(_CELERYS + _OURS)}.")
    task = written.get("task")
    if not isinstance(task, str) or not task:
        raise BadSchedule(f"task must be the name of a task, e.g. 'reports.build', not {task!r:.80}.")
    zone = zone_of(app, ours.get("timezone"))
    return Entry(
        name=name,
        task=task,
        rhythm=read_rhythm(written.get("schedule"), bool(written.get("relative")), zone),
        zone=zone,
        timezone=str(zone)[:64],
        missed=_word("missed", ours.get("missed", MISSED[0]), MISSED),
        overlap=_word("overlap", ours.get("overlap", OVERLAP[0]), OVERLAP),
        args=written.get("args") or (),
        kwargs=written.get("kwargs") or {},
        options=options,
    )


def _word(key: str, value: Any, allowed: tuple[str, ...]) -> str:
    if value not in allowed:
        raise BadSchedule(f"{key} must be {' or '.join(map(repr, allowed))}, not {value!r:.80}.")
    return str(value)


def zone_of(app: Any, wanted: Any = None) -> tzinfo:
    """The zone an entry names, else the installation's; raises BadSchedule."""
    key, wanted = ("timezone", wanted) if wanted is not None else ("app.conf.timezone", app.conf.timezone)
    if wanted is None:
        # Celery's own default: UTC, or this machine's clock with enable_utc = False.
        return UTC if app.conf.enable_utc else app.timezone
    if isinstance(wanted, tzinfo):
        return wanted
    if isinstance(wanted, str) and wanted.upper() == "UTC":
        return UTC
    try:
        return zoneinfo.ZoneInfo(wanted)
    except (KeyError, ValueError, TypeError, OSError) as problem:
        raise BadSchedule(f"{key} is {wanted!r:.80}, {_what_is_wrong_with_zone()}") from problem


def _what_is_wrong_with_zone() -> str:
    if not zoneinfo.available_timezones():
        return "but this machine has no time zone data: pip install tzdata."
    return "which is no time zone that this machine knows. Write e.g. 'Europe/Berlin' or 'UTC'."


def _called(value: Any) -> Any:
    return value() if isinstance(value, BeatLazyFunc) else value
