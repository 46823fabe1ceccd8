"""How often passwords may be guessed: per name and per address, counted in this process.

A guess is counted before it is checked, so that a hundred at the same moment are a hundred. The right password
clears its name's count, never its address's.
"""

from ipaddress import IPv6Address, ip_address

from flask import Flask, current_app
from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter
from werkzeug.exceptions import TooManyRequests

MINUTES = 5
PER_NAME = RateLimitItemPerMinute(10, MINUTES, namespace="guess")
PER_ADDRESS = RateLimitItemPerMinute(50, MINUTES, namespace="guess")


def init_app(app: Flask) -> None:
    app.extensions["guessing"] = MovingWindowRateLimiter(MemoryStorage())


def count_guess(name: str, address: str) -> None:
    """Raise TooManyRequests, without looking at the password, once there were too many."""
    limiter: MovingWindowRateLimiter = current_app.extensions["guessing"]
    within = limiter.test(PER_ADDRESS, "address", network(address)) and limiter.hit(PER_NAME, "name", name)
    if not within:
        raise TooManyRequests(
            f"Too many attempts to sign in. Wait {MINUTES} minutes, then try again.", retry_after=MINUTES * 60
        )


def guessed_wrong(address: str) -> None:
    current_app.extensions["guessing"].hit(PER_ADDRESS, "address", network(address))


def guessed_right(name: str) -> None:
    current_app.extensions["guessing"].clear(PER_NAME, "name", name)


def network(address: str) -> str:
    """One IPv6 customer has a whole /64: its addresses count as one."""
    try:
        ip = ip_address(address)
    except ValueError:
        return address
    return ip.exploded[:19] if isinstance(ip, IPv6Address) and ip.ipv4_mapped is None else address
