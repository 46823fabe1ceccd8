"""`flask jobs verify`: a drill on the running installation, with a scratch queue and a worker of its own.

It kills that worker again and again in mid-job and counts what was lost, doubled, late or failed. Everything that
it does names its own queue; web, users and other workers stay untouched.

work.py what is submitted · scratch.py the queue · victim.py the worker · run.py the drill · tables.py what it
reads and writes · count.py what came of it · report.py and commands.py how it is told.
"""

from flask import Flask


def init_app(app: Flask) -> None:
    import flaskapp.drill.tasks  # noqa: F401 -- importing registers them
