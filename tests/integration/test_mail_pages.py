"""The pages of mail: what is typed becomes a message, every number opens its list, nobody sees others' mail."""

import csv
import io
import re
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import delete, inspect
from werkzeug.test import TestResponse

from flaskapp.extensions import db
from flaskapp.jobs.models import Job
from flaskapp.mail import actions, markdown, queries
from flaskapp.mail.forms import split_addresses
from flaskapp.mail.markdown import rendered
from tests.integration.doors_fixtures import Doors, csrf_of
from tests.integration.mail_fixtures import Post, mail_bench, post, server  # noqa: F401 -- fixtures


@pytest.fixture
def doors(post: Post) -> Doors:
    return Doors(post.bench.app)


def compose(browser: FlaskClient, **fields: Any) -> TestResponse:
    form = {"to": "ada@x.example", "subject": "Hello", "text": "Dear **reader**", "verb": "send", **fields}
    return browser.post("/mail/new", data={"csrf_token": csrf_of(browser, "/mail/new"), **form})


def steer(browser: FlaskClient, place: str, verb: str) -> TestResponse:
    form = {"csrf_token": csrf_of(browser, "/mail/new"), "verb": verb}
    return browser.post(f"{place}/steer", data=form, follow_redirects=True)


def counters(page: TestResponse) -> dict[str, tuple[str, str]]:
    """State → (number, address of its list)."""
    found = re.findall(r'<a class="mail-count[^>]*href="([^"]+)"[^>]*>.*?<b>([\d,]+)</b> (\w+)</a>', page.text)
    return {state: (number, href.replace("&amp;", "&")) for href, number, state in found}


def test_what_is_typed_is_sent_with_its_attachment(post: Post, doors: Doors):
    ada = doors.signed_in("ada")
    answer = compose(ada, to="ada@x.example, Bob <bob@x.example>", attachments=(io.BytesIO(b"a,b\n1,2\n"), "t.csv"))
    assert answer.status_code == 303, answer.text
    post.bench.run()
    (letter,) = post.inbox.of("bob@x.example")
    assert letter.get_body(("plain",)).get_content() == "Dear **reader**\n"
    assert "<p>Dear <strong>reader</strong></p>" in letter.get_body(("html",)).get_content()
    assert [part.get_filename() for part in letter.iter_attachments()] == ["t.csv"]
    page = ada.get(answer.location)
    assert "250 2.0.0 taken as 1" in page.text
    assert counters(page)["accepted"][0] == "2"


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("2031-01-31T08:00", "2031-01-31T07:00:00"),
        # The clock jumps from 2 to 3 on this night, and shows 2:30 twice on the other.
        ("2031-03-30T02:30", "2031-03-30T01:00:00"),
        ("2031-10-26T02:30", "2031-10-26T00:30:00"),
    ],
)
def test_a_time_is_meant_by_the_clock_of_the_installation(post: Post, doors: Doors, written: str, meant: str):
    post.bench.celery.conf.timezone = "Europe/Berlin"
    try:
        ada = doors.signed_in("ada")
        assert "Europe/Berlin" in ada.get("/mail/new").text
        answer = compose(ada, when="later", send_at=written)
        assert answer.status_code == 303, answer.text
        shown = doors.script("ada").get(f"/messages/{answer.location.rsplit('/', 1)[1]}").json
        assert shown["send_at"] == f"{meant}+00:00"
        assert " CE" in ada.get(answer.location).text
    finally:
        post.bench.celery.conf.timezone = "UTC"


def test_the_minute_that_is_running_is_not_past(post: Post, doors: Doors):
    running = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M")
    assert compose(doors.signed_in("ada"), when="later", send_at=running).status_code == 303


def test_every_number_opens_its_list(post: Post, doors: Doors):
    ada = doors.signed_in("ada")
    place = compose(ada, to="ada@x.example\nno@x.example\nno2@x.example\nlater@x.example").location
    post.bench.run()
    numbers = counters(ada.get("/mail"))
    assert {state: number for state, (number, _) in numbers.items()} == {
        "accepted": "1",
        "deferred": "1",
        "rejected": "2",
    }
    page = ada.get(numbers["rejected"][1])
    assert re.findall(r"<bdi>(\w+@x.example)</bdi>", page.text) == ["no@x.example", "no2@x.example"]
    assert "Retry the 2 that failed" in page.text
    steer(ada, place, "retry")
    assert counters(ada.get(place))["queued"][0] == "2"
    assert "Cancelled. 3 of them" in steer(ada, place, "cancel").text


