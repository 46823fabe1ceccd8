"""Celery's front door, and the one choke point: `send_task` writes a job row instead of talking to the broker.

`delay`, `apply_async`, canvas, links and schedules all end here. Inside an application context the row joins
`db.session` and the caller's commit decides; outside one it is committed at once.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime
from functools import cached_property, partial
from typing import Any

from celery import Celery, Task
from celery.utils.functional import maybe_list
from celery.utils.time import maybe_iso8601, maybe_make_aware
from flask import Flask, g, has_app_context
from kombu.utils.json import dumps

from flaskapp.broker import topology, transports
from flaskapp.broker.dead_letters import DeadLetters
from flaskapp.broker.outbox import Relay
from flaskapp.broker.probes import Prober
from flaskapp.config import Settings
from flaskapp.errors import BadArguments
from flaskapp.extensions import db
from flaskapp.jobs import lifecycle
from flaskapp.jobs.changes import SUBMITTED
from flaskapp.jobs.joining import NewJoin
from flaskapp.jobs.models import QUEUES
from flaskapp.jobs.outcomes import RetryLater, Wish
from flaskapp.worker import checks
from flaskapp.worker.attempt import RunningAttempt, current_attempt
from flaskapp.worker.canvas import CanvasCall, canvas_call, current_call, join_of_a_stranger, parked
from flaskapp.worker.steps import Attach, JobCore, Listen


class Offload(Celery):
    """A Celery application whose tasks become rows of the job table."""

    task_cls = "flaskapp.worker.job_task:JobTask"
    control_cls = "flaskapp.worker.remote_control:SqlControl"
    amqp_cls = "flaskapp.worker.queues:JobAMQP"
    flask_app: Flask
    settings: Settings
    relay: Relay
    prober: Prober

    @cached_property
    def AsyncResult(self) -> Any:
        return self.subclass_with_self("flaskapp.worker.result_backend:JobResult")

    def make_relay(self, poll_seconds: float | None = None) -> Relay:
        return Relay(self.settings.database_url, self.settings.broker_url, poll_seconds)

    def make_dead_letters(self) -> DeadLetters:
        return DeadLetters(self.settings.database_url, self.settings.broker_url)

    def queue_of(self, task: str, options: dict[str, Any]) -> str:
        """The queue that Celery's routing gives a task."""
        queue = self.amqp.router.route(dict(options), task).get("queue")
        return str(getattr(queue, "name", queue) or "default")

    def send_task(
        self,
        name: str,
        args: Any = None,
        kwargs: Any = None,
        *,
        task_id: str | None = None,
        add_to_parent: bool = True,
        result_cls: Any = None,
        **options: Any,
    ) -> Any:
        """Write the job's row and answer its AsyncResult.

        Beyond Celery's options: `unique_key` (a live job with the same key is answered instead), `limit_key` (jobs
        with the same key share a limit), `max_attempts`, `owner` (else the running job's, else the signed-in
        account's). Raises BadArguments for what cannot be a job.
        """
        attempt, call = current_attempt(), current_call()
        if attempt is not None and task_id == attempt.claimed.job_id:
            # retry() and replace(): the running job sends itself again. Noted now, written when it is settled.
            attempt.again = self._again(attempt, name, args, kwargs, options)
            return (result_cls or self.AsyncResult)(task_id)
        wish = self.wish(name, args, kwargs, options, task_id)
        job_id = call.add(wish) if call is not None else self._write([wish])[0]
        result = (result_cls or self.AsyncResult)(job_id)
        result.ignored = wish.ignore_result
        if add_to_parent and (parent := self.current_worker_task) is not None:
            parent.add_trail(result)
        return result

    def send_many(self, requests: Sequence[tuple[str, Any, Any, dict[str, Any]]]) -> list[str]:
        """Many send_task at once, in `db.session`: (name, args, kwargs, options) each; answers the job ids in order.

        All rows are made before the first is written, so that SQLite's one writer is held for a moment only.
        """
        return self._write([self.wish(name, args, kwargs, options) for name, args, kwargs, options in requests])

    def canvas_call(self) -> AbstractContextManager[CanvasCall]:
        """What is sent inside is written at its end, in one transaction."""
        return canvas_call(lambda call: self._write(call.in_one_tree(), call.joins))

    def producer_or_acquire(self, producer: Any = None) -> AbstractContextManager[Any]:
        """Celery takes one for every group; nothing here publishes."""
        return nullcontext(producer)

    def _write(self, wishes: Sequence[Wish], joins: Sequence[NewJoin] = ()) -> list[str]:
        if not wishes and not joins:
            return []
        if not has_app_context():
            with self.flask_app.app_context():
                job_ids = self._write(wishes, joins)
                # The session nudges the outbox, once.
                db.session.commit()
                return job_ids
        session = db.session()
        job_ids = lifecycle.submit(session, wishes)
        lifecycle.open_joins(session, joins)
        if (attempt := current_attempt()) is not None:
            attempt.submitted.extend(job_ids)
        session.info.setdefault(SUBMITTED, []).extend(job_ids)
        return job_ids

    def wish(self, name: str, args: Any, kwargs: Any, options: dict[str, Any], task_id: str | None = None) -> Wish:
        """What send_task would write; raises BadArguments for what cannot be a job."""
        if not isinstance(args or (), list | tuple):
            raise BadArguments(f"The arguments of {name} must be a list, not {type(args).__name__}.")
        if not isinstance(kwargs or {}, dict):
            raise BadArguments(f"The keyword arguments of {name} must be a mapping, not {type(kwargs).__name__}.")
        task: Task[Any, Any] | None = self.tasks.get(name)
        options = {**_defaults_of(task), **options}
        attempts, countdown = options.get("max_attempts"), options.get("countdown")
        expires, expires_seconds = options.get("expires"), None
        if isinstance(expires, int | float):
            expires, expires_seconds = None, checks.seconds("time until it expires", expires)
        parent = current_attempt()
        request = self.current_worker_task.request if self.current_worker_task else None
        parent_id = options.get("parent_id") or (request.id if request else None)
        root_id = options.get("root_id") or (request.root_id or request.id if request else None)
        wish = Wish(
            task=name,
            args=checks.json_text(f"The arguments of {name}", list(args or ())),
            kwargs=checks.json_text(f"The keyword arguments of {name}", kwargs or {}),
            queue=self.queue_of(name, {k: options[k] for k in ("queue",) if options.get(k)}),
            options=_travelling_options(options),
            job_id=None if task_id is None else str(task_id),
            priority=checks.whole_number("priority", options.get("priority") or 0, -checks.MOST),
            owner=options.get("owner") or (parent.claimed.owner if parent else _signed_in()),
            run_at=self._moment(options.get("eta")),
            delay_seconds=None if countdown is None else checks.seconds("countdown", countdown),
            expires_at=self._moment(expires),
            expires_seconds=expires_seconds,
            unique_key=_key(options.get("unique_key")),
            limit_key=_key(options.get("limit_key")),
            max_retries=None if attempts is None else checks.whole_number("max_attempts", attempts, 1) - 1,
            retries=int(options.get("retries") or 0),
            time_limit=options.get("time_limit"),
            soft_time_limit=options.get("soft_time_limit"),
            ignore_result=bool(options.get("ignore_result")),
            root_id=root_id,
            parent_id=parent_id,
            group_id=options.get("group_id"),
            # A chord's member; the group is its header's.
            counts_for=options.get("group_id") if options.get("chord") else None,
        )
        return checks.checked(wish)

    def _again(self, attempt: RunningAttempt, name: str, args: Any, kwargs: Any, options: dict[str, Any]) -> RetryLater:
        wish = self.wish(name, args, kwargs, options, attempt.claimed.job_id)
        call = current_call()
        if is_body := call is not None and call.bodies is not None:
            # Replaced by a chord, of which it is the body now.
            call.bodies.append(attempt.claimed.job_id)
            wish = parked(wish)
        changes: dict[str, Any] = {
            "task": wish.task,
            "args": wish.args,
            "kwargs": wish.kwargs,
            "options": wish.options,
            "retries": wish.retries,
        }
        own = {"queue": wish.queue, "priority": wish.priority, "expires_at": wish.expiry}
        own |= {"limit_key": wish.limit_key, "time_limit": wish.time_limit, "soft_time_limit": wish.soft_time_limit}
        if attempt.replacing:
            # Another task brings its own; it keeps its caller's priority and times unless it names others.
            running = self.current_worker_task
            named = {"limit_key"} | ({"queue"} if running is None or running.name != name else set())
            named |= {each for each in own if options.get(_OPTION.get(each, each)) is not None}
            if options.get("priority") == _defaults_of(self.tasks.get(name)).get("priority"):
                named.discard("priority")
        else:
            # A retry stays as its caller chose it: what Celery adds is the message's, or the task's own.
            named = {each for each in own if _OPTION.get(each, each) in attempt.asked_by_retry}
        changes |= {each: value for each, value in own.items() if each in named}
        return RetryLater(attempt.claimed, None, wish.delay_seconds or 0, wish.run_at, is_body, changes)

    def _moment(self, when: Any) -> datetime | None:
        """An eta or expiry as Celery takes it: a datetime or ISO 8601 text."""
        if when is None:
            return None
        try:
            moment: datetime = maybe_make_aware(maybe_iso8601(when), tz=self.timezone)
            return moment.astimezone(UTC)
        except (ValueError, TypeError, AttributeError, OverflowError) as problem:
            raise BadArguments(f"{when!r} is not a time. Write e.g. 2027-01-31T08:00:00+00:00.") from problem


