"""A canvas call is one transaction: what chain, group and chord submit is written together, or not at all.

Celery sends a canvas piece by piece. Here the pieces are kept until the outermost call has made them all; then the
application writes them, in the caller's session or in a transaction of their own.
A chord's body is sent before it can run, with a mark where the results will stand: as parked rows, whatever it is.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from functools import wraps
from typing import Any

from celery.canvas import _chain, _chord, group, maybe_signature
from celery.result import GroupResult, result_from_tuple
from kombu.utils.json import dumps, loads

from flaskapp.errors import BadArguments
from flaskapp.jobs.joining import NewJoin, Tree, results_mark
from flaskapp.jobs.lifecycle import new_job_id
from flaskapp.jobs.outcomes import Wish

_current: ContextVar["CanvasCall | None"] = ContextVar("canvas call", default=None)


@dataclass
class CanvasCall:
    """What one outermost call has asked for so far."""

    wishes: list[Wish] = field(default_factory=list)
    joins: list[NewJoin] = field(default_factory=list)
    #: Inside a chord's body: the ids of the jobs that wait for its join.
    bodies: list[str] | None = None

    def add(self, wish: Wish) -> str:
        """Keep it for the end of the call; answers its id."""
        if wish.unique_key is not None and (wish.counts_for is not None or self.bodies is not None):
            # Answered with another job, it would leave its join waiting for ever.
            raise BadArguments(
                "A chord's members and body cannot have a unique_key; give it to the task that sends it."
            )
        wish = replace(wish, job_id=wish.job_id or new_job_id())
        if self.bodies is not None:
            wish = parked(wish)
            self.bodies.append(str(wish.job_id))
        self.wishes.append(wish)
        return str(wish.job_id)

    def in_one_tree(self) -> list[Wish]:
        """Its jobs, each in the tree of the first one that can run, as the steps of a chain are."""
        root = next((wish.job_id for wish in self.wishes if not wish.parked), None)
        return [
            replace(wish, root_id=root) if wish.root_id is None and wish.job_id != root else wish
            for wish in self.wishes
        ]


def current_call() -> CanvasCall | None:
    return _current.get()


@contextmanager
def canvas_call(write: Callable[[CanvasCall], object]) -> Iterator[CanvasCall]:
    """The call that is under way, or a new one that ends with `write`."""
    outer = _current.get()
    if outer is not None:
        yield outer
        return
    call = CanvasCall()
    token = _current.set(call)
    try:
        yield call
    finally:
        _current.reset(token)
    write(call)


def add_chord(call: CanvasCall, group_id: str, members: Any, body: Any) -> None:
    """The join of `members`, and the parked jobs of `body`, which becomes due with it."""
    outer, call.bodies = call.bodies, []
    try:
        body.apply_async((results_mark(group_id),))
        bodies = call.bodies
    finally:
        call.bodies = outer
    # After those inside the body, which follow it: joins are locked from the newest back.
    call.joins.append(NewJoin(group_id, tree_of(members), bodies))


def tree_of(results: Any) -> Tree:
    """The job ids of Celery's results, groups as lists."""
    return [tree_of(result.results) if isinstance(result, GroupResult) else str(result.id) for result in results]


def join_of_a_stranger(self: Any, group_id: str, callback: Any, *_: Any, result: Any = None, **__: Any) -> None:
    """Another Celery's polling task: it names the chord's members and its body, so it becomes a join, and polls not."""
    members = [result_from_tuple(member, app=self.app) for member in result or []]
    with self.app.canvas_call() as call:
        add_chord(call, group_id, members, maybe_signature(callback, app=self.app))


def parked(wish: Wish) -> Wish:
    """It becomes due with its join; from then on its countdown and its expiry are counted, not from now."""
    release: dict[str, Any] = {"delay": wish.delay_seconds}
    if wish.run_at is not None:
        release["eta"] = wish.run_at.isoformat()
    if wish.expires_seconds is not None:
        release["expires"] = wish.expires_seconds
        wish = replace(wish, expires_seconds=None)
    kept = {name: value for name, value in release.items() if value is not None}
    if kept:
        wish = replace(wish, options=str(dumps({**loads(wish.options), "release": kept})))
    # Its parent is the member that will have made it due.
    return replace(wish, parked=True, parent_id=None, delay_seconds=None, run_at=None)


def _kept_together(apply_async: Any) -> Any:
    @wraps(apply_async)
    def call(self: Any, *args: Any, **options: Any) -> Any:
        app = self.app
        if not hasattr(app, "canvas_call") or app.conf.task_always_eager:
            return apply_async(self, *args, **options)
        with app.canvas_call():
            return apply_async(self, *args, **options)

    return call


# Celery has no hook around a whole call. Applications that are not ours pass through.
for _kind in (_chain, group, _chord):
    _kind.apply_async = _kept_together(_kind.apply_async)
