"""`flask jobs verify`: says what it is going to do, shows how far it is, prints what came of it.

Exit code 0: nothing lost, doubled or failed, and every kill hit a running job. 1: not so, or interrupted. 2: it
could not be held. Data goes to standard output, what is only for the eye to standard error.
"""

import json
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from types import FrameType

import click
from flask import current_app
from flask.cli import with_appcontext

from flaskapp.config import Settings
from flaskapp.drill.report import table, write_report
from flaskapp.drill.run import CannotRun, Drill, Plan

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
#: Without a terminal a line of progress each time.
_LINE_EVERY_SECONDS = 10.0


@click.command("verify")
@click.option("--jobs", type=click.IntRange(1, 100_000), default=300, show_default=True, help="About how many.")
@click.option("--kills", type=click.IntRange(0, 1000), default=20, show_default=True, help="Each hits a running job.")
@click.option(
    "--seconds", type=click.FloatRange(5, 3000), default=300, show_default=True, help="What is not done then is lost."
)
@click.option(
    "--report", type=click.Path(dir_okay=False, path_type=Path), help="Left out: verify-TIME.html in instance/."
)
@click.option("--keep", is_flag=True, help="Leave the drill's jobs and effects for a look.")
@click.option("--json", "as_json", is_flag=True, help="One object on standard output.")
@with_appcontext
def verify(jobs: int, kills: int, seconds: float, report: Path | None, keep: bool, as_json: bool) -> None:
    """Prove on this installation that nothing is lost: kill a worker in mid-job, many times, and count."""
    app = current_app._get_current_object()  # type: ignore[attr-defined]
    settings: Settings = app.config["SETTINGS"]
    report = report or settings.instance_path / f"verify-{datetime.now():%Y%m%d-%H%M%S}.html"
    drill = Drill(app, Plan(jobs, kills, seconds, keep), Progress())
    click.echo(_announcement(drill), err=as_json)
    try:
        with _signals_end_it():
            counted = drill.run()
    except CannotRun as reason:
        click.echo(f"\r{reason}", err=True)
        sys.exit(2)
    except KeyboardInterrupt:
        drill.log.unlink(missing_ok=True)
        click.echo("\nStopped. The drill's worker, queue and jobs are gone; nothing was counted.", err=True)
        sys.exit(1)
    finally:
        # It also sends what others submit: what it has begun to send it finishes.
        app.extensions["celery"].relay.stop(10)
    write_report(report, counted, settings)
    if as_json:
        click.echo(json.dumps({**counted.as_json(), "report": str(report)}, indent=2))
    else:
        click.echo(table(counted))
        click.echo(f"\nReport: {report}")
    if counted.is_good:
        drill.log.unlink(missing_ok=True)
    else:
        click.echo(f"What the drill's worker said: {drill.log}", err=True)
    sys.exit(0 if counted.is_good else 1)


def _announcement(drill: Drill) -> str:
    plan = drill.plan
    about = 20 + 4 * plan.kills + 0.05 * plan.jobs + drill.lease_seconds
    return (
        f"About {plan.jobs} jobs go through the scratch queue {drill.queue} of this broker and database.\n"
        f"A worker of the drill's own runs them and is killed with -9 in mid-job {plan.kills} times. Other queues,\n"
        f"jobs and workers are not touched. It takes about {about:.0f} s, at most {plan.seconds:.0f} s."
    )


class Progress:
    """One line on standard error: renewed in place on a terminal, a new one now and then elsewhere."""

    def __init__(self) -> None:
        self._shown_at = 0.0
        self._in_place = sys.stderr.isatty()

    def __call__(self, drill: Drill) -> None:
        if time.monotonic() - self._shown_at < (0.2 if self._in_place else _LINE_EVERY_SECONDS):
            return
        self._shown_at = time.monotonic()
        look = drill.look
        line = (
            f"{drill.elapsed:4.0f} s  kills {drill.useful_kills} of {drill.plan.kills}  jobs {drill.work.jobs}  "
            f"done {look.done}  running {look.running}"
        )
        click.echo(f"\r{line:<78}" if self._in_place else line, nl=not self._in_place, err=True)


@contextmanager
def _signals_end_it() -> Iterator[None]:
    """The first signal ends the drill; none interrupts its cleaning up."""

    def end(_number: int, _frame: FrameType | None) -> None:
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    before = {number: signal.signal(number, end) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
