"""One lane of a message at work: offer, commit `sending`, send, record what the server said; then the next.

What is known is committed at once, except that with a server that answers within milliseconds it goes into the same
commit as the next one's `sending`. If we die between that commit and the answer, the recipient is unknown.
"""

import time
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

from flaskapp.config import Settings
from flaskapp.extensions import db
from flaskapp.jobs.outcomes import Claimed
from flaskapp.mail import recipients, routes
from flaskapp.mail.composing import Letter
from flaskapp.mail.models import Message
from flaskapp.mail.models import RecipientState as State
from flaskapp.mail.transport import NobodyKnows, NotSent, Transport

#: After so long others get the worker; the job goes on behind them.
SLICE_SECONDS = 20.0
_AT_ONCE = 100
_LOOK_EVERY_SECONDS = 0.5
#: Worth staying for.
_SHORT_WAIT_SECONDS = 1.0
_LONGEST_PAUSE_SECONDS = 3600.0
#: So many "later" in a row from one domain, and nobody there is asked for a while.
_DOMAIN_STRIKES = 5
_QUICK_SECONDS = 0.02

LetterOf = Callable[[Any], Letter]


class Verdict(NamedTuple):
    state: State
    reply: str
    retry_in: float = 0


class Delivery:
    """What one attempt of a job does for its lane of one message."""

    def __init__(self, settings: Settings, message: Message, lane: int, holder: Claimed, transport: Transport) -> None:
        self._settings = settings
        self._rates = routes.Rates(settings.mail_rate, settings.mail_domain_rate)
        self._message_id = message.id
        self._at_least_once = message.at_least_once
        # A worker that is told to stop kills what goes on for longer, and whoever is being sent to becomes unknown.
        self._slice = min(SLICE_SECONDS, max(1.0, settings.stop_seconds * 2 / 3))
        self._lane = (message.id, lane, message.lanes)
        self._holder = holder
        self._transport = transport
        #: Way out → until when, by our own clock, it is closed or its rate lets nobody go.
        self._closed: dict[str, float] = {}
        self._looked_at = 0.0
        #: The ways that had to wait since something last went through.
        self._struck: set[str] = set()
        #: Domain → how many there were told "later" in a row.
        self._later: Counter[str] = Counter()
        #: A recipient whose fate is known, and not committed yet.
        self._known: tuple[Any, Verdict] | None = None
        self.done = 0

    def run(self, letter_of: LetterOf, on_progress: Callable[[int], None]) -> float:
        """Send what is due for a while; answers for how many seconds the way to the rest of it is closed."""
        ends = time.monotonic() + self._slice
        while time.monotonic() < ends:
            wait = self._seconds_closed(routes.SERVER)
            if not wait:
                closed = [name for name in self._closed if self._seconds_closed(name)]
                batch = recipients.due(db.session(), *self._lane, closed, _AT_ONCE)
                db.session.rollback()
                if batch:
                    if not self._send(batch, letter_of, on_progress, ends):
                        return 0.0
                    continue
                soonest = recipients.seconds_to_next(db.session(), *self._lane)
                db.session.rollback()
                if soonest != 0 or not closed:
                    return 0.0
                wait = min(self._seconds_closed(name) for name in closed)
                others = recipients.seconds_to_next(db.session(), *self._lane, closed)
                db.session.rollback()
                if others is not None:
                    wait = min(wait, others)
            if wait > _SHORT_WAIT_SECONDS:
                return wait
            time.sleep(wait)
        return 0.0

    def _send(self, batch: list[Any], letter_of: LetterOf, on_progress: Callable[[int], None], ends: float) -> bool:
        """False if the message is paused or cancelled."""
        goes_on = True
        for recipient in batch:
            if time.monotonic() > ends or self._seconds_closed(routes.SERVER):
                break
            if not self._seconds_closed(recipient.domain) and not (goes_on := self._one(recipient, letter_of)):
                break
            on_progress(self.done)
        self._commit_known()
        return goes_on

    def _one(self, recipient: Any, letter_of: LetterOf) -> bool:
        """False if the message is paused or cancelled."""
        try:
            letter = letter_of(recipient)
        except OSError as problem:
            # The storage is away, say. Its paths are nobody's business.
            reply = f"An attachment cannot be read: {problem.strerror}."
            self._end_unsent(recipient, Verdict(State.DEFERRED, reply, self._pause(recipient.tries)))
            return True
        except Exception as problem:  # noqa: BLE001 -- one letter that cannot be made must not keep the others
            self._end_unsent(recipient, Verdict(State.REJECTED, f"It could not be written: {problem}"))
            return True
        began = time.monotonic()
        try:
            self._transport.open()
            if not self._take_turn(recipient.domain):
                return True
            began = time.monotonic()
            self._transport.offer(letter)
        except NotSent as refusal:
            self._end_unsent(recipient, self._verdict(recipient, refusal))
            return True
        if not self._take(recipient):
            self._transport.withdraw()
            return not self._is_stopped()
        verdict = self._sent(recipient, letter)
        self._known = (recipient, verdict)
        self.done += 1
        is_quick = time.monotonic() - began <= _QUICK_SECONDS
        if verdict.state is not State.ACCEPTED or self._struck_on_the_way_to(recipient) or not is_quick:
            self._commit_known()
        return True

    def _take(self, recipient: Any) -> bool:
        """Commit `sending`, and with it what is known of the one before."""
        self._write_known()
        taken = recipients.take(db.session(), recipient.id, self._holder)
        db.session.commit()
        self._known = None
        return taken

    def _sent(self, recipient: Any, letter: Letter) -> Verdict:
        try:
            reply = self._transport.send(letter)
        except NotSent as refusal:
            return self._verdict(recipient, refusal)
        except NobodyKnows as problem:
            if self._at_least_once or self._transport.is_repeatable:
                return Verdict(State.DEFERRED, str(problem), self._pause(recipient.tries))
            return Verdict(State.UNKNOWN, str(problem))
        self._later[recipient.domain] = 0
        return Verdict(State.ACCEPTED, str(reply))

    def _verdict(self, recipient: Any, refusal: NotSent) -> Verdict:
        """What a refusal means for the recipient, and for everybody who goes the same way."""
        if refusal.is_final:
            return Verdict(State.REJECTED, str(refusal))
        pause = self._pause(recipient.tries)
        if refusal.is_route:
            # Longer than the way is closed: were he the first to try it again, and the cause, nobody else got through.
            pause = max(2 * self._close(routes.SERVER, str(refusal)), pause / 10)
        elif refusal.reply is not None and refusal.reply.code // 10 == 45:
            self._later[recipient.domain] += 1
            if self._later[recipient.domain] >= _DOMAIN_STRIKES:
                self._later[recipient.domain] = 0
                self._close(recipient.domain, str(refusal))
        return Verdict(State.DEFERRED, str(refusal), pause)

    def _pause(self, tries: int) -> float:
        return float(min(self._settings.mail_retry_seconds * 2 ** min(tries, 20), _LONGEST_PAUSE_SECONDS))

    # --- the ways out -------------------------------------------------------------------------------------

    def _seconds_closed(self, name: str) -> float:
        """For how long nobody may go this way; others' pauses are looked up twice a second."""
        moment = time.monotonic()
        if moment - self._looked_at > _LOOK_EVERY_SECONDS:
            self._looked_at = moment
            left = routes.pauses(db.session())
            db.session.rollback()
            self._struck = set(left)
            self._closed |= {each: moment + seconds for each, seconds in left.items()}
        return max(0.0, self._closed.get(name, 0.0) - moment)

    def _take_turn(self, domain: str) -> bool:
        """False if the rate lets it not go now."""
        if not (self._rates.server or self._rates.domain):
            return True
        self._commit_known()
        name, wait = routes.take_turn(db.session(), domain, self._rates)
        db.session.commit()
        if wait:
            self._closed[name] = time.monotonic() + wait
        return not wait

    def _close(self, name: str, reason: str) -> float:
        """The caller's commit makes it known to the others."""
        # It may clear ways: whoever holds one and wants another could meet somebody who does the opposite.
        self._commit_known()
        pause = routes.hold(db.session(), name, reason, self._settings.mail_retry_seconds / 10)
        self._struck.add(name)
        self._closed[name] = time.monotonic() + pause
        return pause

    def _struck_on_the_way_to(self, recipient: Any) -> set[str]:
        return self._struck & {routes.SERVER, recipient.domain}

    # --- writing down -------------------------------------------------------------------------------------

    def _end_unsent(self, recipient: Any, verdict: Verdict) -> None:
        self._write_known()
        if recipients.end_unsent(db.session(), recipient.id, *verdict):
            self.done += verdict.state is State.REJECTED
        db.session.commit()
        self._known = None

    def _write_known(self) -> None:
        if self._known is not None:
            recipient, verdict = self._known
            recipients.end(db.session(), recipient.id, self._holder, *verdict)
            struck = self._struck_on_the_way_to(recipient)
            if verdict.state is State.ACCEPTED and struck:
                # It works again: the next pause is a short one.
                routes.clear(db.session(), struck)
                self._struck -= struck

    def _commit_known(self) -> None:
        if self._known is not None:
            self._write_known()
            db.session.commit()
            self._known = None

    def _is_stopped(self) -> bool:
        message = db.session.get_one(Message, self._message_id, populate_existing=True)
        stopped = message.paused_at is not None or message.cancelled_at is not None
        db.session.rollback()
        return stopped
