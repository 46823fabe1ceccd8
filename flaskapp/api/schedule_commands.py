"""`flask schedules …`: the rhythms from a shell, through SQL alone: no beat and no broker need be at hand."""

import click
from flask.cli import AppGroup

from flaskapp.accounts.audit import write_audit
from flaskapp.errors import BadSchedule
from flaskapp.extensions import db
from flaskapp.jobs import queries
from flaskapp.jobs import schedules as memory
from flaskapp.jobs.models import Schedule
from flaskapp.worker.sessions import let_jobs_leave

schedules = AppGroup("schedules", help="Look at schedules, run, pause and resume them, ask why one did not run.")
_COLUMNS = {"NAME": 28, "RHYTHM": 24, "LAST DUE": 19, "NEXT DUE": 19, "STANDING": 8}


@schedules.command("list")
def list_schedules() -> None:
    """Every schedule with its last and next due time (UTC)."""
    click.echo("  ".join(f"{title:<{width}}" for title, width in _COLUMNS.items()).rstrip())
    is_watched = memory.somebody_looks(db.session())
    for one in queries.schedules(db.session()):
        times = [f"{at:%Y-%m-%d %H:%M:%S}" if at else "-" for at in (one.last_time, one.next_time)]
        cells = (one.name, one.rhythm, *times, memory.standing(one, is_watched) or "")
        click.echo("  ".join(f"{cell:<{w}}" for cell, w in zip(cells, _COLUMNS.values(), strict=True)).rstrip())


@schedules.command("run")
@click.argument("name")
def run(name: str) -> None:
    """Submit its job now and print the job's id, alone; its due times stay what they are."""
    try:
        job_id, is_new = memory.run_now(db.session(), _schedule(name), None)
    except BadSchedule as refusal:
        raise click.ClickException(str(refusal)) from refusal
    _commit("schedule.run", name, is_new, job_id)
    click.echo(job_id)
    let_jobs_leave()


@schedules.command("pause")
@click.argument("name")
def pause(name: str) -> None:
    """Let it make no jobs until it is resumed."""
    _schedule(name)
    _commit("schedule.pause", name, memory.pause(db.session(), name, "the command line"))
    click.echo(f"Schedule {name} is paused.")


@schedules.command("resume")
@click.argument("name")
def resume(name: str) -> None:
    """Let it make jobs again, from now on."""
    _schedule(name)
    _commit("schedule.resume", name, memory.resume(db.session(), name))
    click.echo(f"Schedule {name} runs.")


@schedules.command("remove")
@click.argument("name")
def remove(name: str) -> None:
    """Forget a schedule whose entry is gone from the code."""
    _schedule(name)
    if not memory.remove(db.session(), name):
        raise click.ClickException(f"Schedule {name} stands in the code of a running beat. Take its entry out first.")
    _commit("schedule.remove", name)
    click.echo(f"Schedule {name} is removed.")


@schedules.command("why")
@click.argument("name")
@click.option("--limit", type=click.IntRange(1, memory.KEPT_FIRINGS), default=20, show_default=True)
def why(name: str, limit: int) -> None:
    """What became of its newest due times (UTC), newest first, and why it does not run now."""
    found = _schedule(name)
    standing = memory.standing(found, memory.somebody_looks(db.session()))
    click.echo(standing or f"Due next at {found.next_time:%Y-%m-%d %H:%M:%S}.")
    for firing in memory.history(db.session(), name, limit):
        until = f" to {firing.until_at:%Y-%m-%d %H:%M:%S}" if firing.until_at else ""
        job = f" Job {firing.job_id}" if firing.job_id else ""
        click.echo(f"{firing.due_at or firing.at:%Y-%m-%d %H:%M:%S}{until}  {memory.words(firing)}{job}")


def _commit(verb: str, name: str, is_changed: bool = True, detail: str = "") -> None:
    """What changes nothing leaves no line in the audit log."""
    if is_changed:
        write_audit(db.session(), verb, name, detail)
    db.session.commit()


def _schedule(name: str) -> Schedule:
    found = memory.schedule_by_name(db.session(), name)
    if found is None:
        raise click.ClickException(f"There is no schedule {name[:80]!r}. `flask schedules list` shows all.")
    return found
