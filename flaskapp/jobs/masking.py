"""What people may see of a job's arguments, result and error.

A task names its secret parameters (`secret_params = ("password",)`): their values become `***` wherever they
would show, also inside results and error texts. Texts that are not JSON are shown as they are.
"""

import inspect
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

MASK = "***"
#: Shorter secrets are masked in the arguments only: replacing every "a" in a traceback helps nobody.
_SHORTEST_IN_TEXT = 4


class Described(Protocol):
    """The columns of a job that may hold secrets."""

    args: Any
    kwargs: Any
    result: Any
    error_message: Any
    error_traceback: Any


@dataclass(frozen=True)
class Shown:
    args: Any
    kwargs: Any
    result: Any
    secrets: frozenset[str] = frozenset()

    def text(self, text: str | None) -> str | None:
        """`text` without the secrets of this job."""
        return _without(text, self.secrets) if text else text


def shown(job: Described, task: object | None) -> Shown:
    """`task` is the task object if this process knows it."""
    args, kwargs, result = decoded(job.args), decoded(job.kwargs), decoded(job.result)
    names = frozenset(getattr(task, "secret_params", ()) or ())
    if not names:
        return Shown(args, kwargs, result)
    secret_values: list[object] = []
    # A text that cannot be taken apart cannot be masked in part.
    args = MASK if isinstance(args, str) else args
    kwargs = MASK if isinstance(kwargs, str) else kwargs
    if isinstance(args, list):
        positions = _positions(task, names)
        secret_values += [value for n, value in enumerate(args) if n in positions]
        args = [MASK if n in positions else value for n, value in enumerate(args)]
    if isinstance(kwargs, dict):
        secret_values += [value for name, value in kwargs.items() if name in names]
        kwargs = {name: MASK if name in names else value for name, value in kwargs.items()}
    secrets = frozenset(text for value in secret_values for text in _texts(value) if len(text) >= _SHORTEST_IN_TEXT)
    return Shown(args, kwargs, _masked(result, secrets), secrets)


def shown_letter(headers: str, beginning: bytes, task: object | None) -> tuple[Any, str]:
    """A dead letter's headers and how its payload begins; of a task with secrets, nothing that could hold one."""
    said, text = decoded(headers), beginning.decode("utf-8", "backslashreplace")
    if not getattr(task, "secret_params", ()):
        return said, text
    if isinstance(said, dict):
        said = {name: MASK if name in ("argsrepr", "kwargsrepr") else value for name, value in said.items()}
    return said, MASK


def decoded(text: str | None) -> Any:
    """The value of a JSON text; the text itself if it is none, or one that JSON people cannot read back."""
    if text is None:
        return None
    try:
        return json.loads(text, parse_constant=str)
    except (ValueError, RecursionError):
        return text


def _positions(task: object, names: frozenset[str]) -> set[int]:
    """Where the secret parameters stand in the positional arguments, `*args` to the end included."""
    try:
        parameters = list(inspect.signature(task.run).parameters.values())  # type: ignore[attr-defined]
    except (AttributeError, TypeError, ValueError):
        return set()
    found: set[int] = set()
    for position, parameter in enumerate(parameters):
        if parameter.name not in names:
            continue
        found.update(range(position, 1000) if parameter.kind is parameter.VAR_POSITIONAL else (position,))
    return found


def _texts(value: object) -> Iterable[str]:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from _texts(item)
    elif value is not None and not isinstance(value, bool):
        yield str(value)


def _masked(value: Any, secrets: frozenset[str]) -> Any:
    if isinstance(value, str):
        return _without(value, secrets)
    if isinstance(value, list):
        return [_masked(item, secrets) for item in value]
    if isinstance(value, dict):
        return {_without(str(name), secrets): _masked(item, secrets) for name, item in value.items()}
    return MASK if not isinstance(value, bool) and value is not None and str(value) in secrets else value


def _without(text: str, secrets: frozenset[str]) -> str:
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, MASK)
    return text
