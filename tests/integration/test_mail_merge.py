"""Mail merge, leaving the list, the contact form and templates: what strangers and tables may do, and what not."""

import io
import re
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import select, text
from werkzeug.test import TestResponse

from flaskapp import create_app
from flaskapp.errors import BadArguments
from flaskapp.extensions import db
from flaskapp.jobs.clock import now
from flaskapp.jobs.models import Job
from flaskapp.mail import actions, contact, links, merging
from flaskapp.mail.filling import Filling, variable_name
from flaskapp.mail.merge_texts import Merge
from flaskapp.mail.models import Message, Recipient, Suppression
from flaskapp.uploads.models import Upload
from tests.helpers import make_current
from tests.integration.doors_fixtures import Doors, csrf_of
from tests.integration.mail_fixtures import Post, mail_bench, post, server  # noqa: F401 -- fixtures

TABLE = "First name,E-Mail,due\nAda,ada@x.example,12.50\n報告,bob@x.example,7\n".encode()


@pytest.fixture
def doors(post: Post) -> Doors:
    return Doors(post.bench.app)


def upload(post: Post, browser: FlaskClient, content: bytes = TABLE) -> str:
    """Load a table; answers its id."""
    form = {"csrf_token": csrf_of(browser, "/uploads"), "file": (io.BytesIO(content), "people.csv")}
    assert browser.post("/uploads", data=form).status_code == 303
    post.bench.run()
    with post.bench.session() as session:
        return str(session.scalars(select(Upload.id).order_by(Upload.created_at.desc())).first())


def merge(browser: FlaskClient, upload_id: str, body: str = "Dear {{ first_name }}", **fields: Any) -> TestResponse:
    form = {"upload": upload_id, "column": "e_mail", "subject": "For {{ first_name }}", "text": body, "verb": "send"}
    return browser.post("/mail/merge", data={"csrf_token": csrf_of(browser, "/mail/new"), **form, **fields})


def newest(post: Post) -> Message:
    with post.bench.session() as session:
        return session.scalars(select(Message).order_by(Message.created_at.desc())).first()  # type: ignore[return-value]


# --- merge ------------------------------------------------------------------------------------------------


def test_each_row_gets_a_mail_of_its_own(post: Post, doors: Doors):
    ada = doors.signed_in("ada")
    body = "Dear {{ first_name }}, you owe {{ due }}.{% if due > 10 %} Soon!{% endif %}"
    answer = merge(ada, upload(post, ada), body)
    assert answer.status_code == 303, answer.text
    post.bench.run()
    letters = {to: post.inbox.of(to)[0] for to in ("ada@x.example", "bob@x.example")}
    assert [str(letter["Subject"]) for letter in letters.values()] == ["For Ada", "For 報告"]
    texts = [letter.get_body(("plain",)).get_content().replace("\r\n", "\n") for letter in letters.values()]
    assert texts == ["Dear Ada, you owe 12.5. Soon!\n", "Dear 報告, you owe 7.\n"]
    assert "2</b> accepted" in ada.get(answer.location).text


def test_the_page_of_a_merge_moves_while_its_rows_are_filled(post: Post, doors: Doors):
    ada = doors.signed_in("ada")
    place = merge(ada, upload(post, ada)).location
    assert f'data-watch="{newest(post).job_id}"' in ada.get(place).text
    assert f'data-watch="{newest(post).job_id}"' in ada.get("/mail").text
    post.bench.run()
    assert "data-watch" not in ada.get(place).text


