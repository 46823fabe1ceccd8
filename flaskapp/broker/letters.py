"""From a message that nobody could deliver to a Letter: what it says about itself, and why it died.

Reads only; whatever a stranger put into headers and body ends as text, never as an exception.
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from flaskapp.broker.publisher import SEND_HEADER
from flaskapp.jobs.letters import MALFORMED, REJECTED, STRAY, UNKNOWN_TASK, Letter
from flaskapp.jobs.outcomes import clean_text

#: RabbitMQ's own words for a death.
DEATHS = frozenset({"rejected", "expired", "maxlen", "delivery_limit"})
_MOST = 2**31 - 1


def letter_of(headers: object, body: object, content_type: object, **known: Any) -> Letter:
    """A letter with what its headers tell; `known` are Letter's other fields."""
    said: Mapping[Any, Any] = headers if isinstance(headers, Mapping) else {}
    send = said.get(SEND_HEADER)
    return Letter(
        job_id=_name(said.get("id"), 155),
        task=_name(said.get("task"), 255),
        send=send if isinstance(send, int) and 0 <= send <= _MOST else None,
        headers=said,
        content_type=content_type if isinstance(content_type, str) else None,
        body=_bytes(body),
        **known,
    )


def died(letter: Letter) -> Letter:
    """The same with what RabbitMQ wrote on it: its newest entry of x-death stands first."""
    deaths = letter.headers.get("x-death")
    newest = deaths[0] if isinstance(deaths, list) and deaths and isinstance(deaths[0], Mapping) else {}
    queue, exchange, keys = newest.get("queue"), newest.get("exchange"), newest.get("routing-keys")
    if not isinstance(queue, str):
        return replace(letter, reason=STRAY, detail="Somebody sent it to the dead-letter queue itself.")
    reason = str(newest.get("reason"))
    return replace(
        letter,
        reason=reason if reason in DEATHS else REJECTED,
        queue=queue,
        exchange=exchange if isinstance(exchange, str) else "",
        routing_key=keys[0] if isinstance(keys, list) and keys and isinstance(keys[0], str) else letter.routing_key,
    )


def looked_at(letter: Letter, known_tasks: frozenset[str]) -> Letter:
    """A rejected one, seen more closely: the broker does not tell why a worker rejected it."""
    if letter.reason != REJECTED:
        return letter
    if letter.task is None:
        return replace(letter, reason=MALFORMED, detail="Its headers name no task.")
    if letter.job_id is None:
        return replace(letter, reason=MALFORMED, detail="Its headers have no id that could be a job's.")
    if known_tasks and letter.task not in known_tasks:
        return replace(letter, reason=UNKNOWN_TASK, detail=f"No running worker knows the task {letter.task}.")
    try:
        content(letter.body)
    except ValueError as problem:
        return replace(letter, reason=MALFORMED, detail=str(problem))
    return letter


def content(body: bytes) -> tuple[list[Any], dict[str, Any], dict[str, Any]]:
    """Arguments, named arguments and what is embedded, of Celery's protocol 2; raises ValueError with a sentence."""
    try:
        parts = json.loads(body)
    except RecursionError as problem:
        raise ValueError("Its body is nested too deep.") from problem
    except ValueError as problem:
        raise ValueError(f"Its body is not JSON: {str(problem)[:200]}.") from problem
    if not isinstance(parts, list) or len(parts) != 3:
        raise ValueError("Its body is not a list of arguments, named arguments and embedded parts.")
    args, kwargs, embed = parts
    if not (isinstance(args, list) and isinstance(kwargs, dict) and isinstance(embed or {}, dict)):
        raise ValueError("Its body is not a list, a mapping and a mapping.")
    return args, kwargs, embed or {}


def _name(value: object, longest: int) -> str | None:
    """As a worker reads an id or a task's name; None for what no row could hold."""
    text = str(value) if isinstance(value, str) else ""
    return text if 0 < len(text) <= longest and clean_text(text) == text else None


def _bytes(body: object) -> bytes:
    if isinstance(body, bytes | bytearray | memoryview):
        return bytes(body)
    return body.encode("utf-8", "backslashreplace") if isinstance(body, str) else b""
