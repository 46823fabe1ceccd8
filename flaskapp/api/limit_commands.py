"""`flask jobs limit`: the limits of keys and queues from a shell."""

from typing import Any

import click

from flaskapp.accounts.audit import write_audit
from flaskapp.api.commands import jobs, refusals
from flaskapp.api.rules import rate_of_text, read_rule
from flaskapp.errors import BadArguments
from flaskapp.extensions import db
from flaskapp.jobs import control, queries
from flaskapp.jobs.limits import Rule
from flaskapp.jobs.models import QUEUES
from flaskapp.worker.sessions import wake_relay


@jobs.command("limit")
@click.argument("key", required=False)
@click.option("--queue", type=click.Choice(QUEUES), help="All jobs of this queue, instead of those with a key.")
@click.option("--running", type=int, help="At most so many at a time.")
@click.option("--rate", help="COUNT/SECONDS: at most so many starts in such a span, e.g. 10/60.")
@click.option("--remove", is_flag=True, help="Take the limit away.")
def limit(key: str | None, queue: str | None, running: int | None, rate: str | None, remove: bool) -> None:
    """Limit the jobs with KEY (or of a queue); without numbers show what is set."""
    with refusals():
        changing = remove or running is not None or rate is not None
        if (key is None) == (queue is None) and (key or changing):
            raise BadArguments("Name a key or a queue, e.g. `flask jobs limit customer-7 --running 2`.")
        if remove and (running is not None or rate is not None):
            raise BadArguments("--remove takes the whole limit away: leave --running and --rate out.")
        if changing:
            fields: dict[str, Any] = {"max_running": running, "rate": None if rate is None else rate_of_text(rate)}
            _set(key, queue, Rule() if remove else read_rule(fields))
    for name, rule in _listed(key, queue):
        click.echo(f"{name}: {rule.in_words() or 'no limit'}")


def _set(key: str | None, queue: str | None, rule: Rule) -> None:
    session = db.session()
    if queue is not None:
        done = control.set_queue_limits(session, queue, rule)
    elif rule == Rule():
        done = control.remove_limit(session, str(key))
    else:
        done = control.set_limit(session, _checked(str(key)), rule)
    if done:
        write_audit(session, "queue.limits" if queue else "limit.set", str(queue or key), rule.in_words() or "none")
        wake_relay(session)
    session.commit()


def _checked(key: str) -> str:
    if not 1 <= len(key) <= 255 or not key.isprintable():
        raise BadArguments("A key has 1 to 255 printable characters.")
    return key


def _listed(key: str | None, queue: str | None) -> list[tuple[str, Rule]]:
    """What was named, or everything that has a limit."""
    session = db.session()
    if key is not None:
        found = control.limit_of(session, key)
        return [(key, found.rule if found else Rule())]
    queues = [(depth.name, depth.rule) for depth in queries.queue_depths(session, QUEUES)]
    if queue is not None:
        return [entry for entry in queues if entry[0] == queue]
    limited = [(f"queue {name}", rule) for name, rule in queues if rule != Rule()]
    return limited + [(one.key, one.rule) for one in control.limits(session)]