def test_a_merge_goes_at_its_time_with_its_files(post: Post, doors: Doors):
    ada = doors.signed_in("ada")
    files = (io.BytesIO(b"a,b\n1,2\n"), "t.csv")
    answer = merge(ada, upload(post, ada), when="later", send_at="2031-01-31T08:00", attachments=files)
    assert answer.status_code == 303, answer.text
    post.bench.run()
    page = ada.get(answer.location).text
    assert ("scheduled" in page, "2031-01-31 08:00 UTC" in page, "t.csv" in page) == (True, True, True)
    assert post.inbox.letters == []
    with post.bench.session() as session, session.begin():
        for changed in (
            Message.__table__.update().values(send_at=now()),
            Recipient.__table__.update().values(next_at=now()),
        ):
            session.execute(changed)
        session.execute(Job.__table__.update().values(run_at=now()))
    post.bench.run()
    for person in ("ada", "bob"):
        (letter,) = post.inbox.of(f"{person}@x.example")
        assert [(part.get_filename(), part.get_content()) for part in letter.iter_attachments()] == [
            ("t.csv", "a,b\n1,2\n")
        ]


def test_who_merges_may_prefer_twice_to_never(post: Post, doors: Doors):
    ada = doors.signed_in("ada")
    place = merge(ada, upload(post, ada), at_least_once="1").location
    assert "Rather twice than never" in ada.get(f"/mail/merge?upload={upload(post, ada)}").text
    with post.bench.session() as session:
        assert session.get_one(Message, place.rsplit("/", 1)[1]).at_least_once


def test_too_many_files_for_a_merge_are_refused_in_a_sentence(post: Post, doors: Doors):
    ada = doors.signed_in("ada")
    upload_id = upload(post, ada)
    files = [(io.BytesIO(bytes(10_500_000)), name) for name in ("a.bin", "b.bin")]
    answer = merge(ada, upload_id, attachments=files)
    assert (answer.status_code, "more than 20 MB" in answer.text) == (422, True)
    answer = merge(ada, upload_id, attachments=(io.BytesIO(bytes(23_000_000)), "a.bin"))
    assert (answer.status_code, answer.location) == (303, "/mail/merge")
    assert newest(post) is None


def test_a_row_without_a_value_sends_nothing_to_anybody(post: Post, doors: Doors):
    ada = doors.signed_in("ada")
    rows = "".join(f"Ada{n},ada{n}@x.example\n" for n in range(1500))
    place = merge(ada, upload(post, ada, f"First name,E-Mail\n{rows},last@x.example\n".encode())).location
    post.bench.run()
    page = ada.get(place).text
    assert "Row 1501" in page or "Row 1502" in page
    assert "there is no value for first_name" in page
    assert "Nothing was sent." in page
    with post.bench.session() as session:
        assert session.scalars(select(Recipient)).all() == []
    assert post.inbox.letters == []


@pytest.mark.parametrize(
    ("table", "words"),
    [
        (b"First name,E-Mail\nAda,ada\n", "is not one address"),
        (b'First name,E-Mail\nAda,"ada@x.example, eve@x.example"\n', "is not one address"),
        (b'First name,E-Mail\n"Ada\nBcc: v@x.example",ada@x.example\n', "line break"),
        (b'First name,E-Mail\nAda,"ada@x.example\nBcc: v@x.example"\n', "line break"),
    ],
)
def test_a_bad_row_is_named_beside_the_form_and_nothing_is_sent(post: Post, doors: Doors, table: bytes, words: str):
    ada = doors.signed_in("ada")
    answer = merge(ada, upload(post, ada, table))
    assert (answer.status_code, words in answer.text, ">Row " in answer.text) == (422, True, True)
    assert "Dear {{ first_name }}" in answer.text
    assert newest(post) is None
    assert post.inbox.letters == []


