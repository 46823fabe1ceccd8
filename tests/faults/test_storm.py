"""A short storm of a fixed seed; `make storm` is the long one."""

from pathlib import Path

import pytest

from tests.acceptance.conftest import Stack
from tests.faults.crew import Crew
from tests.faults.ledger import Count, Ledger
from tests.faults.storm import storm
from tests.faults.weather import BigWeather, SmallWeather, Weather
from tests.helpers import Nudges

SECONDS, REQUESTS, SEED = 20, 200, 11


@pytest.mark.timeout(600)
def test_a_short_storm_loses_and_doubles_nothing(
    stack: Stack, request: pytest.FixtureRequest, ledger: Ledger, tmp_path: Path
) -> None:
    stack.celery.relay = Nudges()

    def weather(crew: Crew, chance) -> Weather:  # type: ignore[no-untyped-def]
        if stack.name == "SQLite and folder":
            return SmallWeather(crew, chance)
        return BigWeather(crew, chance, request.getfixturevalue("rabbitmq"), request.getfixturevalue("postgresql"))

    report = storm(stack, SEED, SECONDS, REQUESTS, weather)

    ledger.counts["a storm of all of these, for 20 s", stack.name] = Count(
        report.jobs, len(report.lost), len(report.doubled)
    )
    assert report.is_clean, (report.lost[:10], report.doubled[:10], report.failed[:10])
    assert sum(report.faults.values()) > 0
