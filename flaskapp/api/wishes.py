"""From what a script asks for to a job: checked first, then handed to Celery's one door.

The web API and `flask jobs submit` come through here, so both refuse the same things in the same words.
"""

import difflib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from flask import current_app
from kombu.utils import json as kombu_json
from werkzeug.exceptions import Conflict

from flaskapp.api.parsing import integer_field, refuse_unknown, text_field, time_field
from flaskapp.errors import BadArguments
from flaskapp.extensions import db
from flaskapp.jobs import queries
from flaskapp.jobs.lifecycle import new_job_id
from flaskapp.jobs.models import QUEUES
from flaskapp.worker.celery_app import Offload

FIELDS = ("task", "args", "kwargs", "queue", "run_at", "unique_key", "limit_key", "max_attempts")
MOST_ATTEMPTS = 1000
#: Of the application's own jobs: whoever held one would keep a mail from leaving, or the attacks from being tried.
_OWN_KEYS = re.compile(r"mail:[^:]*:\d+|query\.safety")


@dataclass(frozen=True)
class Asked:
    """One request for a job that can be granted."""

    task: str
    args: list[Any] = field(default_factory=list)
    kwargs: dict[str, Any] = field(default_factory=dict)
    queue: str | None = None
    run_at: datetime | None = None
    unique_key: str | None = None
    limit_key: str | None = None
    max_attempts: int | None = None


def celery_app() -> Offload:
    found: Offload = current_app.extensions["celery"]
    return found


def read_wish(fields: object, where: str = "") -> Asked:
    """Check one wish; BadArguments says which field does not fit. `where` begins the sentence, e.g. `jobs[3].`."""
    if not isinstance(fields, dict):
        raise BadArguments(f"{where.rstrip('.') or 'A job'} must be an object with at least the field task.")
    refuse_unknown(fields, FIELDS, where)
    asked = Asked(
        task=_task_name(fields, where),
        args=_container(fields, "args", list, "a list, e.g. [1, 2]", where),
        kwargs=_container(fields, "kwargs", dict, 'an object, e.g. {"key": "value"}', where),
        queue=_queue(fields, where),
        run_at=time_field(fields, "run_at", where),
        unique_key=_unique_key(fields, where),
        limit_key=text_field(fields, "limit_key", 255, where),
        max_attempts=integer_field(fields, "max_attempts", 1, MOST_ATTEMPTS, where),
    )
    _check_arguments(asked, where)
    return asked


def submit(asked: Asked, owner: str | None) -> tuple[str, bool]:
    """Write the job in the current transaction; answers its id, and False if the unique key had a live job."""
    # A known id tells a new job from the one that holds the key; without a key, submitting is cheaper without.
    task_id = new_job_id() if asked.unique_key else None
    sent = celery_app().send_task(
        asked.task, args=asked.args, kwargs=asked.kwargs, task_id=task_id, **_options(asked, owner)
    )
    is_new = task_id is None or sent.id == task_id
    return str(sent.id), is_new


def submit_many(asked: Sequence[Asked], owner: str | None) -> list[str]:
    """Write all of them in the current transaction; answers their ids in order."""
    return celery_app().send_many([(one.task, one.args, one.kwargs, _options(one, owner)) for one in asked])


def _options(asked: Asked, owner: str | None) -> dict[str, Any]:
    return {
        "queue": asked.queue,
        "eta": asked.run_at,
        "unique_key": asked.unique_key,
        "limit_key": asked.limit_key,
        "max_attempts": asked.max_attempts,
        "owner": owner,
    }


def check_may_see(job_id: str, owner: str | None) -> None:
    """A viewer's unique key may be held by somebody else's job, which is not theirs to see."""
    if queries.job_by_id(db.session(), job_id, owner) is None:
        raise Conflict("This unique_key is held by a live job of another account. Choose another key, or wait.")


def task_names() -> list[str]:
    """The tasks that may be asked for from outside; Celery's own and internal ones may not."""
    tasks = celery_app().tasks
    return sorted(
        name for name, task in tasks.items() if not name.startswith("celery.") and not getattr(task, "internal", False)
    )


def _task_name(fields: dict[str, Any], where: str) -> str:
    name = text_field(fields, "task", 255, where)
    known = task_names()
    if name is None:
        raise BadArguments(f"{where}task is missing. Name the task to run, e.g. {(known or ['diagnostics.echo'])[0]}.")
    if name not in known:
        close = difflib.get_close_matches(name, known, n=1)
        hint = f" Did you mean {close[0]}?" if close else ""
        raise BadArguments(f"{where}task {name!r} is not known.{hint} Known are: {', '.join(known)}.")
    return name


def _container(fields: dict[str, Any], name: str, kind: type, example: str, where: str) -> Any:
    value = fields.get(name)
    if value is None:
        return kind()
    if not isinstance(value, kind):
        raise BadArguments(f"{where}{name} must be {example}.")
    return value


def _queue(fields: dict[str, Any], where: str) -> str | None:
    name = text_field(fields, "queue", 64, where)
    if name is not None and name not in QUEUES:
        raise BadArguments(f"{where}queue {name!r} does not exist. The queues are: {', '.join(QUEUES)}.")
    return name


def _unique_key(fields: dict[str, Any], where: str) -> str | None:
    key = text_field(fields, "unique_key", 255, where)
    if key is not None and _OWN_KEYS.fullmatch(key):
        raise BadArguments(f"{where}unique_key {key!r} is one of the application's own. Choose another.")
    return key


def _check_arguments(asked: Asked, where: str) -> None:
    _check_that_they_can_be_read(asked, where)
    # What Celery's own delay() checks: a task must at least take these arguments.
    takes = getattr(celery_app().tasks[asked.task], "__header__", None)
    if takes is None:
        return
    try:
        takes(*asked.args, **asked.kwargs)
    except TypeError as problem:
        raise BadArguments(f"{where}{asked.task} cannot be called with these arguments: {problem}.") from problem


def _check_that_they_can_be_read(asked: Asked, where: str) -> None:
    """Kombu's JSON gives `__type__` a meaning: what looks like one must be one, or no worker could read it."""
    text = json.dumps([asked.args, asked.kwargs])
    if '"__' not in text:
        return
    try:
        kombu_json.loads(text)
    except Exception as problem:
        raise BadArguments(f"{where}args or kwargs hold a __type__ that cannot be read ({problem}).") from problem