def make_celery(app: Flask) -> Offload:
    """The Celery application of this Flask application."""
    settings: Settings = app.config["SETTINGS"]
    celery = Offload("flaskapp", set_as_current=True)
    # "Current" is one thread's; `delay()` in a web server's other threads asks for the default.
    celery.set_default()
    celery.flask_app = app
    celery.settings = settings
    celery.conf.update(
        broker_url=settings.broker_url,
        broker_transport_options=transports.options(settings.broker_url),
        broker_connection_timeout=transports.CONNECT_SECONDS,
        broker_connection_retry_on_startup=True,
        # However long the broker is away: a worker that gives up would have to be started by hand.
        broker_connection_max_retries=None,
        # RabbitMQ closes only the channel when a virtual host goes or a right is taken: Celery's worker would end.
        broker_channel_error_retry=True,
        broker_pool_acquire_timeout=transports.CONNECT_SECONDS,
        result_backend="flaskapp.worker.result_backend:JobBackend",
        # Celery would add its own clean-up entry; jobs are pruned with their results.
        result_expires=None,
        task_queues=topology.WORK_QUEUES,
        task_default_queue="default",
        task_default_exchange=topology.EXCHANGE.name,
        task_default_exchange_type=topology.EXCHANGE.type,
        task_default_routing_key="default",
        # A subject's tasks go to the queue of its name.
        task_routes={f"{name}.*": {"queue": name} for name in QUEUES if name != "default"},
        task_serializer="json",
        result_serializer="json",
        accept_content=["json"],
        # The recorder acknowledges, once the claim is committed.
        task_acks_late=True,
        worker_prefetch_multiplier=1,
        # After a lost connection Celery would move the limit step by step, behind worker/prefetch.py.
        worker_enable_prefetch_count_reduction=False,
        # The recorder counts the slots. The pool's own lock would block it, and what the pool has to tell it.
        worker_pool_putlocks=False,
        worker_consumer="flaskapp.worker.consumer:JobConsumer",
        worker_cancel_long_running_tasks_on_connection_loss=False,
        worker_enable_remote_control=transports.has_remote_control(settings.broker_url),
        worker_send_task_events=False,
        beat_scheduler="flaskapp.worker.scheduler:SqlScheduler",
        beat_max_loop_interval=1,
        timezone=settings.timezone,
        task_track_started=False,
        # How long a result may still arrive from a pool child that is gone.
        worker_lost_wait=0.5,
    )
    celery.on_after_finalize.connect(_take_over_unlocking, weak=False)
    celery.steps["worker"].add(JobCore)
    celery.steps["consumer"].add(Attach)
    celery.steps["consumer"].add(Listen)
    celery.relay = celery.make_relay()
    celery.prober = Prober(settings.database_url, settings.broker_url)
    return celery


