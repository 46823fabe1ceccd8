"""Mail to a real SMTP server: who got it, what the server said, and what is left when something breaks."""

import socket
import ssl
import time
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, select, update

from flaskapp.errors import BadArguments
from flaskapp.extensions import db
from flaskapp.jobs import lifecycle
from flaskapp.jobs.clock import seconds_from_now
from flaskapp.jobs.models import Job, JobState
from flaskapp.mail import actions, routes
from flaskapp.mail.models import Attachment, Message, Recipient
from flaskapp.mail.smtp import Smtp
from tests.helpers import wait_until
from tests.integration.doors_fixtures import Doors
from tests.integration.mail_fixtures import Post, mail_bench, post, server  # noqa: F401 -- fixtures
from tests.mail_server import Server

pytestmark = pytest.mark.filterwarnings("ignore:Requiring AUTH while not requiring TLS")


# --- who got it -------------------------------------------------------------------------------------------


def test_each_recipient_has_a_row_with_the_servers_own_words(post: Post):
    message_id = post.write("ada@x.example", "no@x.example", "later@x.example", "full@x.example", "Bob <bob@y.example>")
    post.bench.run()
    assert post.fates(message_id) == {
        "ada@x.example": ("accepted", "250 2.0.0 taken as 1"),
        "no@x.example": ("rejected", "550 5.1.1 no such person"),
        "later@x.example": ("deferred", "451 4.3.0 try later"),
        "full@x.example": ("rejected", "554 5.6.0 not this"),
        "bob@y.example": ("accepted", "250 2.0.0 taken as 2"),
    }
    (letter,) = post.inbox.of("bob@y.example")
    assert (letter["To"], letter["Subject"], letter.get_content()) == ("Bob <bob@y.example>", "Hello", "Dear reader\n")
    assert "Bcc" not in letter
    assert post.inbox.connections == 1


def test_the_message_id_is_stable_and_each_recipients_own(post: Post):
    message_id = post.write("grey@x.example", "ada@x.example")
    post.until(message_id, "accepted", "accepted")
    ids = {to: post.inbox.of(to)[0]["Message-ID"] for to in ("grey@x.example", "ada@x.example")}
    assert ids == {"grey@x.example": f"<0.{message_id}@localhost>", "ada@x.example": f"<1.{message_id}@localhost>"}


def test_who_is_told_later_gets_it_later(post: Post):
    message_id = post.write("grey@x.example")
    post.bench.run()
    assert post.states(message_id) == ["deferred"]
    post.until(message_id, "accepted")
    assert post.inbox.asked == {"grey@x.example": 2}


def test_a_server_that_leaves_in_the_middle_is_left_alone_for_a_while(post: Post):
    post.set(mail_retry_seconds=20.0)
    message_id = post.write("ada@x.example", "leave@x.example", "bob@x.example")
    post.bench.run()
    assert post.states(message_id) == ["accepted", "deferred", "queued"]
    with post.bench.session() as session:
        assert "421 4.3.2 closing" in str(routes.troubled(session)[0].reason)
    post.until(message_id, "accepted", "accepted", "accepted")
    assert post.inbox.counts() == {"ada@x.example": 1, "leave@x.example": 1, "bob@x.example": 1}


def test_a_line_that_breaks_before_the_content_costs_nothing(post: Post):
    message_id = post.write("cut-before@x.example")
    post.until(message_id, "accepted")
    assert post.inbox.counts() == {"cut-before@x.example": 1}


def test_a_line_that_breaks_after_the_content_leaves_unknown(post: Post):
    message_id = post.write("cut-after@x.example", "ada@x.example")
    post.until(message_id, "unknown", "accepted")
    assert post.act(actions.retry, message_id) == 0
    assert post.inbox.counts() == {"cut-after@x.example": 1, "ada@x.example": 1}


def test_unknown_is_sent_again_only_if_twice_is_better_than_never(post: Post):
    message_id = post.write("cut-after@x.example", at_least_once=True)

    def twice() -> bool:
        post.bench.run()
        return post.inbox.counts()["cut-after@x.example"] >= 2

    wait_until(twice, 10, "it is sent again")
    assert len({letter["Message-ID"] for letter in post.inbox.of("cut-after@x.example")}) == 1
    post.act(actions.cancel, message_id)


def test_silence_is_bounded(post: Post):
    post.set(mail_timeout_seconds=0.5)
    message_id = post.write("slow@x.example", "slow-after@x.example")
    began = time.monotonic()
    post.bench.run()
    assert time.monotonic() - began < 5
    fates = post.fates(message_id)
    assert fates["slow@x.example"][0] == "deferred"
    assert "silent for too long" in str(fates["slow@x.example"][1])
    post.act(actions.cancel, message_id)


