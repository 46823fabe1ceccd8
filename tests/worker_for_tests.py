"""Celery's front door with the test tasks: `celery -A tests.worker_for_tests worker`.

TEST_SCHEDULE_SECONDS adds a schedule of that rhythm, as a user of the project would (TEST_SCHEDULE_KEYS: more keys of
its entry, as JSON), TEST_SCHEDULE_AT one run at a date. TEST_DIE_IN_TICK kills beat between a firing and its commit.
"""

import json
import os
import signal
from typing import Any

import tests.tasks_for_tests  # noqa: F401 -- importing registers them
from celery_worker import app
from flaskapp.worker.firing import Fire
from flaskapp.worker.rhythms import at

if every := os.environ.get("TEST_SCHEDULE_SECONDS"):
    app.conf.beat_schedule["every-moment"] = {
        "task": "diagnostics.echo",
        "schedule": float(every),
        "args": ("tick",),
        **json.loads(os.environ.get("TEST_SCHEDULE_KEYS", "{}")),
    }

if date := os.environ.get("TEST_SCHEDULE_AT"):
    app.conf.beat_schedule["once"] = {"task": "diagnostics.echo", "schedule": at(date), "args": ("once",)}

if os.environ.get("TEST_DIE_IN_TICK"):
    submit = Fire._submit

    def die(self: Fire, session: Any, times: Any) -> None:
        if submit(self, session, times) and self.entry.name == "every-moment":
            os.kill(os.getpid(), signal.SIGKILL)

    Fire._submit = die  # type: ignore[assignment,method-assign]
