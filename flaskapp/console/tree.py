"""A workflow as a person would draw it: steps under the step that asked for them, members under their join.

Built from the rows of `jobs/relatives.py` and nothing else, so what is not shown is only missing, never guessed.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from flaskapp.extensions import db
from flaskapp.jobs.joining import leaves
from flaskapp.jobs.models import Job, Join
from flaskapp.jobs.relatives import MOST_COUNTED, Relatives, has_relatives, relatives

#: So many rows of a workflow are shown.
MOST_SHOWN = 100


@dataclass
class Node:
    """One job, or one join."""

    id: str
    job: Job | None = None
    join: Join | None = None
    #: What it asked for, or the members of the join.
    parts: list["Node"] = field(default_factory=list)
    #: What becomes due with the join.
    then: list["Node"] = field(default_factory=list)
    above: "Node | None" = None
    #: Its place among the members of a join.
    rank: int = 0
    #: The only thing that the step before it asked for: drawn after it, not under it.
    follows: bool = False

    def path(self) -> Iterator["Node"]:
        """Itself, and all above it; a stranger's rows may lead in a circle."""
        node: Node | None = self
        seen: set[int] = set()
        while node is not None and id(node) not in seen:
            seen.add(id(node))
            yield node
            node = node.above

    @property
    def done(self) -> int:
        return self.join.total - self.join.missing if self.join is not None else 0


@dataclass(frozen=True)
class Tree:
    nodes: Sequence[Node]
    shown: int
    total: int

    @property
    def is_cut(self) -> bool:
        return self.total >= MOST_COUNTED


def tree_of(job: Job, owner: str | None) -> Tree | None:
    """None for a job that stands alone."""
    if not has_relatives(db.session(), job):
        return None
    found = relatives(db.session(), job, owner, MOST_SHOWN)
    return Tree(_drawn(found), len(found.jobs), found.total) if found.total > 1 else None


def _drawn(found: Relatives) -> list[Node]:
    jobs = {job.id: Node(job.id, job=job) for job in found.jobs}
    joins = [Node(join.id, join=join) for join in found.joins]
    for node in jobs.values():
        above = jobs.get(node.job.parent_id or "") if node.job is not None else None
        if above is not None and node not in above.path():
            node.above = above
    bodies: dict[str, Node] = {}
    for join in joins:
        for job_id in json.loads(join.join.bodies) if join.join is not None else []:
            if job_id in jobs:
                bodies[job_id] = jobs[job_id].above = join
    for join in joins:
        _place(join, [jobs[job_id] for job_id in _members(join) if job_id in jobs])
    top: list[Node] = []
    for node in [*jobs.values(), *joins]:
        if node.above is None:
            top.append(node)
        else:
            (node.above.then if bodies.get(node.id) is node.above else node.above.parts).append(node)
    for join in joins:
        join.parts.sort(key=lambda node: node.rank)
    for node in [*jobs.values(), *joins]:
        if node.join is not None:
            node.parts, node.then = _in_line(node.parts), _in_line(node.then)
        elif len(node.parts) > 1:
            node.parts = _in_line(node.parts)
    return _in_line(top)


def _in_line(nodes: list[Node]) -> list[Node]:
    """A chain of a hundred steps is a list, not a staircase."""
    line: list[Node] = []
    for node in nodes:
        line.append(node)
        while node.job is not None and len(node.parts) == 1:
            (following,), node.parts = node.parts, []
            following.follows = True
            line.append(following)
            node = following
    return line


def _members(join: Node) -> Iterator[str]:
    yield from leaves(json.loads(join.join.members)) if join.join is not None else ()


def _place(join: Node, members: list[Node]) -> None:
    """Under what all its members have above them; they, or what leads to them, go under the join."""
    paths = [list(member.path()) for member in members]
    if not paths:
        return
    common = [node for node in paths[0][1:] if all(node in path[1:] for path in paths[1:])]
    anchor = common[0] if common else None
    if anchor is join or (anchor is not None and join in anchor.path()):
        return
    join.above = anchor
    for rank, path in reversed(list(enumerate(paths))):
        highest = path[path.index(anchor) - 1] if anchor in path else path[-1]
        if highest is not join:
            highest.above, highest.rank = join, rank