def test_pause_and_go_on_by_their_buttons(post: Post, doors: Doors):
    ada = doors.signed_in("ada")
    place = compose(ada).location
    assert "Paused." in steer(ada, place, "pause").text
    post.bench.run()
    assert post.inbox.letters == []
    assert "It goes on." in steer(ada, place, "resume").text
    post.bench.run()
    assert len(post.inbox.letters) == 1


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"to": "ada"}, "is not one address"),
        ({"to": ""}, "to is empty"),
        ({"subject": "a\rBcc: v@x"}, "line break"),
        ({"when": "later", "send_at": "tomorrow"}, "Choose a day and a time"),
        ({"when": "later", "send_at": "9999-12-31T23:59"}, "Choose a day and a time"),
        ({"when": "later", "send_at": "0001-01-01T00:00"}, "Choose a day and a time"),
        ({"when": "later", "send_at": "2020-01-31T08:00"}, "That time is past"),
        ({"when": "now", "send_at": "2031-01-31T08:00"}, "“Now” is chosen"),
        ({"attachments": 21_000_000}, "more than 20 MB"),
    ],
)
def test_an_error_keeps_what_was_typed(post: Post, doors: Doors, fields: dict[str, Any], sentence: str):
    if size := fields.get("attachments"):
        fields = {"attachments": (io.BytesIO(b"x" * size), "big.bin")}
    answer = compose(doors.signed_in("ada"), **{"text": "A long & careful text", **fields})
    assert answer.status_code == 422
    assert sentence in answer.text
    assert "A long &amp; careful text" in answer.text
    assert post.bench.jobs() == []


def test_the_preview_is_made_by_the_server_and_runs_nothing(post: Post, doors: Doors):
    ada = doors.signed_in("ada")
    form = {
        "csrf_token": csrf_of(ada, "/mail/new"),
        "text": "# Hi\n<img src=x onerror=alert(1)>[x](javascript:alert(1))",
    }
    page = ada.post("/mail/preview", data=form).text
    assert "<h1>Hi</h1>" in page
    assert "<img" not in page
    assert 'href="javascript' not in page
    # Without script a button asks for it.
    assert "<strong>reader</strong>" in compose(ada, verb="preview").text


@pytest.mark.parametrize(
    ("link", "leads"),
    [
        ("https://x.example/a", True),
        ("HTTP://x.example", True),
        ("mailto:ada@x.example", True),
        ("cid:plan.png", True),
        ("javascript:alert(1)", False),
        ("ms-word:ofe%7Cu%7Chttp://x.example/a.docm", False),
        ("data:image/png;base64,iVBOR", False),
        ("//x.example", False),
        ("/logout", False),
    ],
)
def test_links_lead_to_web_and_mail_addresses_only(link: str, leads: bool):
    for text, attribute in ((f"[here]({link})", "href="), (f"![here]({link})", "src=")):
        assert (attribute in rendered(text)) == leads


@pytest.mark.parametrize("text", ["[" * 50_000, ">" * 50_000, "*a " * 30_000, "`" * 50_000, "- " * 20_000])
def test_no_text_keeps_the_preview_busy(text: str):
    rendered(text)


@pytest.mark.parametrize("address", ["/mail?after=%00", "/mail/new?template=%00", "/mail/merge?upload=%00"])
def test_what_no_id_can_be_is_not_found(post: Post, address: str):
    # On the same database as the mail: it is PostgreSQL that minds.
    assert Doors(post.bench.app).signed_in("ada").get(address).status_code in (200, 404)


def test_nobody_sees_or_steers_the_mail_of_others(post: Post, doors: Doors):
    place = compose(doors.signed_in("ada")).location
    eve, boss = doors.signed_in("eve"), doors.signed_in("boss", "operator")
    for path in (place, f"{place}/recipients.csv", f"{place}/letters/0"):
        assert eve.get(path).status_code == 404
    assert steer(eve, place, "cancel").status_code == 404
    assert "Hello" not in eve.get("/mail").text
    assert "Hello" in boss.get("/mail").text
    assert eve.get("/mail/outbox").status_code == 403
    assert doors.browser().get(place).status_code == 303


def test_a_spreadsheet_runs_nothing_of_the_export(post: Post, doors: Doors):
    ada = doors.signed_in("ada")
    place = compose(ada, to='"=cmd()" <ada@x.example>\nno@x.example').location
    post.bench.run()
    rows = list(csv.reader(io.StringIO(ada.get(f"{place}/recipients.csv").text.removeprefix("\ufeff"))))
    assert rows[1][:4] == ["ada@x.example", "'=cmd()", "accepted", "250 2.0.0 taken as 1"]
    only = ada.get(f"{place}/recipients.csv?state=rejected").text
    assert [row[0] for row in list(csv.reader(io.StringIO(only)))[1:]] == ["no@x.example"]