#: Where a column and the option of apply_async that fills it differ in name.
_OPTION = {"expires_at": "expires"}


def _take_over_unlocking(sender: Celery, **_: Any) -> None:
    """Celery's polling task: we never send it, but others do."""
    task = sender._tasks["celery.chord_unlock"]
    task.run = partial(join_of_a_stranger, task)


def _defaults_of(task: Any) -> dict[str, Any]:
    """What the task's own class says about how it is sent."""
    if task is None:
        return {}
    options = {**task._get_exec_options(), "limit_key": getattr(task, "limit_key", None)}
    return {name: value for name, value in options.items() if value is not None}


def _key(value: Any) -> str | None:
    return None if value in (None, "") else str(value)


def _travelling_options(options: dict[str, Any]) -> str:
    """What only the message carries: JSON with `headers` and `embed`, each without its empty fields."""
    stamps = {name: options[name] for name in options.get("stamped_headers") or () if name in options}
    headers = {
        "shadow": options.get("shadow"),
        "group": options.get("group_id"),
        "group_index": options.get("group_index"),
        "replaced_task_nesting": options.get("replaced_task_nesting") or None,
        "stamped_headers": options.get("stamped_headers") or None,
        "stamps": stamps or None,
        **(options.get("headers") or {}),
    }
    embed = {
        "callbacks": _signatures(options.get("link")),
        "errbacks": _signatures(options.get("link_error")),
        "chain": options.get("chain"),
        "chord": _short(options.get("chord")),
    }
    kept = {"headers": headers, "embed": embed}
    return str(dumps({part: {k: v for k, v in fields.items() if v is not None} for part, fields in kept.items()}))


def _short(chord: Any) -> dict[str, Any] | None:
    """The join knows its body: a member only has to know that it is one, not to carry a copy of it."""
    if not chord:
        return None
    options = {name: chord["options"][name] for name in ("task_id",) if name in chord["options"]}
    return {"task": chord["task"], "args": [], "kwargs": {}, "options": options, "subtask_type": None}


def _signatures(links: Any) -> list[Any] | None:
    return maybe_list(links) or None


def _signed_in() -> str | None:
    """The account that asks, set by flaskapp/accounts on every request."""
    return g.get("job_owner") if has_app_context() else None
