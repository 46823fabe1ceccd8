"""A small made-up table to try the page with: ferry crossings of one year, three of its rows deliberately bad."""

import random
from collections.abc import Iterator
from datetime import date, timedelta

NAME = "ferry crossings.csv"
_ROUTES = ("Harbour–Island", "Island–Lighthouse", "Harbour–Mainland", "Mainland–Old Mill")
_SKIES = ("clear", "cloudy", "rain", "fog")


def lines() -> Iterator[bytes]:
    """The same table every time."""
    chance = random.Random(7)  # noqa: S311 -- a picture of data, not a secret
    yield b"date,route,sky,passengers,delay_minutes,ticket_income\n"
    for day in range(365):
        for route in _ROUTES:
            on = date(2026, 1, 1) + timedelta(days=day)
            passengers = int(chance.gauss(140 + 60 * (on.month in (6, 7, 8)), 35))
            delay = "" if chance.random() < 0.02 else f"{max(0, chance.gauss(4, 6)):.1f}"
            sky = chance.choices(_SKIES, (5, 4, 2, 1))[0]
            yield f"{on},{route},{sky},{passengers},{delay},{passengers * 6.5:.2f}\n".encode()
    yield "2026-12-31,Harbour–Island,clear,many,3.0,0\n".encode()
    yield "2026-12-31,Harbour–Island,clear,120\n".encode()
    yield "soon,Harbour–Mainland,fog,80,12.5,520.00\n".encode()