def test_a_live_page_does_not_render_a_long_text_again_and_again(
    post: Post, doors: Doors, monkeypatch: pytest.MonkeyPatch
):
    ada = doors.signed_in("ada")
    place = compose(ada, text="word *and* word\n\n" * 12_000).location
    page = ada.get(place).text
    assert ("This is only its beginning" in page, page.count("<em>and</em>") < 10_000) == (True, True)
    again: list[str] = []
    monkeypatch.setattr(markdown, "rendered", lambda text: again.append(text) or "")
    assert ada.get(f"{place}?part=now").status_code == 200
    assert again == []


def test_who_asks_for_many_messages_reads_no_texts(post: Post):
    post.write("ada@x.example")
    with post.bench.session() as session, session.begin():
        session.execute(delete(Job))
    with post.bench.session() as session:
        for found in (queries.messages(session, None, None, 10), queries.abandoned(session)):
            assert {"text", "html"} <= inspect(found[0]).unloaded
            session.expunge_all()


def test_html_in_a_subject_stays_text(post: Post, doors: Doors):
    ada = doors.signed_in("ada")
    place = compose(ada, subject="<script>alert(1)</script>").location
    for path in ("/mail", place):
        assert "<script>alert" not in ada.get(path).text


def test_a_fresh_installation_shows_what_landed_in_its_folder(post: Post, doors: Doors):
    post.set(mail_url=f"file://{post.bench.folder}/landed")
    boss = doors.signed_in("boss", "operator")
    place = compose(boss, subject="Grüße").location
    post.bench.run()
    assert counters(boss.get(place))["accepted"][0] == "1"
    assert "Dear **reader**" in boss.get(f"{place}/letters/0").text
    listed = boss.get("/mail/outbox").text
    assert "Grüße" in listed
    (href,) = set(re.findall(r'href="(/mail/outbox/\w+\.eml)"', listed))
    assert "Message-ID" in boss.get(href).text
    assert boss.get("/mail/outbox/..%2Fsecret_key.eml").status_code == 404


def test_the_list_of_the_folder_reads_no_attachments(post: Post, doors: Doors, tmp_path: Path):
    post.set(mail_url=f"file://{tmp_path}")
    for number in range(20):
        heavy = tmp_path / f"{number:032x}.eml"
        heavy.write_bytes(f"To: ada@x.example\r\nSubject: Heavy {number}\r\n\r\n".encode())
        with heavy.open("r+b") as file:
            file.truncate(100_000_000)
    began = time.monotonic()
    page = doors.signed_in("op", "operator").get("/mail/outbox").text
    assert time.monotonic() - began < 5
    assert ("Heavy 0" in page, "Heavy 19" in page) == (True, True)


def test_html_that_landed_is_framed_where_nothing_runs_and_nothing_is_fetched(post: Post, doors: Doors):
    post.set(mail_url=f"file://{post.bench.folder}/sealed")
    ada = doors.signed_in("ada")
    html = '<p onclick="x()">Hi<script>alert(1)</script><img src="cid:dot.png"><img src="cid:../x.png"></p>'
    with post.bench.app.app_context():
        files = [("dot.png", b"\x89PNG"), ("../x.png", b"\x89PNG"), ("dot.svg", b"<svg/>")]
        message = actions.write(["bob@x.example"], "Hi", "Hi", html=html, attachments=files, owner="ada")
        place = f"/mail/{message.id}/letters/0"
        db.session.commit()
    post.bench.run()
    assert f'<iframe class="mail-reader" src="{place}?part=reader" sandbox' in ada.get(place).text
    reader = ada.get(f"{place}?part=reader")
    assert reader.headers["Content-Security-Policy"].startswith("sandbox; default-src 'none';")
    # The picture that the text names stands in it; one with a path for a name does not.
    assert 'src="data:image/png;base64,iVBORw=="' in reader.text
    assert 'src="cid:../x.png"' in reader.text
    assert doors.signed_in("eve").get(f"{place}?part=reader").status_code == 404


@pytest.mark.parametrize("text", ['"' + '\\"' * 200_000, "<" * 400_000, '"a' * 200_000])
def test_no_list_of_addresses_keeps_its_reader_busy(text: str):
    began = time.process_time()
    split_addresses(text)
    assert time.process_time() - began < 0.5


def test_addresses_are_read_as_people_write_them():
    text = 'ada@x.example; "Lovelace, Ada" <ada@y.example>,\nBob <bob@x.example>\n\n,cy@x.example'
    assert split_addresses(text) == [
        "ada@x.example",
        '"Lovelace, Ada" <ada@y.example>',
        "Bob <bob@x.example>",
        "cy@x.example",
    ]
