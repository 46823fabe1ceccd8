"""What RabbitMQ tells of its queues and nodes, read with suspicion: a field of the wrong kind counts as missing.

Versions differ in what they tell (3.10 knows nothing of what 4 added, and the other way round), so nothing is required.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode

from flaskapp.broker.management_http import Address, NoAnswer, Questions

#: Ours and many more; the rest of a very large broker is not looked at.
MOST_QUEUES = 500
_QUEUE_COLUMNS = (
    "name,type,state,consumers,messages_ready,messages_unacknowledged,"
    "message_stats.publish_details.rate,message_stats.ack_details.rate"
)
_NODE_COLUMNS = "name,running,mem_alarm,disk_free_alarm,mem_used,mem_limit,disk_free,disk_free_limit"
_WELL = {"running", "idle", "flow"}
_LARGEST = 2**53
#: Of queues, one by one; a page of hundreds would hide the queues themselves.
_MOST_ALARMS = 10


class QueueFigures(NamedTuple):
    ready: int | None
    unacked: int | None
    consumers: int | None
    state: str | None
    #: quorum, classic, stream.
    kind: str | None
    publish_per_second: float | None
    ack_per_second: float | None

    @property
    def is_well(self) -> bool:
        return self.state is None or self.state in _WELL


class NodeFigures(NamedTuple):
    name: str
    is_running: bool
    memory_alarm: bool
    disk_alarm: bool
    memory_used: int | None
    memory_limit: int | None
    disk_free: int | None
    disk_limit: int | None

    @property
    def alarms(self) -> list[str]:
        """Sentences; empty when all is well."""
        if not self.is_running:
            return [f"The node {self.name} is down."]
        found = []
        if self.memory_alarm:
            found.append(f"Memory alarm on {self.name}: the broker takes no messages. Work waits in SQL meanwhile.")
        if self.disk_alarm:
            found.append(f"Disk alarm on {self.name}: the broker takes no messages. Work waits in SQL meanwhile.")
        return found


@dataclass(frozen=True)
class Figures:
    """One look."""

    version: str | None
    queues: dict[str, QueueFigures]
    #: None: the account may see queues, but no nodes.
    nodes: tuple[NodeFigures, ...] | None
    #: There are more queues than were looked at.
    is_cut: bool = field(default=False)

    @property
    def alarms(self) -> list[str]:
        down = [f"The queue {name} is {one.state}." for name, one in self.queues.items() if not one.is_well]
        if len(down) > _MOST_ALARMS:
            down[_MOST_ALARMS:] = [f"{len(down) - _MOST_ALARMS} more queues are ill."]
        return [alarm for node in self.nodes or () for alarm in node.alarms] + down


def read(ask: Questions, address: Address, vhost: str) -> Figures:
    """Ask for everything; raises NoAnswer if even the queues cannot be had."""
    words = _Words(address)
    overview = _optional(ask, "/overview?columns=rabbitmq_version", (404,))
    version = words.text(_dictionary(overview).get("rabbitmq_version"), 30)
    # An account with the tag `management` may see its queues, but no nodes.
    nodes = _optional(ask, f"/nodes?columns={_NODE_COLUMNS}", (401, 403, 404))
    rows, is_cut = _queue_rows(ask, vhost)
    queues = {name: _queue(row, words) for row in rows if (name := words.text(row.get("name")))}
    found = [_node(_dictionary(row), words) for row in nodes[:50]] if isinstance(nodes, list) else None
    return Figures(version, queues, None if found is None else tuple(found), is_cut)


def _optional(ask: Questions, path: str, missing: tuple[int, ...]) -> Any:
    """None where this account may not look, or this version has nothing."""
    try:
        return ask.get(path)
    except NoAnswer as refusal:
        if refusal.status in missing:
            return None
        raise


def _queue_rows(ask: Questions, vhost: str) -> tuple[list[dict[str, Any]], bool]:
    path = f"/queues/{quote(vhost, safe='')}"
    paged = urlencode({"page": 1, "page_size": MOST_QUEUES, "columns": _QUEUE_COLUMNS})
    try:
        answer = ask.get(f"{path}?{paged}")
    except NoAnswer as refusal:
        if refusal.status in (401, 403):
            # Its password was right a moment ago.
            sentence = "its account may not look at this virtual host; give it permissions there, empty ones are enough"
            raise NoAnswer(f"{sentence} ({refusal.status})", refusal.status) from None
        if refusal.status == 404:
            raise NoAnswer("it has no such virtual host (404)", 404) from None
        if refusal.status != 400:
            raise
        # It knows no pages.
        answer = ask.get(f"{path}?{urlencode({'columns': _QUEUE_COLUMNS})}")
    rows = answer if isinstance(answer, list) else _dictionary(answer).get("items")
    if not isinstance(rows, list):
        raise NoAnswer("it answers nonsense")
    total = _count(_dictionary(answer).get("total_count")) or len(rows)
    return [_dictionary(row) for row in rows[:MOST_QUEUES]], total > MOST_QUEUES


def _queue(row: dict[str, Any], words: "_Words") -> QueueFigures:
    stats = _dictionary(row.get("message_stats"))
    return QueueFigures(
        ready=_count(row.get("messages_ready")),
        unacked=_count(row.get("messages_unacknowledged")),
        consumers=_count(row.get("consumers")),
        state=words.text(row.get("state"), 30),
        kind=words.text(row.get("type"), 30),
        publish_per_second=_rate(_dictionary(stats.get("publish_details")).get("rate")),
        ack_per_second=_rate(_dictionary(stats.get("ack_details")).get("rate")),
    )


def _node(row: dict[str, Any], words: "_Words") -> NodeFigures:
    numbers = ("mem_used", "mem_limit", "disk_free", "disk_free_limit")
    return NodeFigures(
        words.text(row.get("name")) or "without a name",
        row.get("running") is not False,
        row.get("mem_alarm") is True,
        row.get("disk_free_alarm") is True,
        *(_count(row.get(name)) for name in numbers),
    )


class _Words:
    """Texts of the server, as far as they may be shown."""

    def __init__(self, address: Address) -> None:
        self._is_secret: Callable[[str], bool] = address.is_secret

    def text(self, value: Any, longest: int = 255) -> str | None:
        is_plain = isinstance(value, str) and 0 < len(value) <= longest and value.isprintable()
        return value if is_plain and not self._is_secret(value) else None


def _dictionary(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _LARGEST else None


def _rate(value: Any) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and 0 <= value < _LARGEST else None
