"""What only a drill submits: an effect that takes its time, so that kills hit it before and after it writes."""

import time
from typing import Any

from celery import shared_task
from sqlalchemy import insert

from flaskapp.diagnostics.models import Effect
from flaskapp.diagnostics.tasks import effect
from flaskapp.extensions import db


@shared_task(name="verify.step", bind=True, internal=True)
def step(self: Any, key: str, before: float = 0, after: float = 0, children: int = 0) -> str:
    """Write one effect after `before` seconds, submit `children` with one each, return `after` seconds later."""
    time.sleep(before)
    row = {"key": key, "job_id": self.request.id, "attempt": self.attempt_number}
    db.session.execute(insert(Effect).values(row))
    for number in range(children):
        effect.apply_async((f"{key}/{number}",), queue=self.request.delivery_info["routing_key"])
    # SQLite's one writer is us meanwhile: a moment, not more.
    time.sleep(after)
    return key
