"""The commands of `flask …`: each group lives in its subject; this page only hangs them up."""

from flask import Flask


def init_app(app: Flask) -> None:
    """Hang every command group on the application."""
    from flaskapp.accounts.commands import users
    from flaskapp.api import (
        letter_commands,  # noqa: F401 -- importing adds them to `flask jobs`
        limit_commands,  # noqa: F401 -- hangs itself on `jobs`
    )
    from flaskapp.api.commands import jobs
    from flaskapp.api.queue_commands import queues
    from flaskapp.api.schedule_commands import schedules
    from flaskapp.drill.commands import verify
    from flaskapp.query.commands import query

    app.cli.add_command(users)
    app.cli.add_command(jobs)
    app.cli.add_command(schedules)
    app.cli.add_command(query)
    app.cli.add_command(queues)
    jobs.add_command(verify)
