"""`flask queues …`: the queues from a shell, through SQL; the broker's own figures beside it where they can be had."""

from collections.abc import Callable

import click
from flask.cli import AppGroup
from sqlalchemy.orm import Session

from flaskapp.accounts.audit import write_audit
from flaskapp.api.broker_view import management
from flaskapp.broker.management import WHOLE_SECONDS
from flaskapp.extensions import db
from flaskapp.jobs import control, queries
from flaskapp.jobs.models import QUEUES
from flaskapp.jobs.queries import QueueDepth
from flaskapp.worker.sessions import let_jobs_leave, wake_relay

queues = AppGroup("queues", help="Look at queues, pause, drain and resume them.")
_COLUMNS = {
    "NAME": 16,
    "WAITING": 8,
    "QUEUED": 8,
    "RUNNING": 8,
    "READY": 8,
    "UNACKED": 8,
    "CONSUMERS": 10,
    "STANDING": 8,
}


@queues.command("list")
def list_queues() -> None:
    """Every queue: jobs by SQL, then messages and consumers by RabbitMQ (- where it cannot tell)."""
    broker = management()
    view = broker.view(patience=WHOLE_SECONDS + 1) if broker else None
    click.echo("  ".join(f"{title:<{width}}" for title, width in _COLUMNS.items()).rstrip())
    for one in queries.queue_depths(db.session(), QUEUES):
        at = view.queue(one.name) if view else None
        figures = (at.ready, at.unacked, at.consumers) if at else (None, None, None)
        counts = ("-" if figure is None else str(figure) for figure in (one.waiting, one.queued, one.running, *figures))
        cells = zip((one.name, *counts, _standing(one)), _COLUMNS.values(), strict=True)
        click.echo("  ".join(f"{cell:<{width}}" for cell, width in cells).rstrip())
    if view:
        for sentence in view.alarms:
            click.echo(sentence, err=True)
        if view.trouble:
            click.echo(f"RabbitMQ's own figures cannot be had: {view.trouble}.", err=True)


def _standing(depth: QueueDepth) -> str:
    if depth.paused_at:
        return "paused"
    return "drained" if depth.is_drained else "draining" if depth.draining_at else "running"


@queues.command("pause")
@click.argument("name")
def pause(name: str) -> None:
    """Start no more of its jobs; running ones finish."""
    _steer(name, "queue.pause", control.pause_queue)
    click.echo(f"Queue {name} is paused.")


@queues.command("drain")
@click.argument("name")
def drain(name: str) -> None:
    """Let what is at the broker finish and send nothing more there; new work is accepted and waits."""
    _steer(name, "queue.drain", control.drain_queue)
    click.echo(f"Queue {name} is draining.")


@queues.command("resume")
@click.argument("name")
def resume(name: str) -> None:
    """Send and start its jobs again."""
    _steer(name, "queue.resume", control.resume_queue)
    click.echo(f"Queue {name} runs.")
    let_jobs_leave()


def _steer(name: str, action: str, change: Callable[[Session, str], bool]) -> None:
    session = db.session()
    if name not in {depth.name for depth in queries.queue_depths(session, QUEUES)}:
        raise click.ClickException(f"There is no queue {name[:64]!r}. `flask queues list` shows all.")
    if change(session, name):
        write_audit(session, action, name)
        wake_relay(session)
    session.commit()
