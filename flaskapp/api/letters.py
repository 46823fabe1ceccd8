"""Dead letters over HTTP: what could not be delivered, and making it a job again. For operators."""

from collections.abc import Mapping
from typing import Any

from flask import Response, url_for
from flask_login import current_user
from werkzeug.exceptions import Conflict, NotFound

from flaskapp.accounts.audit import write_audit
from flaskapp.accounts.protection import requires
from flaskapp.api import parsing, wishes
from flaskapp.api.blueprint import answer, api
from flaskapp.api.keys import changes
from flaskapp.api.shapes import moment
from flaskapp.errors import BadArguments, NotReplayable
from flaskapp.extensions import db
from flaskapp.jobs import letters, masking
from flaskapp.jobs.models import DeadLetter
from flaskapp.jobs.queries import Position
from flaskapp.worker.replay import replay

_BEGINNING = 2000
_MOST = 2**31 - 1


@api.get("/dead-letters")
@requires("operator")
def list_letters() -> Response:
    limit, after = parsing.query_limit(), parsing.query_cursor()
    before_id = None if after is None else number_of(after.id)
    if after is not None and before_id is None:
        raise BadArguments("cursor is not one that a page of this list gave. Pass `next` of the page before.")
    page = letters.newest(db.session(), limit + 1, before_id)
    items, last = page[:limit], page[:limit][-1].letter if page else None
    more = Position(last.at, str(last.id)) if last is not None and len(page) > limit else None
    tasks = wishes.celery_app().tasks
    shapes = [letter_shape(one.letter, one.beginning, tasks) for one in items]
    return answer({"items": shapes, "next": parsing.cursor_of(more)})


@api.post("/dead-letters/<letter_id>/replay")
@requires("operator")
@changes()
def replay_letter(letter_id: str) -> Response:
    """Once: a second time is refused."""
    number = number_of(letter_id)
    try:
        letter = None if number is None else replay(db.session(), number, current_user.name)
    except NotReplayable as refusal:
        raise Conflict(str(refusal)) from refusal
    if letter is None:
        raise NotFound(f"There is no dead letter {letter_id[:20]!r}. It may have been pruned.")
    write_audit(db.session(), "letter.replay", letter_id, f"job {letter.job_id}")
    shape = letter_shape(letter, letter.payload[:_BEGINNING], wishes.celery_app().tasks)
    return answer(shape, 202, url_for("api.show_job", job_id=letter.job_id))


def number_of(text: str) -> int | None:
    """A letter's number, if it can be one."""
    is_number = text.isascii() and text.isdigit() and len(text) <= 10
    return int(text) if is_number and int(text) <= _MOST else None


def letter_shape(letter: DeadLetter, beginning: bytes, tasks: Mapping[str, object]) -> dict[str, Any]:
    headers, payload = masking.shown_letter(letter.headers, beginning, tasks.get(letter.task or ""))
    return {
        "id": letter.id,
        "at": moment(letter.at),
        "reason": letter.reason,
        "detail": letter.detail,
        "queue": letter.queue,
        "exchange": letter.exchange,
        "routing_key": letter.routing_key,
        "job_id": letter.job_id,
        "task": letter.task,
        "headers": headers,
        "content_type": letter.content_type,
        "payload": payload,
        "size": letter.size,
        "replayed_at": moment(letter.replayed_at),
        "replayed_by": letter.replayed_by,
    }