def test_rows_that_take_long_to_fill_do_not_keep_the_form_busy(
    post: Post, doors: Doors, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(merging, "_SECONDS_AT_THE_FORM", 0.0, raising=False)
    ada = doors.signed_in("ada")
    table = b"First name,E-Mail\nAda,ada@x.example\nBob,bob\n"
    assert merge(ada, upload(post, ada, table)).status_code == 303
    post.bench.run()
    assert "Row 3" in (newest(post).problem or "")
    assert post.inbox.letters == []


def test_a_cancelled_merge_soon_fills_no_more_rows(post: Post, doors: Doors, monkeypatch: pytest.MonkeyPatch):
    ada = doors.signed_in("ada")
    table = b"First name,E-Mail\n" + b"".join(b"Ada,ada%d@x.example\n" % number for number in range(50))
    merge(ada, upload(post, ada, table))
    message_id = newest(post).id
    post.act(actions.cancel, message_id)
    monkeypatch.setattr(merging, "_SECONDS_AT_ONCE", 0.0, raising=False)
    usual, filled = Merge.filled, []
    monkeypatch.setattr(Merge, "filled", lambda self, row: filled.append(row) or usual(self, row))
    post.bench.run()
    assert (post.fates(message_id), len(filled)) == ({}, 1)


def test_any_row_can_be_looked_at_first(post: Post, doors: Doors):
    ada = doors.signed_in("ada")
    upload_id = upload(post, ada)
    page = merge(ada, upload_id, "**Dear** {{ first_name }}", verb="preview", row="3").text
    assert ("For 報告" in page, "<strong>Dear</strong> 報告" in page) == (True, True)
    # As its file counts them, where the header is the first.
    assert (
        'name="row" inputmode="numeric" pattern="[0-9]+" value="2"' in ada.get(f"/mail/merge?upload={upload_id}").text
    )
    refused = merge(ada, upload_id, "Dear {{ frist_name }}")
    assert refused.status_code == 422
    assert "is no column of the table" in refused.text
    with post.bench.session() as session:
        assert session.scalars(select(Message)).all() == []


def test_the_table_of_another_is_not_there(post: Post, doors: Doors):
    upload_id = upload(post, doors.signed_in("ada"))
    assert merge(doors.signed_in("eve"), upload_id).status_code == 404


def test_a_merge_that_is_killed_half_way_writes_to_each_once(post: Post, doors: Doors):
    ada = doors.signed_in("ada")
    rows = "".join(f"Ada{n},ada{n}@x.example\n" for n in range(1200))
    upload_id = upload(post, ada, f"First name,E-Mail\n{rows}".encode())
    merge(ada, upload_id, "Dear {{ first_name }}", subject="Hello")
    message = newest(post)
    with post.bench.session() as session, session.begin():
        # What an attempt left that was killed after its first commit.
        for n in range(1000):
            row = {"message_id": message.id, "number": n, "address": f"ada{n}@x.example", "domain": "x.example"}
            session.add(Recipient(**row))
    post.bench.run()
    assert post.states(message.id) == ["accepted"] * 1200
    assert set(post.inbox.counts().values()) == {1}


def test_a_merge_whose_job_failed_says_so(post: Post, doors: Doors):
    ada = doors.script("ada")
    merge(doors.signed_in("ada"), upload(post, doors.signed_in("ada")))
    job_id = str(newest(post).job_id)
    gone = {
        "state": "failed",
        "finished_at": now(),
        "live_key": None,
        "error_type": "Crashed",
        "error_message": "It died.",
    }
    post.bench.change(job_id, **gone)
    post.bench.submit("mail.sweep")
    post.bench.run()
    shown = ada.get(f"/messages/{newest(post).id}").json
    assert (shown["state"], shown["problem"]) == ("failed", "Its rows were not filled: It died. Nothing was sent.")
    assert ada.post(f"/jobs/{job_id}/run-again").status_code == 202
    post.bench.run()
    assert post.states(newest(post).id) == ["accepted", "accepted"]


def test_a_merge_whose_job_is_cancelled_sends_nothing_until_it_is_run_again(post: Post, doors: Doors):
    ada = doors.script("ada")
    place = merge(doors.signed_in("ada"), upload(post, doors.signed_in("ada"))).location
    message_id = place.rsplit("/", 1)[1]
    job_id = ada.get(f"/messages/{message_id}").json["job_id"]
    assert ada.post(f"/jobs/{job_id}/cancel").status_code == 202
    post.bench.run()
    page = doors.signed_in("ada").get(place).text
    assert ("Its job was cancelled" in page, "failed" in page, post.inbox.letters) == (True, True, [])
    assert ada.post(f"/jobs/{job_id}/run-again").status_code == 202
    post.bench.run()
    assert post.states(message_id) == ["accepted", "accepted"]


@pytest.mark.parametrize(
    "text",
    [
        "{{ ''.__class__.__mro__ }}",
        "{{ config }}",
        "{{ self }}",
        "{{ first_name.__init__.__globals__ }}",
        "{{ first_name['__class__'] }}",
        "{% for a in range(10 ** 9) %}x{% endfor %}",
        "{{ 'x' * 1000000000 }}",
        "{{ 10 ** 10 ** 10 }}",
        "{{ first_name|center(1000000000) }}",
        "{{ cycler('a') }}",
        "{{ lipsum(n=100000) }}",
        "{% set a = 1 %}",
        "{% macro a() %}{{ a() }}{% endmacro %}{{ a() }}",
        "{% include 'base.html' %}",
        "{% import 'os' as os %}",
        "{{ first_name|attr('x') }}",
        "{{ first_name|map('x') }}",
        "{{ [1,2,3] }}",
        "{{ '%s' % first_name }}",
        "{{ first_name ~ first_name }}",
        "{{ missing }}",
        "{{ first_name",
        "{% if first_name %}",
        "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}",
        "{% if a %}" * 2000 + "{% endif %}" * 2000,
        "{{ first_name }}" * 20_000,
        "{{ 1|round(999999999, 'ceil') }}",
        "{{ 1|round(number, 'floor') }}",
        "{{ 1|round(first_name) }}",
        "{{ 5|round('-30000000'|int) }}",
        "{{ 5|round(owed) }}",
        "{{ 'y' if '%99999999d' is even else 'n' }}",
        "{% if format is odd %}y{% endif %}",
        "{{ " + "1" * 5_000 + " }}",
        "{{ 0x" + "f" * 50_000 + " }}",
        "{{ 1e999|int }}",
        ("{% if first_name" + "|title" * 200 + " %}{% endif %}") * 60,
        ("{% if first_name" + "|title" * 15 + " %}{% endif %}") * 800,
        "{% if letter|title %}{% endif %}" * 1_600,
        "{% if letter|trim(letter) %}{% endif %}",
    ],
)
def test_a_template_can_neither_look_around_nor_run_on(text: str):
    def fill() -> str:
        filling = Filling(text, "The text")
        row = {"first_name": "x" * 1_000, "number": 10**18}
        row |= {"owed": -(10**8), "format": "%99999999d", "letter": "a b " * 100_000}
        filling.check_names(row)
        return filling.filled(row)

    began = time.monotonic()
    with pytest.raises(BadArguments):
        fill()
    assert time.monotonic() - began < 3


def test_columns_are_called_in_a_way_that_can_be_written():
    names = [variable_name(name) for name in ("First name", "E-Mail", "2026", " ", "größe")]
    assert names == ["first_name", "e_mail", "column_2026", "column_", "größe"]


# --- leaving ----------------------------------------------------------------------------------------------


def test_one_click_leaves_the_list(post: Post, doors: Doors):
    ada = doors.signed_in("ada")
    upload_id = upload(post, ada)
    merge(ada, upload_id)
    post.bench.run()
    letter = post.inbox.of("bob@x.example")[0]
    assert letter["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    path = re.fullmatch(r"<http://127\.0\.0\.1:8000(/unsubscribe/\S+)>", str(letter["List-Unsubscribe"]))[1]  # type: ignore[index]
    stranger = doors.browser()
    assert "bob@x.example" in stranger.get(path).text
    with post.bench.session() as session:
        assert session.scalars(select(Suppression)).all() == []
    # As a mail program does it: no cookie, no token.
    assert stranger.post(path, data={"List-Unsubscribe": "One-Click"}).status_code == 200
    merge(ada, upload_id)
    post.bench.run()
    assert post.states(newest(post).id) == ["accepted", "suppressed"]
    assert post.inbox.counts() == {"ada@x.example": 2, "bob@x.example": 1}


@pytest.mark.parametrize("token", ["x", "WyJhIiwwXQ.bad", "a.b.c", "%00", "😀"])
def test_a_link_that_we_did_not_sign_is_nothing(post: Post, doors: Doors, token: str):
    assert doors.browser().post(f"/unsubscribe/{token}").status_code == 404


def test_a_link_names_its_reader_only(post: Post):
    settings = post.bench.app.config["SETTINGS"]
    mine, other = (links.link(settings, "m", number).rsplit("/", 1)[1] for number in (0, 1))
    forged = other.split(".")[0] + "." + mine.split(".")[1]
    with pytest.raises(ValueError, match="not one of ours"):
        links.read(settings, forged)


def test_operators_keep_the_list_of_the_unwanted(post: Post, doors: Doors):
    boss = doors.signed_in("boss", "operator")
    form = {"csrf_token": csrf_of(boss, "/mail/new"), "address": "Ada@x.example", "reason": "asked to"}
    assert boss.post("/mail/unwanted", data=form).status_code == 303
    assert "ada@x.example" in boss.get("/mail/unwanted").text
    assert post.send("ada@x.example")["ada@x.example"][0] == "suppressed"
    assert boss.post("/mail/unwanted/remove", data=form | {"address": "ada@x.example"}).status_code == 303
    assert post.send("ada@x.example")["ada@x.example"][0] == "accepted"
    assert doors.signed_in("ada").get("/mail/unwanted").status_code == 403


def test_what_was_typed_for_the_list_is_kept_when_it_is_refused(post: Post, doors: Doors):
    boss = doors.signed_in("boss", "operator")
    form = {"csrf_token": csrf_of(boss, "/mail/new"), "address": "ada at x", "reason": "asked to"}
    answer = boss.post("/mail/unwanted", data=form)
    assert answer.status_code == 422
    assert 'value="ada at x"' in answer.text
    assert 'value="asked to"' in answer.text
    assert 'href="/mail/unwanted" aria-current="page"' in answer.text


# --- strangers --------------------------------------------------------------------------------------------


def write_to_us(browser: FlaskClient, **fields: str) -> TestResponse:
    form = {"name": "Eve", "email": "eve@y.example", "subject": "Hi", "text": "Dear team", **fields}
    return browser.post("/contact", data={"csrf_token": csrf_of(browser, "/contact"), **form})


def test_a_stranger_writes_to_us_and_to_nobody_else(post: Post, doors: Doors):
    assert doors.browser().get("/contact").status_code == 404
    post.set(mail_contact="team@z.example")
    answer = write_to_us(doors.browser(), to="victim@x.example", bcc="victim@x.example", mail_from="boss@z.example")
    assert "Thank you" in answer.text
    post.bench.run()
    assert post.inbox.counts() == {"team@z.example": 1}
    (letter,) = post.inbox.of("team@z.example")
    assert (letter["From"], letter["Reply-To"]) == ("offload@localhost", "eve@y.example")
    assert letter.get_content() == "Eve <eve@y.example> writes:\n\nDear team\n"


def test_a_stranger_is_told_that_who_reads_the_form_wants_no_mail(post: Post, doors: Doors):
    post.set(mail_contact="Team@z.example")
    with post.bench.session() as session:
        actions.suppress(session, "team@z.example", "on holiday")
        session.commit()
    answer = write_to_us(doors.browser())
    assert (answer.status_code, "nothing was sent" in answer.text, "Dear team" in answer.text) == (422, True, True)
    assert post.bench.jobs() == []


@pytest.mark.parametrize(
    "fields",
    [
        {"email": "eve@y.example\r\nBcc: v@x.example"},
        {"email": "eve@y.example, v@x.example"},
        {"subject": "Hi\r\nBcc: v@x.example"},
        {"text": " "},
        {"text": "x\0"},
    ],
)
def test_a_stranger_cannot_add_a_header(post: Post, doors: Doors, fields: dict[str, str]):
    post.set(mail_contact="team@z.example")
    assert write_to_us(doors.browser(), **fields).status_code == 422
    assert post.bench.jobs() == []


def test_a_stranger_may_write_five_times_an_hour(post: Post, doors: Doors):
    post.set(mail_contact="team@z.example")
    answers = [write_to_us(doors.browser()).status_code for _ in range(6)]
    assert answers == [*[200] * 5, 429]
    assert "5 messages came from where you are" in write_to_us(doors.browser()).text
    # Neither a new cookie nor a made-up forwarding header is another address.
    forged = {"X-Forwarded-For": "203.0.113.9"}
    browser = doors.browser()
    form = {"csrf_token": csrf_of(browser, "/contact"), "email": "eve@y.example", "text": "again"}
    assert browser.post("/contact", data=form, headers=forged).status_code == 429
    # A signed-in account is counted on its own, from wherever it comes.
    post.forget()
    ada, answers = doors.signed_in("ada"), []
    for number in range(6):
        form = {"csrf_token": csrf_of(ada, "/contact"), "email": "eve@y.example", "text": "again"}
        answers.append(ada.post("/contact", data=form, environ_overrides={"REMOTE_ADDR": f"203.0.113.{number}"}))
    assert [answer.status_code for answer in answers] == [*[200] * 5, 429]


def test_who_is_refused_for_what_others_wrote_is_told_so(post: Post, doors: Doors, monkeypatch: pytest.MonkeyPatch):
    post.set(mail_contact="team@z.example")
    monkeypatch.setattr(contact, "IN_ALL", 1)
    assert write_to_us(doors.browser()).status_code == 200
    answer = write_to_us(doors.browser())
    assert (answer.status_code, "by others" in answer.text) == (429, True)


def test_all_web_processes_count_a_strangers_messages_together(post: Post, doors: Doors):
    post.set(mail_contact="team@z.example")
    other = create_app(post.bench.app.config["SETTINGS"])  # what another process would make
    sites = [doors, Doors(other)]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda n: write_to_us(sites[n % 2].browser()).status_code, range(8)))
    with other.app_context():
        db.engine.dispose()
    make_current(post.bench.app)
    assert Counter(answers) == {200: 5, 429: 3}
    with post.bench.session() as session:
        assert len(session.scalars(select(Message)).all()) == 5


