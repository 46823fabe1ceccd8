"""What a fault cost: jobs and effects that are missing, and those that are there twice.

Every test hands its jobs to `reckon`, which fails it unless both counts are nought; the table of all of them is what
`make faults` prints.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from sqlalchemy import func, select

from flaskapp.diagnostics.models import Effect
from flaskapp.jobs.lifecycle import LIVE_STATES
from flaskapp.jobs.models import Job, JobState
from tests.acceptance.conftest import STACKS, Stack
from tests.helpers import Bench, wait_until


@dataclass
class Count:
    """Of one fault on one stack."""

    jobs: int = 0
    lost: int = 0
    doubled: int = 0


@dataclass
class Ledger:
    counts: dict[tuple[str, str], Count] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def reckon(
        self,
        stack: Stack,
        fault: str,
        jobs: Iterable[str],
        effects: Iterable[str] = (),
        seconds: float = 60,
        pruned: bool = False,
    ) -> None:
        """Wait for the end of all jobs; then each of these has succeeded, and each effect is there once.

        `pruned`: some may have been forgotten since; of those the effects tell.
        """
        wanted, keys = list(jobs), list(effects)
        late = until_calm(stack.bench, keys, seconds)
        states, seen = states_of(stack.bench, wanted), count_effects(stack.bench)
        fine = {JobState.SUCCEEDED, None} if pruned else {JobState.SUCCEEDED}
        lost = [job_id for job_id in wanted if states.get(job_id) not in fine]
        lost += [key for key in keys if not seen[key]]
        doubled = [key for key in keys if seen[key] > 1]
        count = self.counts.setdefault((fault, stack.name), Count())
        count.jobs += len(wanted)
        count.lost += len(lost)
        count.doubled += len(doubled)
        told = [(job.id, job.task, job.state, job.error_message) for job in stack.bench.jobs() if job.id in lost]
        assert (lost, doubled, late) == ([], [], ""), told
        assert stack.bench.account().drift == 0

    def note(self, stack: Stack, fact: str) -> None:
        """A figure that belongs below the table."""
        self.notes.append(f"- {stack.name}: {fact}.")

    def table(self) -> str:
        """Faults × stacks, as Markdown."""
        lines = [f"| fault | {' | '.join(STACKS)} |", f"|---|{'---|' * len(STACKS)}"]
        for fault in dict.fromkeys(fault for fault, _ in self.counts):
            cells = [self._cell(self.counts.get((fault, stack))) for stack in STACKS]
            lines.append(f"| {fault} | {' | '.join(cells)} |")
        return "\n".join([*lines, "", *sorted(self.notes)])

    def _cell(self, count: Count | None) -> str:
        return f"{count.jobs} jobs: {count.lost} lost, {count.doubled} doubled" if count else "–"


def until_calm(bench: Bench, effects: Sequence[str], seconds: float) -> str:
    """Wait until no job but a schedule's is live and every effect is there; answers what is not, if anything."""

    def is_calm() -> bool:
        with bench.session() as session:
            live = select(func.count()).where(Job.state.in_(LIVE_STATES), Job.schedule.is_(None))
            return session.execute(live).scalar_one() == 0 and count_effects(bench).keys() >= set(effects)

    try:
        wait_until(is_calm, seconds, "all is calm")
    except AssertionError:
        late = [(job.id, job.task, job.queue, job.state, job.attempt) for job in bench.jobs() if not job.is_final]
        return f"Not calm after {seconds:g} s: {late[:20]}"
    return ""


def states_of(bench: Bench, job_ids: Sequence[str]) -> dict[str, str]:
    wanted = set(job_ids)
    with bench.session() as session:
        return {row.id: row.state for row in session.execute(select(Job.id, Job.state)) if row.id in wanted}


def count_effects(bench: Bench) -> Counter[str]:
    with bench.session() as session:
        return Counter(session.scalars(select(Effect.key)))