def test_silence_after_the_content_leaves_unknown(post: Post):
    post.set(mail_timeout_seconds=0.5)
    assert post.send("slow-after@x.example")["slow-after@x.example"][0] == "unknown"


def test_a_domain_that_says_later_again_and_again_does_not_hold_up_the_others(post: Post):
    post.set(mail_retry_seconds=600.0)
    slow = [f"later{number}@slow.example" for number in range(12)]
    message_id = post.write(*slow, "ada@x.example")
    post.bench.run()
    assert post.inbox.counts() == {"ada@x.example": 1}
    # After five of them nobody there is asked for a while.
    assert sum(post.inbox.asked[to] for to in slow) == 5
    assert post.states(message_id)[5:] == [*["queued"] * 7, "accepted"]


# --- doors that do not open -------------------------------------------------------------------------------


def test_nobody_at_the_door_is_no_recipients_fault(post: Post):
    post.set(mail_url="smtp://127.0.0.1:9", mail_retry_seconds=600.0)
    message_id = post.write("ada@x.example", "bob@x.example")
    post.bench.run()
    fates = post.fates(message_id)
    assert fates["ada@x.example"] == ("deferred", "The mail server cannot be reached: Connection refused.")
    assert fates["bob@x.example"] == ("queued", None)


def test_a_wrong_password_is_told_and_not_shown(post: Post):
    with Server(password="right") as locked:
        post.set(mail_url=f"smtp://ada:wr0ng-secret@127.0.0.1:{locked.port}", mail_retry_seconds=600.0)
        fates = post.send("ada@x.example")
        assert fates["ada@x.example"][0] == "deferred"
        assert "535" in str(fates["ada@x.example"][1])
        assert "wr0ng" not in str(fates)
        post.set(mail_url=f"smtp://ada:right@127.0.0.1:{locked.port}", mail_retry_seconds=0.1)
        with post.bench.engine.begin() as connection:
            connection.execute(update(routes.Route).values(held_until=seconds_from_now(-1)))
            connection.execute(update(Recipient).values(next_at=seconds_from_now(-1)))
        (job,) = post.bench.jobs()
        post.bench.make_due(job.id)
        post.bench.run()
        assert locked.inbox.counts() == {"ada@x.example": 1}


@pytest.mark.parametrize("scheme", ["smtp", "smtps"])
def test_only_a_good_certificate_opens_the_line(
    post: Post, tls: ssl.SSLContext, certificate: Path, scheme: str, monkeypatch: pytest.MonkeyPatch
):
    with Server(tls=tls, from_the_start=scheme == "smtps") as secure:
        post.set(mail_url=f"{scheme}://127.0.0.1:{secure.port}", mail_retry_seconds=0.2)
        message_id = post.write("ada@x.example")
        post.bench.run()
        ((state, reply),) = post.fates(message_id).values()
        assert (state, secure.inbox.letters) == ("deferred", [])
        assert "self-signed certificate" in str(reply)
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        post.until(message_id, "accepted")


def test_nothing_waits_in_the_line_for_an_answer_to_what_went_before(post: Post, monkeypatch: pytest.MonkeyPatch):
    """Nagle's algorithm and a delayed acknowledgement would cost 40 ms a mail."""
    usual, writes = Smtp.send, []

    def send(self: Any, letter: Any) -> Any:
        line = self._client.sock
        assert line.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        self._client.sock = Line(line)
        try:
            return usual(self, letter)
        finally:
            self._client.sock = line

    class Line:
        def __init__(self, line: socket.socket) -> None:
            self._line = line

        def sendall(self, content: bytes) -> None:
            writes.append(bytes(content[-5:]))
            self._line.sendall(content)

    monkeypatch.setattr(Smtp, "send", send)
    post.send("ada@x.example", text="x" * 200_000)
    assert writes == [b"ATA\r\n", b"\r\n.\r\n"], "a command and a content are one write each"


def test_a_server_elsewhere_must_offer_tls(post: Post, monkeypatch: pytest.MonkeyPatch):
    post.set(mail_url=f"{post.server.url}?tls=required", mail_retry_seconds=600.0)
    fates = post.send("ada@x.example")
    assert fates["ada@x.example"] == ("deferred", "The mail server offers no TLS. Use smtps://, or MAIL_URL=…?tls=off.")
    assert post.inbox.letters == []


# --- people steer -----------------------------------------------------------------------------------------


