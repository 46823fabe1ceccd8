"""The first page: whether everything is accounted for, what waits, what happened in the last hour, what failed."""

from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from flask import render_template, request
from flask.typing import ResponseReturnValue

from flaskapp.console import charts, live
from flaskapp.console.blueprint import console
from flaskapp.console.doors import open_doors
from flaskapp.console.remember import remembered
from flaskapp.console.viewer import visible_owner
from flaskapp.extensions import db
from flaskapp.jobs import comparing, last_hour, queries
from flaskapp.jobs.queries import Account

#: Beat asks the broker every few seconds; an answer older than this means that one of the two is away.
_AWAY_SECONDS = 30


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
        "broker": None if owner is not None else _broker(),
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


class Broker(NamedTuple):
    """What beat last wrote down about the broker, for all queues together."""

    queued: int
    messages: int
    #: Empty until beat has asked.
    answered_at: datetime | None
    is_away: bool
    #: Of the queues that lost something at their last look within the hour.
    lost: int
    lost_ids: list[str]
    looked_at: datetime | None


def _broker() -> Broker:
    queues = remembered(comparing.compare)
    answered = [queue for queue in queues if queue.answered_ago is not None]
    newest = min(answered, key=lambda queue: queue.answered_ago or 0, default=None)
    hour_ago = datetime.now(UTC) - timedelta(hours=1)
    losers = [queue for queue in queues if queue.lost and queue.looked_at and queue.looked_at > hour_ago]
    return Broker(
        queued=sum(queue.queued for queue in queues),
        messages=sum(queue.messages or 0 for queue in queues),
        answered_at=newest.answered_at if newest else None,
        is_away=newest is not None and (newest.answered_ago or 0) > _AWAY_SECONDS,
        lost=sum(queue.lost for queue in losers),
        lost_ids=[job_id for queue in losers for job_id in queue.lost_ids],
        looked_at=max((queue.looked_at for queue in losers if queue.looked_at), default=None),
    )


def _mean_wait(hour: list[last_hour.Minute]) -> float | None:
    started = [minute for minute in hour if minute.mean_wait is not None]
    jobs = sum(minute.jobs for minute in started)
    return sum((minute.mean_wait or 0) * minute.jobs for minute in started) / jobs if jobs else None
