"""Passwords: how they are hashed, checked, judged and made up. Nothing here reads or writes the database."""

import secrets
import threading
from functools import cache

from werkzeug.security import check_password_hash, generate_password_hash

from flaskapp.errors import BadArguments

SHORTEST = 8
LONGEST = 1000
#: One scrypt takes 32 MB and 50 ms: a crowd at the login page must not take all memory.
_turns = threading.BoundedSemaphore(2)


@cache
def _nobody() -> str:
    """What an unknown name is checked against, so that it answers as slowly as a known one."""
    return generate_password_hash(secrets.token_hex(), method="scrypt")


def hashed(password: str) -> str:
    with _turns:
        return generate_password_hash(password, method="scrypt")


def matches(password_hash: str | None, password: str) -> bool:
    """False after the same time for a wrong password and for no account at all (hash None)."""
    with _turns:
        right = check_password_hash(password_hash or _nobody(), password[:LONGEST])
    return right and password_hash is not None and len(password) <= LONGEST


def made_up() -> str:
    return secrets.token_urlsafe(12)


def check_usable(password: str) -> None:
    """Raise BadArguments for a password that nobody should choose on a page."""
    if len(password) < SHORTEST:
        raise BadArguments(f"This password has {len(password)} characters. Choose one with at least {SHORTEST}.")
    if len(password) > LONGEST:
        raise BadArguments(f"This password is longer than {LONGEST:,} characters. Choose a shorter one.")
