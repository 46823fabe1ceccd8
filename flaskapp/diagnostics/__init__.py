"""Tasks whose fate is chosen by their arguments: for drills, the canary, the docs and the tests."""

from flask import Flask


def init_app(app: Flask) -> None:
    import flaskapp.diagnostics.models
    import flaskapp.diagnostics.tasks  # noqa: F401 -- importing registers them
