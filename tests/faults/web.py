"""The web process with the test tasks, for gunicorn; DIE_AT names the place where it is to die."""

import os

import tests.faults.tasks  # noqa: F401 -- importing registers them
from flaskapp import create_app
from tests.faults import deadly

app = create_app()
deadly.arm(os.environ)
