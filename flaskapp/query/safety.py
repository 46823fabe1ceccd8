"""The attack table against this very installation: each one is asked like any question, and what came of it is told."""

import json
import time
from dataclasses import dataclass

from flaskapp.extensions import db
from flaskapp.query import asking, limits
from flaskapp.query.attacks import ATTACKS, NEVER, Attack

#: Enough to see that something would not end; a real question gets more.
SECONDS = 2.0


@dataclass(frozen=True)
class Outcome:
    attack: Attack
    held_off: bool
    #: The refusal, or what was answered.
    words: str
    seconds: float


def attacks_here() -> list[Attack]:
    name = db.engine.dialect.name
    backend = "mariadb" if name in ("mysql", "mariadb") else name
    return [attack for attack in ATTACKS if backend in attack.on]


def attempt(attack: Attack, owner: str, sees_all: bool) -> Outcome:
    started = time.monotonic()
    try:
        answer = asking.ask(attack.sql, {}, owner, sees_all, SECONDS)
    except asking.QueryRefused as refusal:
        return Outcome(attack, True, str(refusal), time.monotonic() - started)
    seconds = time.monotonic() - started
    text = json.dumps(answer.rows)
    kept = len(answer.rows) <= limits.MOST_ROWS and len(text) <= 2 * limits.MOST_BYTES
    is_empty = not any(cell is not None for row in answer.rows for cell in row)
    held_off = ((attack.bounded and kept) or (attack.empty and is_empty)) and not any(part in text for part in NEVER)
    words = f"{len(answer.rows):,} rows of {len(answer.columns)} columns" + (", cut off" if answer.truncated else "")
    return Outcome(attack, held_off, words, seconds)