def test_a_program_that_fills_every_field_is_not_heard(post: Post, doors: Doors):
    post.set(mail_contact="team@z.example")
    assert "Thank you" in write_to_us(doors.browser(), website="http://spam").text
    assert post.bench.jobs() == []


# --- templates --------------------------------------------------------------------------------------------


def test_a_template_is_written_once_and_used_again(post: Post, doors: Doors):
    boss, ada = doors.signed_in("boss", "operator"), doors.signed_in("ada")
    form = {"csrf_token": csrf_of(boss, "/mail/new"), "name": "Welcome", "subject": "Hi <b>", "text": "Dear reader"}
    for words in ("Dear reader", "Dear **reader**"):
        assert boss.post("/mail/templates", data=form | {"text": words}).status_code == 303
    page = ada.get("/mail/new?template=Welcome").text
    assert ('value="Hi &lt;b&gt;"' in page, "Dear **reader**" in page) == (True, True)
    refused = ada.post("/mail/templates", data={**form, "csrf_token": csrf_of(ada, "/mail/new")})
    assert refused.status_code == 403
    assert boss.post("/mail/templates", data=form | {"subject": "a\nb"}).status_code == 422
    with post.bench.engine.connect() as connection:
        (template_id,) = connection.execute(text("SELECT id FROM mail_template")).scalars()
    assert boss.post(f"/mail/templates/{template_id}/delete", data=form).status_code == 303
    assert "Welcome" not in ada.get("/mail/templates").text
