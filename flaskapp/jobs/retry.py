"""Retry arithmetic: how long to wait, and whether another try is left. Pure functions of numbers."""

import random

#: A job that loses its process this often is parked as failed.
MOST_CRASHES = 3
_LONGEST_SECONDS = 600


def crash_delay_seconds(crashes: int) -> float:
    """The first crash is usually somebody else's fault: run again at once; the second waits a moment."""
    return 0 if crashes <= 1 else 5


def backoff_seconds(retries: int, spread: float | None = None) -> float:
    """2, 4, 8 … up to ten minutes, each between half and whole so that failures do not come back in step."""
    spread = random.random() if spread is None else spread  # noqa: S311 -- jitter, not a secret
    longest = min(2.0 ** (min(retries, 30) + 1), _LONGEST_SECONDS)
    return longest * (0.5 + spread / 2)


def retry_is_left(retries: int, max_retries: int | None) -> bool:
    """True if another retry is allowed; `max_retries` None allows any number."""
    return max_retries is None or retries < max_retries