def test_a_message_for_later_waits_as_a_row(post: Post):
    message_id = post.write("ada@x.example", send_at=post.bench.clock().replace(year=2031))
    post.bench.run()
    assert (post.states(message_id), post.inbox.letters) == (["queued"], [])
    assert [job.state for job in post.bench.jobs()] == [JobState.WAITING]


def test_a_paused_message_goes_on_where_it_was(post: Post):
    message_id = post.write("ada@x.example")
    assert post.act(actions.pause, message_id)
    post.bench.run()
    assert post.states(message_id) == ["queued"]
    assert post.act(actions.resume, message_id)
    post.bench.run()
    assert (post.states(message_id), len(post.inbox.letters)) == (["accepted"], 1)


def test_a_pause_in_the_middle_stops_before_the_next(post: Post, monkeypatch: pytest.MonkeyPatch):
    message_id = post.write("ada@x.example", "bob@x.example", "cy@x.example")
    usual = Smtp.offer

    def offer(self: Any, letter: Any) -> None:
        if letter.recipient == "bob@x.example":
            with post.bench.session() as session, session.begin():
                session.execute(update(Message).values(paused_at=seconds_from_now(0)))
        usual(self, letter)

    monkeypatch.setattr(Smtp, "offer", offer)
    post.bench.run()
    assert post.states(message_id) == ["accepted", "queued", "queued"]
    monkeypatch.undo()
    post.act(actions.resume, message_id)
    post.bench.run()
    assert post.inbox.counts() == {"ada@x.example": 1, "bob@x.example": 1, "cy@x.example": 1}


def test_a_cancelled_message_reaches_nobody_else(post: Post):
    message_id = post.write("ada@x.example", "later@x.example")
    post.bench.run()
    assert post.act(actions.cancel, message_id) == 1
    assert post.states(message_id) == ["accepted", "cancelled"]


def test_a_message_that_is_cancelled_long_before_its_time_leaves_no_job_waiting(post: Post):
    message_id = post.write("ada@x.example", send_at=post.bench.clock().replace(year=2031))
    assert post.act(actions.cancel, message_id) == 1
    post.bench.run()
    assert [job.state for job in post.bench.jobs()] == [JobState.SUCCEEDED]
    assert (post.states(message_id), post.inbox.letters) == (["cancelled"], [])


def test_cancelling_its_job_pauses_the_message_until_somebody_runs_it_again(post: Post):
    boss = Doors(post.bench.app).script("boss", "operator")
    message_id = post.write("ada@x.example", "grey@x.example")
    post.bench.run()
    (job,) = post.bench.jobs()
    assert boss.post(f"/jobs/{job.id}/cancel").status_code == 202
    post.bench.submit("mail.sweep")
    post.bench.run()
    shown = boss.get(f"/messages/{message_id}").json
    assert (shown["counts"], shown["stopped_job_id"]) == ({"accepted": 1, "deferred": 1}, job.id)
    assert shown["paused_at"] is not None
    assert "was cancelled" in Doors(post.bench.app).signed_in("boss").get(f"/mail/{message_id}").text
    assert boss.post(f"/jobs/{job.id}/run-again").status_code == 202
    post.until(message_id, "accepted", "accepted")
    assert post.inbox.counts() == {"ada@x.example": 1, "grey@x.example": 1}
    assert boss.get(f"/messages/{message_id}").json["stopped_job_id"] is None


def test_cancelling_the_job_of_one_lane_stops_the_others_and_running_it_again_starts_them(post: Post):
    with post.bench.app.app_context():
        message = actions.write(["ada@x.example", "bob@x.example"], "Hello", "Dear both")
        message.lanes = 2
        actions.start(db.session(), message)
        message_id = message.id
        db.session.commit()
    first, second = post.bench.jobs()
    with post.bench.session() as session, session.begin():
        assert lifecycle.cancel(session, first.id, by="ada")
        assert not lifecycle.cancel(session, first.id, by="ada")
    post.bench.run()
    assert (post.states(message_id), post.inbox.letters) == (["queued", "queued"], [])
    assert post.bench.state(second.id) == JobState.SUCCEEDED
    with post.bench.session() as session, session.begin():
        assert lifecycle.run_again(session, first.id)
    post.bench.run()
    assert post.states(message_id) == ["accepted", "accepted"]


