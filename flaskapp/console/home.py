"""The first page: whether everything is accounted for, what waits, what happened in the last hour, what failed."""

from typing import Any

from flask import render_template, request
from flask.typing import ResponseReturnValue

from flaskapp.console import charts, live
from flaskapp.console.blueprint import console
from flaskapp.console.doors import open_doors
from flaskapp.console.remember import remembered
from flaskapp.console.viewer import visible_owner
from flaskapp.extensions import db
from flaskapp.jobs import last_hour, queries
from flaskapp.jobs.queries import Account


@console.get("/")
def home() -> ResponseReturnValue:
    if request.args.get("part") == "figures":
        return live.fragment(lambda: render_template("console/_home.html", **_figures()))
    return render_template("console/home.html", **_figures())


def _figures() -> dict[str, Any]:
    owner = visible_owner()
    account = _account(owner)
    hour = remembered(last_hour.minutes, charts.MINUTES, owner)
    return {
        "account": account,
        "is_whole": owner is None,
        "segments": charts.stacked_bar(account.states),
        "oldest": queries.oldest_due(db.session(), owner),
        "doors": open_doors(owner),
        "ended": sum(minute.jobs for minute in hour),
        "failed": sum(minute.jobs for minute in hour if minute.state == "failed"),
        "throughput": charts.throughput(hour),
        "waiting": charts.waiting_time(hour),
        "mean_wait": _mean_wait(hour),
        "failures": remembered(queries.failures_by_message, owner),
        "unfinished": any(account.states[state] for state in ("waiting", "queued", "running")),
    }


def _account(owner: str | None) -> Account:
    """A viewer's own jobs balance by themselves: only the whole table can show a drift."""
    if owner is None:
        return remembered(queries.account)
    states = remembered(queries.count_by_state, owner)
    return Account(sum(states.values()), 0, states)


def _mean_wait(hour: list[last_hour.Minute]) -> float | None:
    started = [minute for minute in hour if minute.mean_wait is not None]
    jobs = sum(minute.jobs for minute in started)
    return sum((minute.mean_wait or 0) * minute.jobs for minute in started) / jobs if jobs else None
