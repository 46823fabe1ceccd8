"""How the job core's threads start and stop with Celery's worker.

Order matters: the recorder is there before the first message and until the pool has reported its last attempt.
"""

import logging
import threading
import time
from typing import Any

from celery import bootsteps, current_app, signals
from sqlalchemy.exc import DBAPIError

from flaskapp.broker import topology, transports
from flaskapp.extensions import control_engine, core_session, db
from flaskapp.jobs import queries
from flaskapp.worker.heartbeat import Heartbeat, new_process_id
from flaskapp.worker.maintenance import Turn
from flaskapp.worker.recorder import Recorder

logger = logging.getLogger(__name__)

#: Without a beat for so long, workers take its turns.
_BEAT_MISSED_SECONDS = 10.0
_LOOK_FOR_BEAT_EVERY = 5.0
_EVERY_SECONDS = 1.0
_LOOK_FOR_LOST_CHILDREN_EVERY = 0.5


class JobCore(bootsteps.StartStopStep):
    """Recorder and heartbeat of one worker; stops before the pool does, and is finished after it."""

    requires = ("celery.worker.components:Pool",)

    def __init__(self, worker: Any, **options: Any) -> None:
        worker.recorder = None
        super().__init__(worker, **options)

    def create(self, worker: Any) -> "JobCore":
        app = worker.app
        engine = control_engine(app.settings.database_url)
        worker_id = new_process_id(worker.hostname)
        self.app, self.engine = app, engine
        self._look: Any = None
        # With `--autoscale` Celery's concurrency is what the machine has, and the pool grows up to another number.
        slots = worker.max_concurrency or worker.concurrency
        self.recorder = worker.recorder = Recorder(engine, worker_id, slots, app.relay.nudge)
        self.stand_in = StandIn(app, engine)
        self.heartbeat = Heartbeat(
            engine,
            worker_id,
            "worker",
            queues=",".join(app.amqp.queues.consume_from),
            concurrency=slots,
            tasks=list(app.tasks),
            holds=self.recorder.holds,
            unclaimed=self.recorder.unclaimed,
            pace=self.recorder.pace,
            take_away=self.recorder.take_away,
            every_beat=self.recorder.look_at_memory,
        )
        signals.worker_shutdown.connect(self._finish, sender=worker, weak=False)
        return self

    def start(self, worker: Any) -> None:
        self.recorder.start()
        self.heartbeat.start()
        self.stand_in.start()

    def register_with_event_loop(self, worker: Any, hub: Any) -> None:
        """Notice at once that a child was killed: Celery looks only every 5 s whether its last word still comes."""
        pool: Any = getattr(worker.pool, "_pool", None)
        if hasattr(pool, "maintain_pool"):
            if self._look is not None:
                # Called again for each broker connection.
                self._look.cancel()
            self._look = hub.call_repeatedly(_LOOK_FOR_LOST_CHILDREN_EVERY, pool.maintain_pool)

    def stop(self, worker: Any) -> None:
        self.recorder.begin_stop(self.app.settings.stop_seconds)

    def _finish(self, **_: Any) -> None:
        self.recorder.finish()
        self.heartbeat.stop()
        self.app.relay.stop()
        self.app.prober.stop()
        self.stand_in.stop()


class Attach(bootsteps.StartStopStep):
    """Tells the recorder about each new broker connection, before its first message."""

    requires = ("celery.worker.consumer.connection:Connection",)

    def start(self, consumer: Any) -> None:
        if transports.has_dead_letters(consumer.app.settings.broker_url):
            # What is rejected while its dead-letter exchange is missing is gone.
            topology.DEAD_QUEUE(consumer.connection.default_channel).declare()
        consumer.controller.recorder.attach(consumer)

    def stop(self, consumer: Any) -> None:
        consumer.controller.recorder.detach(consumer.ids_in_pool())


class Listen(bootsteps.StartStopStep):
    """Says from when to when messages can arrive: a worker that connects again is not idle."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def start(self, consumer: Any) -> None:
        consumer.controller.recorder.listening = True

    def stop(self, consumer: Any) -> None:
        consumer.controller.recorder.listening = False


class StandIn:
    """Takes beat's turns when no beat does, so that one missing process stops nothing.

    In a thread of its own: a turn may wait for locks longer than a lease, and the heartbeat must go on.
    """

    def __init__(self, app: Any, engine: Any) -> None:
        self._app, self._engine = app, engine
        self._turn = Turn(app, engine)
        self._looked_at = time.monotonic()
        self._dead_letters = app.make_dead_letters()
        self._missed = 0
        self._needed = False
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="stand-in", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def _run(self) -> None:
        while not self._end.wait(_EVERY_SECONDS):
            try:
                self.look()
            except DBAPIError as trouble:
                logger.warning("The database does not answer; the next look for a beat comes soon: %s", trouble.orig)
            except Exception:
                # Whatever it is, this thread must live: without a beat nothing else rescues jobs.
                logger.exception("A turn in beat's place failed")

    def look(self) -> None:
        """See whether a beat is there; else take its turn. Called each second."""
        if time.monotonic() - self._looked_at > _LOOK_FOR_BEAT_EVERY:
            self._looked_at = time.monotonic()
            with core_session(self._engine) as session:
                missed = not queries.live_workers(session, _BEAT_MISSED_SECONDS, kind="beat")
            # Twice in a row: a beat that is just being restarted, or stopped together with us, is not missing.
            self._missed = self._missed + 1 if missed else 0
            needed = self._missed >= 2
            if needed and not self._needed:
                logger.warning("No beat is running: this worker takes its turns. Start one with `celery beat`.")
                self._dead_letters.start()
            elif self._needed and not needed:
                self._dead_letters.stop()
            self._needed = needed
        if self._needed:
            self._turn.run()
            self._app.relay.nudge()

    def stop(self) -> None:
        self._end.set()
        if self._thread.is_alive():
            self._thread.join(2)
        self._dead_letters.stop()


@signals.worker_process_init.connect
def _forget_inherited_connections(**_: Any) -> None:
    """After a fork the parent's database connections are the parent's: forget them without closing."""
    app = current_app._get_current_object()
    if (flask_app := getattr(app, "flask_app", None)) is not None:
        with flask_app.app_context():
            db.engine.dispose(close=False)
