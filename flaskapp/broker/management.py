"""RabbitMQ's own view of itself, for pages: never waited for, a few seconds old at most while all is well.

One thread of the process asks, only while somebody looks; all others get what was read last, its age, and why there is
nothing newer. The account stays in here: neither a view nor a log line holds it.
"""

import logging
import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import quote

from flaskapp.broker import transports
from flaskapp.broker.figures import Figures, QueueFigures, read
from flaskapp.broker.management_http import Address, NoAnswer, questions

logger = logging.getLogger(__name__)

#: So long an answer is fresh: RabbitMQ counts afresh every five seconds itself.
KEPT_SECONDS = 3.0
#: Figures older than this are told to be old.
OLD_SECONDS = 3 * KEPT_SECONDS
#: For all questions of one look together.
WHOLE_SECONDS = 4.0
#: The first page of a while waits so long for an answer that is on its way; a broker in trouble is not waited for.
PATIENCE_SECONDS = 0.3


@dataclass(frozen=True)
class View:
    """What is known of the broker, and since when."""

    figures: Figures | None
    read_at: datetime | None
    age_seconds: float | None
    #: Why nothing newer could be had; empty while all is well.
    trouble: str

    def queue(self, name: str) -> QueueFigures | None:
        return self.figures.queues.get(name) if self.figures else None

    @property
    def alarms(self) -> list[str]:
        return self.figures.alarms if self.figures else []


class Management:
    def __init__(self, url: str, ui_url: str, broker_url: str) -> None:
        self._address = Address.of(url)
        self._vhost = _vhost(broker_url)
        self._pages = ui_url.rstrip("/")
        self._changed = threading.Condition()
        self._figures: Figures | None = None
        self._read_at: datetime | None = None
        self._read = self._tried = self._began = float("-inf")
        self._trouble = ""
        self._thread: threading.Thread | None = None

    def page_of(self, queue: str) -> str:
        """The management UI's own page of a queue; holds no account."""
        return f"{self._pages}/#/queues/{quote(self._vhost, safe='')}/{quote(queue, safe='')}"

    @property
    def home(self) -> str:
        return f"{self._pages}/"

    def view(self, patience: float = PATIENCE_SECONDS) -> View:
        """At once, or within `patience` if an answer is likely to come."""
        with self._changed:
            moment = time.monotonic()
            if moment - self._tried >= KEPT_SECONDS and (self._thread is None or not self._thread.is_alive()):
                self._began = moment
                self._thread = threading.Thread(target=self._look, name="management", daemon=True)
                self._thread.start()
            if not self._trouble:
                end = self._began + patience
                self._changed.wait_for(lambda: self._tried >= self._began, max(0.0, end - moment))
            return self._view(time.monotonic())

    def _view(self, moment: float) -> View:
        trouble = self._trouble
        if self._tried < self._began:
            asked = moment - self._began
            if asked > WHOLE_SECONDS + 1:
                trouble = f"it has not answered for {asked:.0f} s"
            elif not trouble and moment - self._read > OLD_SECONDS:
                trouble = "it was asked just now and has not answered yet"
        age = None if self._figures is None else moment - self._read
        return View(self._figures, self._read_at, age, trouble)

    def _look(self) -> None:
        try:
            with questions(self._address, WHOLE_SECONDS) as ask:
                figures, trouble = read(ask, self._address, self._vhost), ""
        except NoAnswer as refusal:
            figures, trouble = None, str(refusal)
        except Exception as problem:  # noqa: BLE001 -- whatever it is, the page must say that there is no answer
            # Its kind only: its text may hold what the server repeated.
            figures, trouble = None, f"its answer could not be read ({type(problem).__name__})"
        with self._changed:
            self._tell(trouble)
            self._tried = time.monotonic()
            if figures is not None:
                self._figures, self._read, self._read_at = figures, self._tried, datetime.now(UTC)
            self._trouble = trouble
            self._changed.notify_all()

    def _tell(self, trouble: str) -> None:
        """A line when it begins, changes or ends, not one for each look."""
        if trouble and trouble != self._trouble:
            logger.warning("RabbitMQ's management API cannot be read: %s", trouble)
        elif self._trouble and not trouble:
            logger.info("RabbitMQ's management API answers again.")


def _vhost(broker_url: str) -> str:
    if not broker_url.startswith(("amqp:", "amqps:")):
        return "/"
    return transports.connection(broker_url).virtual_host or "/"
