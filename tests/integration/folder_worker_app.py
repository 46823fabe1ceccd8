"""A small Celery application on the embedded broker, for test_folder_celery.py.

Promises: the broker's URL and the folder for notes come from the environment.
Does not use the project's own application: the broker is tested alone.
"""

import os
from pathlib import Path

from celery import Celery

from flaskapp.broker.folder import register

register()

app = Celery("folder_test", broker=os.environ["BROKER_URL"])
app.conf.update(task_ignore_result=True, task_acks_late=True, worker_prefetch_multiplier=1)


@app.task
def note(name: str) -> None:
    """One line of text per run; a short append is atomic."""
    with open(Path(os.environ["NOTES"]), "a") as notes:
        notes.write(f"{name}\n")


@app.task
def wait_for(file: str) -> None:
    import time

    with open(Path(os.environ["NOTES"]), "a") as notes:
        notes.write("begun\n")
    while not os.path.exists(file):
        time.sleep(0.01)
