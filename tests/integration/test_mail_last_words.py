"""Cancel and "no more mail" are last words: no road leads back to somebody who is on one of them."""

from typing import Any

import pytest

from flaskapp.extensions import db
from flaskapp.mail import actions
from flaskapp.mail.models import Message
from flaskapp.mail.smtp import Smtp
from flaskapp.mail.transport import NotSent, Reply
from tests.integration.doors_fixtures import Doors, csrf_of, doors  # noqa: F401 -- a fixture
from tests.integration.mail_fixtures import Post, mail_bench, post, server  # noqa: F401 -- fixtures


def told_later(post: Post, meanwhile: Any) -> Any:
    """A server that says "later" to the content; before that, something happens elsewhere."""

    def send(self: Smtp, letter: Any) -> Reply:
        with post.bench.session() as session, session.begin():
            meanwhile(session)
        self.withdraw()
        raise NotSent("451 4.3.0 try later", Reply(451, "4.3.0 try later"))

    return send


def suppress(post: Post, address: str) -> None:
    with post.bench.app.app_context():
        actions.suppress(db.session(), address, "asked to")
        db.session.commit()


def test_who_is_told_later_after_a_cancel_is_not_tried_again(post: Post, monkeypatch: pytest.MonkeyPatch):
    message_id = post.write("ada@x.example", "bob@x.example")
    with monkeypatch.context() as meanwhile:
        cancel = told_later(post, lambda session: actions.cancel(session, session.get_one(Message, message_id)))
        meanwhile.setattr(Smtp, "send", cancel)
        post.bench.run()
    post.until(message_id, "cancelled", "cancelled")
    assert post.inbox.letters == []


def test_the_last_one_who_is_told_later_after_a_cancel_is_not_tried_again(post: Post, monkeypatch: pytest.MonkeyPatch):
    message_id = post.write("ada@x.example")
    with monkeypatch.context() as meanwhile:
        cancel = told_later(post, lambda session: actions.cancel(session, session.get_one(Message, message_id)))
        meanwhile.setattr(Smtp, "send", cancel)
        post.bench.run()
    post.until(message_id, "cancelled")


def test_who_failed_before_a_cancel_can_be_tried_again(post: Post):
    message_id = post.write("no@x.example", "later@x.example", "grey@x.example")
    post.bench.run()
    assert post.act(actions.cancel, message_id) == 2
    assert post.act(actions.retry, message_id) == 1
    post.until(message_id, "rejected", "cancelled", "cancelled")
    assert post.inbox.asked["no@x.example"] == 2


def test_who_wants_no_mail_is_not_tried_again(post: Post):
    message_id = post.write("no@x.example", "no2@x.example")
    post.bench.run()
    suppress(post, "NO@x.example")
    assert post.act(actions.retry, message_id) == 1
    post.until(message_id, "suppressed", "rejected")
    assert post.inbox.asked == {"no@x.example": 1, "no2@x.example": 2}


def test_who_leaves_while_he_is_told_later_gets_nothing_later(post: Post, monkeypatch: pytest.MonkeyPatch):
    message_id = post.write("ada@x.example")
    with monkeypatch.context() as meanwhile:
        leave = told_later(post, lambda session: actions.suppress(session, "ada@x.example", "asked to"))
        meanwhile.setattr(Smtp, "send", leave)
        post.bench.run()
    post.until(message_id, "suppressed")
    assert post.inbox.letters == []


def test_a_message_that_nobody_got_is_not_called_sent(post: Post):
    suppress(post, "ada@x.example")
    message_id = post.write("ada@x.example")
    script = Doors(post.bench.app).script()
    post.change(message_id, owner="ada")
    assert script.get(f"/messages/{message_id}").json["state"] == "not sent"


def test_the_answer_to_a_retry_counts_what_its_button_names(post: Post):
    message_id = post.write("no@x.example", "later@x.example")
    post.bench.run()
    post.change(message_id, owner="ada")
    ada = Doors(post.bench.app).signed_in()
    page = f"/mail/{message_id}"
    assert "Retry the 1 that failed" in ada.get(page).text
    fields = {"verb": "retry", "csrf_token": csrf_of(ada, page)}
    assert "Sending again to 1." in ada.post(f"{page}/steer", data=fields, follow_redirects=True).text
