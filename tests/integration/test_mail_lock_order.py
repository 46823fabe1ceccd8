"""Lanes that close and clear ways at once may wait for each other, but never in a ring."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from flaskapp.extensions import core_session
from flaskapp.mail import delivering, routes
from flaskapp.mail.models import Route
from tests.helpers import wait_until
from tests.integration.mail_fixtures import Post, mail_bench, post, server  # noqa: F401 -- fixtures
from tests.integration.test_lock_order import somebody_waits, tables  # noqa: F401 -- a fixture


def test_ways_are_cleared_by_name(engine: Engine, session: Session) -> None:
    # In the table they stand the other way round.
    for name in ("x.example", routes.SERVER):
        routes.hold(session, name, "451 later", 0)
    session.commit()
    lock(session, routes.SERVER)

    def clear() -> None:
        with core_session(engine) as session, session.begin():
            routes.clear(session, {"x.example", routes.SERVER})

    with ThreadPoolExecutor(1) as pool:
        cleared = pool.submit(clear)
        wait_until(lambda: somebody_waits(engine), 10, "it waits for the way that we hold")
        lock(session, "x.example", nowait=True)
        session.commit()
        cleared.result(30)
    assert routes.pauses(session) == {}


def lock(session: Session, name: str, nowait: bool = False) -> None:
    session.execute(select(Route.name).where(Route.name == name).with_for_update(nowait=nowait)).one()


def test_what_is_known_is_committed_before_a_way_is_closed(post: Post, monkeypatch: pytest.MonkeyPatch) -> None:
    """Committed together with it, it would clear one way while it holds the other."""
    # Each acceptance waits to be committed with the next mail.
    monkeypatch.setattr(delivering, "_QUICK_SECONDS", 30.0)
    seen: list[list[str]] = []
    hold = routes.hold

    def look_and_hold(*way: Any) -> float:
        seen.append(post.states(message_id))
        return hold(*way)

    monkeypatch.setattr(routes, "hold", look_and_hold)
    message_id = post.write("ada@x.example", "leave@y.example")
    post.bench.run()

    assert seen == [["accepted", "queued"]]
