"""`flask jobs letters` and `flask jobs replay`: the dead letters from a shell."""

import json

import click

from flaskapp.accounts.audit import write_audit
from flaskapp.api import wishes
from flaskapp.api.commands import jobs
from flaskapp.api.letters import letter_shape
from flaskapp.errors import NotReplayable
from flaskapp.extensions import db
from flaskapp.jobs import letters
from flaskapp.worker.replay import replay
from flaskapp.worker.sessions import let_jobs_leave

_COLUMNS = {"ID": 6, "AT": 19, "REASON": 14, "QUEUE": 10, "TASK": 28, "BYTES": 9, "REPLAYED": 8}


@jobs.command("letters")
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="A JSON list, as the API shows them.")
def list_letters(limit: int, as_json: bool) -> None:
    """The newest messages that could not be delivered as jobs."""
    page = letters.newest(db.session(), limit)
    if as_json:
        tasks = wishes.celery_app().tasks
        click.echo(json.dumps([letter_shape(one.letter, one.beginning, tasks) for one in page], indent=2))
        return
    click.echo("  ".join(f"{title:<{width}}" for title, width in _COLUMNS.items()).rstrip())
    for one in page:
        letter = one.letter
        at = letter.at.strftime("%Y-%m-%d %H:%M:%S")
        replayed = "yes" if letter.replayed_at else "no"
        cells = (letter.id, at, letter.reason, letter.queue or "", letter.task or "", letter.size, replayed)
        printable = ["".join(c if c.isprintable() else "?" for c in str(cell)) for cell in cells]
        click.echo("  ".join(f"{c:<{w}}" for c, w in zip(printable, _COLUMNS.values(), strict=True)).rstrip())


@jobs.command("replay")
@click.argument("letter_id", type=click.IntRange(0, 2**31 - 1))
def replay_letter(letter_id: int) -> None:
    """Make dead letter ID a job again, and print the job's id, alone."""
    try:
        letter = replay(db.session(), letter_id, "(command line)")
    except NotReplayable as refusal:
        raise click.ClickException(str(refusal)) from refusal
    if letter is None:
        raise click.ClickException(f"There is no dead letter {letter_id}. `flask jobs letters` shows the newest.")
    job_id = letter.job_id
    write_audit(db.session(), "letter.replay", str(letter_id), f"job {job_id}", account="(command line)")
    db.session.commit()
    click.echo(job_id)
    let_jobs_leave()
