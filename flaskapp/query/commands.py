"""`flask query …`: the account for questions, from a shell."""

import click
from flask import current_app
from flask.cli import AppGroup

from flaskapp.extensions import db
from flaskapp.query import access
from flaskapp.query.catalogue import loaded_tables

query = AppGroup("query", help="The account that asks questions, and the views that it may read.")


@query.command("grant")
@click.option("--print", "only_print", is_flag=True, help="Run nothing; print what a database administrator runs.")
def grant(only_print: bool) -> None:
    """Make the account for questions and its views, or set its password after SECRET_KEY changed."""
    if db.engine.dialect.name == "sqlite":
        click.echo("SQLite needs no account: each question runs in a process that may read its views only.")
        return
    reader = access.reader_of(current_app.config["SETTINGS"])
    if only_print:
        for statement in access.statements(db.engine, reader):
            click.echo(f"{statement};")
        return
    try:
        access.grant(db.engine, reader)
        access.refresh(db.engine, reader, loaded_tables(db.session(), None))
    except access.NoAccount as problem:
        raise click.ClickException(str(problem)) from problem
    click.echo(f"Questions are asked by {reader.name}, which may read the views and nothing else.")
