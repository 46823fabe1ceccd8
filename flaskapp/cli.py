"""The commands of `flask …`: each group lives in its subject; this page only hangs them up."""

from flask import Flask


def init_app(app: Flask) -> None:
    """Hang every command group on the application."""
    from flaskapp.accounts.commands import users
    from flaskapp.api.commands import jobs
    from flaskapp.drill.commands import verify

    app.cli.add_command(users)
    app.cli.add_command(jobs)
    jobs.add_command(verify)
