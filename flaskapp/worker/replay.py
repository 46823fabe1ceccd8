"""A dead letter becomes a job again, once: a stranger's is submitted under its own id, ours is sent again.

Nothing here commits: the caller owns the transaction.
"""

import json
from typing import Any

from sqlalchemy.orm import Session

from flaskapp.broker.letters import content
from flaskapp.errors import BadArguments, NotReplayable
from flaskapp.jobs import letters, lifecycle, queries
from flaskapp.jobs.masking import decoded
from flaskapp.jobs.models import DeadLetter, JobState
from flaskapp.jobs.outcomes import Wish, clean_text
from flaskapp.worker import checks
from flaskapp.worker.sessions import wake_relay


def replay(session: Session, letter_id: int, by: str) -> DeadLetter | None:
    """Answers the letter, whose job waits now; None if there is none. Raises NotReplayable with a sentence."""
    # Locked: of two who press at the same moment the second sees that it was replayed.
    letter = letters.letter_by_id(session, letter_id, for_update=True)
    if letter is None:
        return None
    if letter.replayed_at is not None:
        raise NotReplayable(f"Letter {letter.id} became job {letter.job_id} already, by {letter.replayed_by}.")
    if letter.send is not None:
        _send_again(session, letter)
    else:
        _submit(session, letter)
    letters.mark_replayed(session, letter, by)
    wake_relay(session)
    return letters.letter_by_id(session, letter_id)


def _send_again(session: Session, letter: DeadLetter) -> None:
    state = letters.wait_again(session, letter)
    if state is None:
        raise NotReplayable(
            f"Its job {letter.job_id or '(no id)'} has no row any more, so it never runs. Submit a new one."
        )
    if state.is_final:
        again = "" if state == JobState.SUCCEEDED else " Run the job itself again instead."
        raise NotReplayable(f"Its job {letter.job_id} is {state} already.{again}")
    if state == JobState.RUNNING:
        raise NotReplayable(f"Its job {letter.job_id} is running already: this message is not needed.")


def _submit(session: Session, letter: DeadLetter) -> None:
    wish = _wish(letter)
    if (job := queries.job_by_id(session, str(wish.job_id))) is not None:
        raise NotReplayable(f"There is a job {job.id} already; it is {job.state}.")
    lifecycle.submit(session, [wish])


def _wish(letter: DeadLetter) -> Wish:
    if letter.task is None or letter.job_id is None:
        raise NotReplayable("Its headers name no task and id, so it cannot become a job.")
    if letter.size > len(letter.payload):
        raise NotReplayable(f"Only the first {len(letter.payload):,} of its {letter.size:,} bytes were kept.")
    try:
        args, kwargs, embed = content(letter.payload)
        return checks.checked(
            Wish(
                task=letter.task,
                args=json.dumps(args),
                kwargs=json.dumps(kwargs),
                options=json.dumps(_options(letter, embed)),
                queue=letter.queue or "default",
                job_id=letter.job_id,
                root_id=_header(letter, "root_id"),
                parent_id=_header(letter, "parent_id"),
            )
        )
    except (ValueError, RecursionError, BadArguments) as problem:
        raise NotReplayable(f"It cannot become a job. {problem}") from problem


def _options(letter: DeadLetter, embed: dict[str, Any]) -> dict[str, Any]:
    headers = decoded(letter.headers)
    kept = {name: headers[name] for name in ("group", "group_index", "shadow") if headers.get(name) is not None}
    return {"headers": kept, "embed": {name: value for name, value in embed.items() if value}}


def _header(letter: DeadLetter, name: str) -> str | None:
    value = decoded(letter.headers).get(name)
    return value if isinstance(value, str) and 0 < len(value) <= 155 and clean_text(value) == value else None