def test_a_job_cancelled_in_the_middle_sends_to_nobody_else(post: Post, monkeypatch: pytest.MonkeyPatch):
    message_id = post.write("ada@x.example", "bob@x.example", "cy@x.example")
    usual = Smtp.offer

    def offer(self: Any, letter: Any) -> None:
        if letter.recipient == "bob@x.example":
            with post.bench.session() as session, session.begin():
                assert lifecycle.cancel(session, post.bench.jobs()[0].id, by="ada")
        usual(self, letter)

    monkeypatch.setattr(Smtp, "offer", offer)
    post.bench.run()
    monkeypatch.undo()
    post.bench.submit("mail.sweep")
    post.bench.run()
    # Ada's answer was to be committed with what the fence refused: nobody here knows it any more.
    assert post.states(message_id) == ["unknown", "queued", "queued"]
    post.act(actions.resume, message_id)
    post.bench.run()
    assert post.inbox.counts() == {"ada@x.example": 1, "bob@x.example": 1, "cy@x.example": 1}


def test_what_is_late_expires(post: Post):
    message_id = post.write("later@x.example")
    post.bench.run()
    post.change(message_id, expires_at=seconds_from_now(-1))
    post.until(message_id, "expired")


def test_only_the_failed_are_tried_again(post: Post):
    message_id = post.write("ada@x.example", "no@x.example")
    post.bench.run()
    assert post.act(actions.retry, message_id) == 1
    assert post.states(message_id) == ["accepted", "queued"]
    post.bench.run()
    assert post.inbox.asked == {"ada@x.example": 1, "no@x.example": 2}


def test_who_wants_no_mail_gets_none(post: Post):
    message_id = post.write("ada@x.example", "Bob@x.example")
    with post.bench.app.app_context():
        assert actions.suppress(db.session(), "bob@x.example", "asked to")
        db.session.commit()
    post.bench.run()
    assert post.states(message_id) == ["accepted", "suppressed"]
    assert post.send("bob@x.example")["bob@x.example"][0] == "suppressed"


def test_a_message_whose_job_is_gone_goes_on(post: Post):
    message_id = post.write("ada@x.example")
    with post.bench.engine.begin() as connection:
        connection.execute(delete(Job))
    post.bench.submit("mail.sweep")
    post.bench.run()
    assert (post.states(message_id), len(post.inbox.letters)) == (["accepted"], 1)


def test_what_nobody_holds_any_more_becomes_unknown(post: Post):
    message_id, wanted = post.write("ada@x.example"), post.write("bob@x.example", at_least_once=True)
    with post.bench.engine.begin() as connection:
        connection.execute(delete(Job))
        connection.execute(update(Recipient).values(state="sending", job_id="gone", attempt=1))
    post.bench.submit("mail.sweep")
    post.bench.run()
    assert (post.states(message_id), post.states(wanted)) == (["unknown"], ["accepted"])
    assert post.inbox.counts() == {"bob@x.example": 1}


def test_a_rate_holds_whoever_sends(post: Post):
    post.set(mail_domain_rate=4.0)
    began = time.monotonic()
    fates = post.send(*(f"a{n}@slow.example" for n in range(4)), *(f"b{n}@x.example" for n in range(4)))
    took = time.monotonic() - began
    assert {state for state, _ in fates.values()} == {"accepted"}
    # Four to each domain, a quarter of a second apart; the domains do not wait for each other.
    assert took >= 0.75
    order = [domain for _, domain in post.inbox.taken]
    assert order[:4] != ["slow.example"] * 4


# --- what is written --------------------------------------------------------------------------------------


def test_an_attachment_lies_in_storage_once(post: Post):
    for _ in range(2):
        post.send("ada@x.example", attachments=[("../täble.csv", b"a,b\n1,2\n")])
    with post.bench.session() as session:
        assert len({one.file_id for one in session.scalars(select(Attachment))}) == 1
    kept = post.bench.app.extensions["mail_storage"].kept
    assert len(list(kept.iterdir())) == 1
    (attachment,) = post.inbox.of("ada@x.example")[0].iter_attachments()
    assert (attachment.get_filename(), attachment.get_content_type()) == ("täble.csv", "text/csv")
    assert attachment.get_payload(decode=True) == b"a,b\n1,2\n"


def test_an_attachment_that_cannot_be_read_now_is_no_recipients_fault(post: Post):
    post.set(mail_retry_seconds=0.1)
    message_id = post.write("ada@x.example", attachments=[("table.csv", b"a,b\n1,2\n")])
    kept = post.bench.app.extensions["mail_storage"].kept
    away = kept.rename(kept.with_name("away"))
    post.bench.run()
    reply = "An attachment cannot be read: No such file or directory."
    assert post.fates(message_id)["ada@x.example"] == ("deferred", reply)
    away.rename(kept)
    post.until(message_id, "accepted")


