"""Servers that answer oddly: what they say is kept as they said it, and what it means is not guessed."""

import os

import pytest

from flaskapp.mail import actions
from tests.helpers import wait_until
from tests.integration.mail_fixtures import Post, mail_bench, post, server  # noqa: F401 -- fixtures
from tests.mail_server import Server
from tests.odd_server import OddServer

pytestmark = pytest.mark.filterwarnings("ignore:Requiring AUTH while not requiring TLS")


@pytest.mark.parametrize(
    ("verb", "answer", "state", "said"),
    [
        ("connect", b"421 4.7.0 too many connections\r\n", "deferred", "421 4.7.0 too many connections"),
        ("connect", b"554 5.7.1 not you\r\n", "deferred", "554 5.7.1 not you"),
        ("connect", b"what?\r\n", "deferred", "refuses us"),
        ("EHLO", b"500 5.5.1 what?\r\n", "accepted", "250 taken"),
        ("EHLO", b"250-" + b"x" * 9000 + b"\r\n250 fine\r\n", "deferred", "Line too long"),
        ("MAIL", b"552 5.3.4 too large\r\n", "rejected", "552 5.3.4 too large"),
        ("MAIL", b"550 5.7.1 who are you\r\n", "deferred", "550 5.7.1 who are you"),
        ("RCPT", b"452 4.5.3 too many recipients\r\n", "deferred", "452 4.5.3 too many recipients"),
        ("RCPT", b"251 2.1.5 moved, will forward\r\n", "accepted", "250 taken"),
        (
            "RCPT",
            b"550-5.1.1 gr\xfc\xdfe \x07\r\n550 no such person\r\n",
            "rejected",
            "550 5.1.1 gr��e �\nno such person",
        ),
        ("RCPT", b"what?\r\n", "deferred", "-1"),
        ("DATA", b"250 2.0.0 fine\r\n", "deferred", "250 2.0.0 fine"),
        (".", b"552 5.3.4 too large\r\n", "rejected", "552 5.3.4 too large"),
        (".", b"452 4.3.1 disk full\r\n", "deferred", "452 4.3.1 disk full"),
        (".", b"250-2.0.0 taken\r\n250 thank you\r\n", "accepted", "250 2.0.0 taken\nthank you"),
        (".", b"what?\r\n", "unknown", "no answer"),
        (".", b"\r\n", "unknown", "no answer"),
        (".", b"354 more\r\n", "unknown", "354 more"),
        (".", b"250 " + b"x" * 9000 + b"\r\n", "unknown", "Line too long"),
    ],
)
def test_an_odd_answer_is_told_and_not_guessed(post: Post, verb: str, answer: bytes, state: str, said: str):
    with OddServer({verb: answer}) as odd:
        post.set(mail_url=odd.url, mail_timeout_seconds=2.0, mail_retry_seconds=600.0)
        found, reply = post.send("ada@x.example")["ada@x.example"]
        assert (found, said in str(reply)) == (state, True), reply
        assert odd.contents <= 1


def test_what_may_have_arrived_after_an_odd_answer_is_sent_again_by_choice_only(post: Post):
    with OddServer({".": b"what?\r\n"}) as odd:
        post.set(mail_url=odd.url, mail_retry_seconds=0.1)
        message_id = post.write("ada@x.example", "bob@x.example")
        post.until(message_id, "unknown", "unknown")
        assert post.act(actions.retry, message_id) == 0
        assert odd.contents == 2


def test_a_line_that_ends_after_some_letters_keeps_nobody_waiting(post: Post):
    with OddServer({}, most=2) as odd:
        post.set(mail_url=odd.url, mail_retry_seconds=600.0)
        fates = post.send(*(f"a{number}@x.example" for number in range(7)))
        assert [state for state, _ in fates.values()] == ["accepted"] * 7, fates
        assert odd.contents == 7


def test_a_large_mail_on_a_slow_line_is_no_silence(post: Post):
    with OddServer({}, seconds_each=0.06) as odd:
        post.set(mail_url=odd.url, mail_timeout_seconds=0.5, mail_retry_seconds=600.0)
        fates = post.send("ada@x.example", attachments=[("large.bin", os.urandom(19_000_000))])
        assert fates["ada@x.example"] == ("accepted", "250 taken")


def test_a_password_that_cannot_be_sent_is_told_and_not_shown(post: Post):
    with Server(password="right") as locked:
        post.set(mail_url=f"smtp://ada:p%C3%A4ss@127.0.0.1:{locked.port}", mail_retry_seconds=600.0)
        state, reply = post.send("ada@x.example")["ada@x.example"]
        assert (state, reply) == ("deferred", "User and password of MAIL_URL must be ASCII to be sent.")


def test_one_whom_the_server_always_leaves_for_does_not_keep_the_others(post: Post):
    message_id = post.write("never@x.example", "ada@x.example", "bob@y.example")
    wait_until(lambda: (post.bench.run(), post.states(message_id).count("accepted") == 2)[1], 10, "the others got it")
    assert post.fates(message_id)["never@x.example"][0] == "deferred"
