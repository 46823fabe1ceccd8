"""Pressed twice is sent once: on a slow line people press again, and each press arrives."""

import io
import re
from threading import Barrier, Thread
from typing import Any

from sqlalchemy import func, select

from flaskapp.jobs.models import Job
from flaskapp.mail.models import Message
from tests.integration.doors_fixtures import Doors
from tests.integration.mail_fixtures import Post, mail_bench, post, server  # noqa: F401 -- fixtures
from tests.integration.test_mail_merge import upload


def fields_of(page: str) -> dict[str, str]:
    """What the page sends unseen."""
    return dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', page))


def counts(post: Post) -> tuple[int, int]:
    """How many messages, and how many jobs that have yet to run."""
    with post.bench.session() as session:
        messages = session.scalar(select(func.count()).select_from(Message))
        return messages or 0, len([job for job in session.scalars(select(Job)) if not job.finished_at])


def test_a_message_is_sent_once_however_often_its_button_is_pressed(post: Post):
    ada = Doors(post.bench.app).signed_in("ada")
    hidden = fields_of(ada.get("/mail/new").text)

    def press(**more: Any) -> str:
        files = {"attachments": (io.BytesIO(b"a,b\n"), "t.csv")}
        words = {"to": "ada@x.example", "subject": "Hello", "text": "Dear reader"}
        answer = ada.post("/mail/new", data={**hidden, **words, "verb": "send", **files, **more})
        assert answer.status_code == 303
        return str(answer.location)

    first = press()
    assert press() == first
    assert counts(post) == (1, 1)
    # Who goes back and changes it means another one.
    assert press(to="bob@x.example") != first
    assert counts(post) == (2, 2)


def test_a_merge_is_sent_once_however_often_its_button_is_pressed(post: Post):
    ada = Doors(post.bench.app).signed_in("ada")
    upload_id = upload(post, ada)
    hidden = fields_of(ada.get(f"/mail/merge?upload={upload_id}").text)
    words = {"column": "e_mail", "subject": "Hello", "text": "Dear {{ first_name }}", "verb": "send"}
    places = {ada.post("/mail/merge", data={**hidden, **words}).location for _ in range(2)}
    assert (len(places), counts(post)) == (1, (1, 1))


def test_two_presses_that_arrive_at_the_same_moment_are_one(post: Post):
    doors = Doors(post.bench.app)
    ada = doors.signed_in("ada")
    hidden = fields_of(ada.get("/mail/new").text)
    words = {"to": "ada@x.example", "subject": "Hello", "text": "Dear reader", "verb": "send"}
    cookie = ada.get_cookie(name := post.bench.app.config["SESSION_COOKIE_NAME"])
    assert cookie is not None
    start, answers = Barrier(4), []

    def press() -> None:
        browser = doors.browser()
        browser.set_cookie(name, cookie.value)
        start.wait(10)
        answers.append(browser.post("/mail/new", data={**hidden, **words}))

    presses = [Thread(target=press) for _ in range(4)]
    for one in presses:
        one.start()
    for one in presses:
        one.join(30)
    assert [answer.status_code for answer in answers] == [303] * 4
    assert (len({answer.location for answer in answers}), counts(post)) == (1, (1, 1))


def test_the_key_of_another_page_finds_nothing_of_it(post: Post):
    doors = Doors(post.bench.app)
    ada, eve = doors.signed_in("ada"), doors.signed_in("eve")
    key = fields_of(ada.get("/mail/new").text)["key"]
    words = {"to": "ada@x.example", "subject": "Hello", "text": "Dear reader", "verb": "send", "key": key}
    places = set()
    for browser in (ada, eve):
        answer = browser.post(
            "/mail/new", data={**words, **{"csrf_token": fields_of(browser.get("/mail/new").text)["csrf_token"]}}
        )
        assert answer.status_code == 303
        places.add(answer.location)
    assert (len(places), counts(post)[0]) == (2, 2)
