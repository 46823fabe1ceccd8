"""How a recipient's state and a message's look on a page: a word, a colour and an icon, defined here only."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import NamedTuple

from flaskapp.mail.models import OPEN_STATES, Message
from flaskapp.mail.models import RecipientState as State


class Signs(NamedTuple):
    word: str
    #: One of the job core's states, whose colour it has.
    colour: str
    icon: str


_RECIPIENT = {
    State.QUEUED: ("queued", "tray"),
    State.SENDING: ("running", "ring"),
    State.ACCEPTED: ("succeeded", "check"),
    State.DEFERRED: ("waiting", "clock"),
    State.REJECTED: ("failed", "cross"),
    State.SUPPRESSED: ("cancelled", "stop"),
    State.CANCELLED: ("cancelled", "slash"),
    State.EXPIRED: ("failed", "clock"),
    State.UNKNOWN: ("failed", "alert"),
}
_MESSAGE = {
    "failed": ("failed", "cross"),
    "preparing": ("running", "ring"),
    "paused": ("waiting", "pause"),
    "scheduled": ("waiting", "clock"),
    "sending": ("running", "ring"),
    "cancelled": ("cancelled", "slash"),
    "sent": ("succeeded", "check"),
    "partly sent": ("failed", "alert"),
    "not sent": ("failed", "cross"),
}
_FAILED = (State.REJECTED, State.EXPIRED, State.UNKNOWN)
#: What `state_of` may say.
MESSAGE_STATES = tuple(_MESSAGE)


def signs_of(state: str) -> Signs:
    return Signs(state, *(_RECIPIENT.get(state) or _MESSAGE[state]))  # type: ignore[call-overload]


def state_of(message: Message, counts: Mapping[str, int]) -> str:
    """The whole message in a word."""
    if message.problem:
        return "failed"
    is_open = any(counts.get(state) for state in OPEN_STATES)
    if not message.is_ready and message.cancelled_at is None:
        return "preparing"
    if is_open and message.paused_at is not None:
        return "paused"
    if is_open and message.send_at > datetime.now(UTC):
        return "scheduled"
    if is_open or counts.get(State.SENDING):
        return "sending"
    if counts.get(State.CANCELLED) or not counts:
        return "cancelled"
    if not counts.get(State.ACCEPTED):
        return "not sent"
    return "partly sent" if any(counts.get(state) for state in _FAILED) else "sent"
