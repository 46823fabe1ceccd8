"""Recording a group: claims and outcomes in one transaction; and taking it apart when the database refuses it.

Run by the recorder's thread alone, without a lock: SQL may take long, and what is shared with other threads is in the
parts that it calls. `_take_over` is called on the event loop.
"""

import logging
from collections.abc import Callable

from sqlalchemy import Engine

from flaskapp.extensions import core_session, is_outage
from flaskapp.jobs import letters, lifecycle
from flaskapp.jobs.changes import SUBMITTED, lock_in_order
from flaskapp.jobs.models import Job
from flaskapp.jobs.outcomes import Error, Failed, Outcome, Succeeded
from flaskapp.worker.held import Ended, Held
from flaskapp.worker.loop_calls import LoopCalls
from flaskapp.worker.offers import Offers
from flaskapp.worker.outages import may_pass
from flaskapp.worker.refused import Refusal, Refused
from flaskapp.worker.request import JobRequest
from flaskapp.worker.slots import Slots

logger = logging.getLogger(__name__)

_UNWRITABLE = "NotRecordable"


def _may_lock_joins(request: JobRequest, outcome: Outcome) -> bool:
    """It is a member of a chord, perhaps, or leads to one."""
    return bool(request.group) or not isinstance(outcome, Succeeded)


class Recording:
    def __init__(
        self,
        engine: Engine,
        worker_id: str,
        nudge: Callable[[], None],
        loop: LoopCalls,
        held: Held,
        slots: Slots,
        offers: Offers,
    ) -> None:
        self._engine = engine
        self._worker_id = worker_id
        self._nudge = nudge
        self._loop = loop
        self._held = held
        self._slots = slots
        self._offers = offers
        self._refused = Refused()
        #: How many transactions went through that wrote something.
        self._passed = 0

    def record(self, offers: list[JobRequest], outcomes: list[Ended]) -> None:
        """One transaction for both; what it decided is carried out after it is committed."""
        # A duplicate of what we hold is spent. Of two messages for one job each must be looked at: the
        # older one may be refused, and then the newer is the only one that is left.
        early, fresh = self._held.sort(offers)
        first = {str(request.id): request for request in reversed(fresh)}
        early += [request for request in fresh if first[str(request.id)] is not request]
        with core_session(self._engine) as session, session.begin():
            if first and any(_may_lock_joins(request, outcome) for request, outcome in outcomes):
                # Joins are locked after jobs, also after those that are claimed only then.
                ids = [*first, *(str(request.id) for request, _ in outcomes)]
                lock_in_order(session, Job.id.in_(ids))
            settled = lifecycle.settle(session, [outcome for _, outcome in outcomes])
            claims = lifecycle.claim(session, [request.hint for request in first.values()], self._worker_id)
            refused = first.keys() - claims.keys()
            rowless = refused - lifecycle.known(session, refused) if refused else set()
            foreign = [first[job_id] for job_id in rowless if first[job_id].hint.send is None]
            if foreign:
                lifecycle.submit(session, [request.wish for request in foreign])
                claims |= lifecycle.claim(session, [request.hint for request in foreign], self._worker_id)
            made_due = session.info.get(SUBMITTED)
        if settled or claims:
            self._passed += 1
        if made_due:
            # A chord's body.
            self._nudge()
        self._forget(outcomes, settled)
        for job_id, request in first.items():
            request.claimed = claims.get(job_id)
        self._held.add([request for request in first.values() if request.claimed is not None])
        self._offers.add_early(early)
        self._offers.recorded(offers)
        # Ours, but its job is gone (pruned): a dead letter, never run.
        buried = [first[job_id] for job_id in rowless if first[job_id].hint.send is not None]
        answered = [request for request in offers if request not in early]
        if answered:
            self._loop.add(self._take_over, answered, buried)

    def _forget(self, outcomes: list[Ended], settled: set[str]) -> None:
        for request, outcome in outcomes:
            self._held.release(request)
            if outcome.claimed.job_id not in settled:
                logger.warning(
                    "job=%s attempt=%s lease lost: its outcome changes nothing",
                    outcome.claimed.job_id,
                    outcome.claimed.number,
                )
        if any(outcome.claimed.limited or not isinstance(outcome, Succeeded) for _, outcome in outcomes):
            self._nudge()

    def _take_over(self, offers: list[JobRequest], buried: list[JobRequest]) -> None:
        """Answer the broker for every offer; what was claimed goes on to the pool."""
        try:
            self._offers.tell_limit()
            for request in offers:
                if request in buried:
                    self._loop.consumer.bury(request.message, letters.NO_JOB)
                else:
                    request.acknowledge()
        finally:
            # Whatever the broker makes of our answers: these are claimed.
            self._slots.add([request for request in offers if request.claimed is not None])
        self._slots.fill()

    # --- what the database refuses ---

    def keep(self, offers: list[JobRequest], outcomes: list[Ended]) -> None:
        """The database is away: they come first in the next group."""
        self._offers.keep(offers)
        self._held.keep(outcomes)

    def record_apart(self, offers: list[JobRequest], outcomes: list[Ended]) -> bool:
        """Something in this group cannot be written: find it, so that it does not stop the others.

        False if the database is away after all; what was not tried is kept.
        """
        for number, (request, outcome) in enumerate(outcomes):
            if self._is_away(self._record_alone(Refusal(request, outcome, self._passed))):
                self.keep(offers, outcomes[number + 1 :])
                return False
        for number, request in enumerate(offers):
            if self._is_away(self._record_alone(Refusal(request, None, self._passed))):
                self.keep(offers[number + 1 :], [])
                return False
        return True

    def _is_away(self, trouble: Exception | None) -> bool:
        return trouble is not None and is_outage(trouble)

    def try_refused(self) -> None:
        while (refusal := self._refused.next_due()) is not None:
            is_claim = refusal.outcome is None
            if is_claim and self._slots.free() < 1:
                refusal.wait()
                self._refused.add(refusal)
            elif is_claim and not self._offers.take_aside(refusal.request):
                # It went back to the broker, and comes again as another message.
                continue
            elif self._record_alone(refusal) is not None:
                return

    def _record_alone(self, refusal: Refusal) -> Exception | None:
        """What the database does not take waits for its next turn, or is given up."""
        request, outcome = refusal.request, refusal.outcome
        try:
            if outcome is None:
                self.record([request], [])
            else:
                self.record([], [(request, outcome)])
        except Exception as trouble:
            if may_pass(trouble) and refusal.is_refused_again(self._passed):
                self._refused.add(refusal)
                if outcome is None:
                    self._offers.set_aside(request)
                return trouble
            if outcome is None:
                logger.exception("job=%s cannot be claimed: its message is a dead letter", request.id)
                self._loop.add(self._loop.consumer.bury, request.message, letters.REJECTED, f"No claim: {trouble}")
            else:
                logger.exception("job=%s how it ended cannot be written", request.id)
                self._give_up_outcome(request, outcome, trouble)
        return None

    def _give_up_outcome(self, request: JobRequest, outcome: Outcome, trouble: Exception) -> None:
        """Its job fails; if not even that can be written, the heartbeat puts back what nobody answers for."""
        if isinstance(outcome, Failed) and outcome.error.type == _UNWRITABLE:
            self._held.release(request)
        else:
            self._held.ended(request, Failed(outcome.claimed, Error(_UNWRITABLE, str(trouble))))
