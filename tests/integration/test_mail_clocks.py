"""What mail does with time: until when it may be sent, which date it bears, and how long a way is closed."""

from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import update

from flaskapp.extensions import db
from flaskapp.jobs.clock import seconds_from_now
from flaskapp.mail import actions, routes, tasks
from flaskapp.mail.models import Message, Route
from tests.integration.mail_fixtures import Post, mail_bench, post, server  # noqa: F401 -- fixtures


def later(seconds: float) -> datetime:
    return datetime.now(UTC) + timedelta(seconds=seconds)


def expiry(_: Any, message: Message) -> datetime:
    return message.expires_at


def test_a_pause_stops_the_clock_of_what_is_late(post: Post):
    message_id = post.write("ada@x.example", expires_at=later(60))
    post.act(actions.pause, message_id)
    # Paused for an hour, and over for most of it.
    post.change(message_id, paused_at=seconds_from_now(-3600), send_at=seconds_from_now(-3605))
    post.change(message_id, expires_at=seconds_from_now(-3540))
    with post.bench.app.app_context():
        tasks.sweep()
        db.session.commit()
    assert post.states(message_id) == ["queued"]
    post.act(actions.resume, message_id)
    post.until(message_id, "accepted")


def test_a_pause_before_its_time_makes_nothing_longer(post: Post):
    message_id = post.write("ada@x.example", send_at=later(600), expires_at=later(660))
    before = post.act(expiry, message_id)
    post.act(actions.pause, message_id)
    post.change(message_id, paused_at=seconds_from_now(-3600))
    post.act(actions.resume, message_id)
    assert post.act(expiry, message_id) == before


def test_a_mail_for_later_has_the_date_at_which_it_goes(post: Post):
    message_id = post.write("ada@x.example")
    post.change(message_id, created_at=seconds_from_now(-30 * 86_400))
    post.until(message_id, "accepted")
    sent = post.inbox.of("ada@x.example")[0]["Date"].datetime
    assert abs((sent - datetime.now(UTC)).total_seconds()) < 60


def test_two_who_meet_the_same_trouble_close_the_way_once(post: Post):
    with post.bench.app.app_context():
        pauses = [routes.hold(db.session(), routes.SERVER, "421 closing", 50) for _ in range(4)]
        db.session.commit()
    assert pauses[0] == 50
    assert all(45 < pause <= 50 for pause in pauses)


def test_a_way_is_clear_again_once_something_went_that_way(post: Post):
    with post.bench.app.app_context():
        routes.hold(db.session(), "slow.example", "451 later", 0)
        routes.hold(db.session(), routes.SERVER, "421 closing", 0)
        db.session.commit()

    def struck() -> set[str]:
        with post.bench.app.app_context():
            return set(routes.pauses(db.session()))

    post.send("ada@x.example")
    assert struck() == {"slow.example"}
    post.send("ada@slow.example")
    assert struck() == set()


def test_a_clock_that_went_back_closes_no_way(post: Post):
    post.set(mail_rate=50.0)
    with post.bench.app.app_context():
        routes.hold(db.session(), routes.SERVER, "421 closing", 0)
        values = {"held_until": seconds_from_now(3600), "next_at": seconds_from_now(3600)}
        db.session.execute(update(Route).values(**values))
        db.session.commit()
    post.until(post.write("ada@x.example"), "accepted")
    with post.bench.app.app_context():
        assert routes.pauses(db.session()) == {}


def test_who_waits_for_his_own_time_does_not_wait_for_a_closed_domain(post: Post):
    with post.bench.app.app_context():
        routes.hold(db.session(), "slow.example", "451 later", 50)
        db.session.commit()
    post.until(post.write("ada@slow.example", "grey@x.example"), "queued", "accepted")


def test_a_planned_stop_finds_nobody_half_sent(post: Post):
    # Two seconds of mail; a worker that is told to stop waits for one.
    post.set(stop_seconds=1.0)
    post.inbox.silence = 0.25
    message_id = post.write(*(f"slow-after@{number}.example" for number in range(8)))
    post.until(message_id, *["accepted"] * 8)
    assert post.inbox.connections >= 2, "one attempt sent all of it"