def test_dots_and_bare_line_ends_stay_text(post: Post):
    body = "one\n.\nMAIL FROM:<evil@x>\r.\rtwo\r\n..three\n.four"
    post.send("ada@x.example", text=body, subject="Grüße, 報告")
    (letter,) = post.inbox.of("ada@x.example")
    assert letter.get_content().split("\n") == ["one", ".", "MAIL FROM:<evil@x>", ".", "two", "..three", ".four", ""]
    assert letter["Subject"] == "Grüße, 報告"
    assert len(post.inbox.letters) == 1


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("to", ["ada@x.example\r\nBcc: v@x.example"]),
        ("to", ["ada@x.example, bob@x.example"]),
        ("to", ["ada@x.example\0"]),
        ("to", ["Team: ada@x.example;"]),
        ("to", ["ada"]),
        ("to", ["<ada@x.example> SIZE=1"]),
        ("to", ["ada@x..example"]),
        ("to", ["a b@x.example"]),
        ("to", ["ada@[127.0.0.1]"]),
        ("to", []),
        ("to", [None]),
        ("subject", "Hello\r\nBcc: v@x.example"),
        ("subject", "Hello\x85Bcc: v@x.example"),
        ("subject", "  "),
        ("text", "\0"),
        ("text", "\ud800"),
        ("html", "\udfff"),
        ("text", ""),
    ],
)
def test_what_could_become_a_header_or_a_command_is_refused(post: Post, field: str, value: Any):
    fields: dict[str, Any] = {"to": ["ada@x.example"], "subject": "Hello", "text": "Dear reader", field: value}
    with post.bench.app.app_context(), pytest.raises(BadArguments):
        actions.write(**fields)


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ('"Lovelace, Ada" <ada@x.example>', '"Lovelace, Ada" <ada@x.example>'),
        ("Ada “the first” <ada@x.example>", "Ada “the first” <ada@x.example>"),
        (r'"Ada \"Countess\"" <ada@x.example>', r'"Ada \"Countess\"" <ada@x.example>'),
    ],
)
def test_display_names_arrive_as_they_were_written(post: Post, written: str, shown: str):
    post.send(written)
    (letter,) = post.inbox.of("ada@x.example")
    assert str(letter["To"]) == shown
    assert len(letter["To"].addresses) == 1


# --- over HTTP --------------------------------------------------------------------------------------------


def test_a_script_writes_mail_and_reads_who_got_it(post: Post):
    doors = Doors(post.bench.app)
    ada, eve, boss = doors.script("ada"), doors.script("eve"), doors.script("boss", "operator")
    answer = ada.post("/messages", {"to": ["ada@x.example", "no@x.example"], "subject": "Hello", "text": "Dear both"})
    assert answer.status_code == 202, answer.text
    post.bench.run()
    shown = ada.get(f"/messages/{answer.json['id']}").json
    assert shown["recipients"] == [
        {"address": "ada@x.example", "state": "accepted", "reply": "250 2.0.0 taken as 1"},
        {"address": "no@x.example", "state": "rejected", "reply": "550 5.1.1 no such person"},
    ]
    assert shown["counts"] == {"accepted": 1, "rejected": 1}
    assert eve.get(f"/messages/{answer.json['id']}").status_code == 404
    assert eve.post(f"/messages/{answer.json['id']}/retry").status_code == 404
    assert [len(one.get("/messages").json["items"]) for one in (ada, eve, boss)] == [1, 0, 1]
    assert ada.post(f"/messages/{answer.json['id']}/cancel").status_code == 409
    assert ada.post(f"/messages/{answer.json['id']}/retry").json["counts"] == {"queued": 1, "accepted": 1}


def test_a_header_in_a_subject_is_refused_in_a_sentence(post: Post):
    answer = (
        Doors(post.bench.app)
        .script()
        .post("/messages", {"to": ["ada@x.example"], "subject": "Hi\r\nBcc: v@x.example", "text": "x"})
    )
    assert (answer.status_code, "line break" in answer.json["detail"]) == (422, True)
    assert post.bench.jobs() == []


def test_fifty_thousand_recipients_are_one_request(post: Post):
    to = [f"reader{number}@x{number % 50}.example" for number in range(50_000)]
    began = time.monotonic()
    answer = (
        Doors(post.bench.app)
        .script()
        .post("/messages", {"to": to, "subject": "Hi", "text": "x", "send_at": "2031-01-01T00:00:00Z"})
    )
    assert answer.status_code == 202, answer.text
    assert answer.json["counts"] == {"queued": 50_000}
    assert time.monotonic() - began < 20
