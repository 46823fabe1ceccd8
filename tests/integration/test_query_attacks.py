"""The table of attacks, on each database: every one is held off, and nothing has changed."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from flask import Flask

from flaskapp.extensions import db
from flaskapp.query.attacks import Attack
from flaskapp.query.safety import Outcome, attacks_here, attempt
from tests.integration.doors_fixtures import Doors
from tests.integration.query_fixtures import doors, site  # noqa: F401


def _counts(app: Flask) -> dict[str, int]:
    with app.app_context(), db.engine.connect() as connection:
        return {
            table.name: connection.execute(db.select(db.func.count()).select_from(table)).scalar_one()
            for table in db.metadata.sorted_tables
        }


@pytest.mark.parametrize("role", ["viewer", "operator"])
def test_every_attack_is_held_off(site: Flask, doors: Doors, role: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # Enough to see what would not end.
    monkeypatch.setattr("flaskapp.query.safety.SECONDS", 1.0)
    owner = doors.account(f"mallory_{role}", role)
    before = _counts(site)

    def try_one(attack: Attack) -> Outcome:
        with site.app_context():
            return attempt(attack, owner, role == "operator")

    with site.app_context():
        attacks = attacks_here()
    with ThreadPoolExecutor(4) as pool:
        outcomes = list(pool.map(try_one, attacks))
    let_through = [(each.attack.name, each.attack.sql[:80], each.words) for each in outcomes if not each.held_off]
    assert let_through == []
    assert [each for each in outcomes if each.seconds > 12] == []
    assert _counts(site) == before
    assert not Path("/tmp/offload-attack").exists()
