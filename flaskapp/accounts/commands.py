"""`flask users …`: accounts from a shell, where whoever can run commands may do everything."""

import select
import sys

import click
from flask import current_app
from flask.cli import AppGroup

from flaskapp.accounts import actions, passwords
from flaskapp.accounts.models import Role
from flaskapp.errors import BadArguments
from flaskapp.extensions import db

users = AppGroup("users", help="Accounts, their passwords and tokens.")
#: How long something that is piped in has to begin. An open pipe that nobody writes to must not hang a script.
_PIPE_SECONDS = 5


@users.command("add")
@click.argument("name")
@click.option("--role", type=click.Choice([role.value for role in Role]), default=Role.VIEWER.value, show_default=True)
def add(name: str, role: str) -> None:
    """Add an account; its password is read from standard input, else made up and shown."""
    password, is_made_up = _password()
    with _refusals():
        actions.add_account(db.session(), name, role, password)
    db.session.commit()
    click.echo(f"Account {name} ({role}) is added." + (f" Password: {password} (shown only now)" * is_made_up))


@users.command("password")
@click.argument("name")
def password(name: str) -> None:
    """Set a new password, read from standard input or made up, and sign NAME out everywhere."""
    secret, is_made_up = _password()
    with _refusals():
        actions.change_password(db.session(), actions.existing_account(db.session(), name), secret)
    db.session.commit()
    click.echo(f"The password of {name} is changed." + (f" Password: {secret} (shown only now)" * is_made_up))


@users.command("token")
@click.argument("name")
@click.option("--label", default="command line", show_default=True, help="Where the token is used.")
def token(name: str, label: str) -> None:
    """Make a token for NAME and print it, alone: it cannot be read again."""
    with _refusals():
        made = actions.create_token(db.session(), actions.existing_account(db.session(), name), label)
    db.session.commit()
    click.echo(made)


@users.command("list")
def list_accounts() -> None:
    """Every account: name, role, and whether it may come in."""
    for account in actions.accounts(db.session()):
        since = account.created_at.strftime("%Y-%m-%d")
        click.echo(f"{account.name:<24} {account.role:<9} {'active' if account.is_active else 'closed':<7} {since}")


@users.command("deactivate")
@click.argument("name")
def deactivate(name: str) -> None:
    """Lock NAME out at once; sign-ins and tokens stop working."""
    _set_active(name, False)


@users.command("activate")
@click.argument("name")
def activate(name: str) -> None:
    """Let NAME in again."""
    _set_active(name, True)


def _set_active(name: str, is_active: bool) -> None:
    with _refusals():
        actions.set_active(db.session(), actions.existing_account(db.session(), name), is_active)
    db.session.commit()


@users.command("first-admin")
def first_admin() -> None:
    """Create the account `admin` if there is no account yet; print its password unless ADMIN_PASSWORD set it."""
    if actions.accounts(db.session()):
        return
    given = current_app.config["SETTINGS"].admin_password
    secret = given or passwords.made_up()
    with _refusals():
        actions.add_account(db.session(), "admin", Role.ADMIN, secret)
    db.session.commit()
    click.echo("First account: admin, password: " + ("from ADMIN_PASSWORD" if given else f"{secret} (shown only now)"))


def _password() -> tuple[str, bool]:
    """The password, and whether it was made up."""
    piped = _piped_line()
    if piped and len(piped) < passwords.SHORTEST:
        click.echo(f"Warning: a password with fewer than {passwords.SHORTEST} characters is easy to guess.", err=True)
    return (piped, False) if piped else (passwords.made_up(), True)


def _piped_line() -> str:
    stream = sys.stdin
    if stream is None or stream.closed or stream.isatty():
        return ""
    try:
        if not select.select([stream], [], [], _PIPE_SECONDS)[0]:
            return ""
    except (OSError, ValueError):
        pass  # not a file of the system (a test's own text): it can be read at once
    return stream.readline().rstrip("\r\n")


class _refusals:
    """A refusal is one sentence on standard error and exit code 1."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, _kind: object, problem: BaseException | None, _where: object) -> None:
        if isinstance(problem, BadArguments):
            raise click.ClickException(str(problem)) from problem
