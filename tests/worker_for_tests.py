"""Celery's front door with the test tasks: `celery -A tests.worker_for_tests worker`.

TEST_SCHEDULE_SECONDS adds a schedule of that rhythm, as a user of the project would (TEST_SCHEDULE_KEYS: more keys of
its entry, as JSON); TEST_SCHEDULE_AT one run at a date. TEST_WITHOUT_REMOTE_CONTROL switches Celery's broadcasts off
on every broker. DIE_AT names the place where this process is to die (tests/faults/deadly.py). With TEST_NEWER it is the
worker of a newer version: it knows one more task. With MAIL_DIES whoever sends to some people dies (deadly_mail.py).
"""

import json
import os
from pathlib import Path

import tests.faults.tasks
import tests.tasks_for_tests  # noqa: F401 -- importing registers them
from celery_worker import app
from flaskapp.worker.rhythms import at
from tests.faults import deadly, deadly_mail

deadly.arm(os.environ)
if folder := os.environ.get("MAIL_DIES"):
    deadly_mail.arm(Path(folder))

if os.environ.get("TEST_NEWER"):

    @app.task(name="tests.of_a_newer_version")
    def newer(value: object) -> object:
        return value


if every := os.environ.get("TEST_SCHEDULE_SECONDS"):
    app.conf.beat_schedule["every-moment"] = {
        "task": "diagnostics.echo",
        "schedule": float(every),
        "args": ("tick",),
        **json.loads(os.environ.get("TEST_SCHEDULE_KEYS", "{}")),
    }
if date := os.environ.get("TEST_SCHEDULE_AT"):
    app.conf.beat_schedule["once"] = {"task": "diagnostics.echo", "schedule": at(date), "args": ("once",)}
if os.environ.get("TEST_WITHOUT_REMOTE_CONTROL"):
    app.conf.worker_enable_remote_control = False
