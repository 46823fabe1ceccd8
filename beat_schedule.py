"""The rhythm as data: name, task, when, arguments. No logic."""

from datetime import timedelta

SCHEDULE = {
    # Old finished jobs go, a thousand at a time, so that history does not grow without end.
    "prune": {"task": "maintenance.prune", "schedule": timedelta(minutes=10)},
    # Tables and files of uploads that did not get to their end.
    "sweep": {"task": "uploads.sweep", "schedule": timedelta(hours=1)},
    # Mail whose job is gone goes on; what a dead worker left half-sent becomes unknown.
    "mail-sweep": {"task": "mail.sweep", "schedule": timedelta(seconds=30)},
    # Answers whose jobs are pruned.
    "forget": {"task": "query.forget", "schedule": timedelta(hours=1)},
    # Saved questions with a rhythm of their own, set on their pages. Not in line behind those that are being asked.
    "questions": {"task": "query.submit_due", "schedule": timedelta(minutes=1), "options": {"queue": "default"}},
    # A small job through every part of the system: its age is the first thing to look at when something is slow.
    "canary": {"task": "diagnostics.echo", "schedule": timedelta(minutes=1), "args": ("canary",)},
}
