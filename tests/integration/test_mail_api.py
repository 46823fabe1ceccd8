"""Mail by a script: merges, reply templates, who wants no mail, and the export; the same verbs as the pages."""

import base64
import csv
import io
from typing import Any
from urllib.parse import quote

import pytest
from sqlalchemy import select, update

from flaskapp.api.models import IdempotencyKey
from flaskapp.jobs.clock import seconds_from_now
from flaskapp.mail.models import Attachment, Message, Recipient
from tests.integration.doors_fixtures import Doors, Script
from tests.integration.mail_fixtures import Post, mail_bench, post, server  # noqa: F401 -- fixtures

TABLE = b"First name,E-Mail,due\nAda,ada@x.example,12.50\nBob,bob@x.example,7\n"
TEXTS = {"subject": "For {{ first_name }}", "text": "Dear **{{ first_name }}**, you owe {{ due }}."}


@pytest.fixture
def doors(post: Post) -> Doors:
    return Doors(post.bench.app)


def upload(post: Post, script: Script, content: bytes = TABLE) -> str:
    """Load a table; answers its id."""
    form = {"file": (io.BytesIO(content), "people.csv")}
    answer = script.post("/uploads", data=form, content_type="multipart/form-data")
    post.bench.run()
    return str(answer.json["id"])


def attached(name: str, content: bytes) -> dict[str, str]:
    return {"name": name, "content": base64.b64encode(content).decode()}


# --- merges -----------------------------------------------------------------------------------------------


def test_a_script_writes_to_everybody_in_a_table(post: Post, doors: Doors):
    ada = doors.script("ada")
    upload_id = upload(post, ada)
    files = [attached("terms.txt", b"Pay.\n")]
    answer = ada.post("/merges", {"upload": upload_id, **TEXTS, "column": "E-Mail", "attachments": files})
    assert answer.status_code == 202, answer.text
    assert answer.json["state"] == "preparing"
    post.bench.run()
    shown = ada.get(answer.headers["Location"].removeprefix("/api/v1")).json
    assert (shown["state"], shown["counts"]) == ("sent", {"accepted": 2})
    assert shown["attachments"] == [{"name": "terms.txt", "content_type": "text/plain", "size": 5}]
    (letter,) = post.inbox.of("bob@x.example")
    assert letter["Subject"] == "For Bob"
    assert "<strong>Bob</strong>, you owe 7." in letter.get_body(("html",)).get_content()
    assert [part.get_content() for part in letter.iter_attachments()] == ["Pay.\n"]


def test_a_row_that_cannot_be_filled_is_named_before_anything_is_sent(post: Post, doors: Doors):
    ada = doors.script("ada")
    upload_id = upload(post, ada, b"First name,E-Mail,due\nAda,ada@x.example,12\n,bob@x.example,7\n")
    answer = ada.post("/merges", {"upload": upload_id, **TEXTS})
    assert answer.status_code == 422
    assert answer.json["detail"].startswith("Row ")
    assert "there is no value for first_name" in answer.json["detail"]
    unknown = ada.post("/merges", {"upload": upload_id, "subject": "Hi", "text": "Dear {{ frist_name }}"})
    assert (unknown.status_code, "frist_name" in unknown.json["detail"]) == (422, True)
    post.bench.run()
    assert (ada.get("/messages").json["items"], post.inbox.letters) == ([], [])


def test_a_late_row_that_cannot_be_filled_is_told_by_the_message(post: Post, doors: Doors):
    ada = doors.script("ada")
    rows = "".join(f"Ada{n},ada{n}@x.example,1\n" for n in range(1200))
    upload_id = upload(post, ada, f"First name,E-Mail,due\n{rows},last@x.example,1\n".encode())
    message_id = ada.post("/merges", {"upload": upload_id, **TEXTS}).json["id"]
    post.bench.run()
    shown = ada.get(f"/messages/{message_id}").json
    assert (shown["state"], shown["recipients"], post.inbox.letters) == ("failed", [], [])
    assert shown["problem"].startswith("Row 120")
    assert "there is no value for first_name" in shown["problem"]


def test_a_script_looks_at_any_row_first(post: Post, doors: Doors):
    ada = doors.script("ada")
    upload_id = upload(post, ada)
    shown = ada.post("/merges/preview", {"upload": upload_id, **TEXTS, "row": 3}).json
    assert (shown["to"], shown["subject"], shown["text"]) == ("bob@x.example", "For Bob", "Dear **Bob**, you owe 7.")
    assert "<strong>Bob</strong>" in shown["html"]
    assert ada.post("/merges/preview", {"upload": upload_id, **TEXTS, "row": 900}).status_code == 422
    assert ada.get("/messages").json["items"] == []


def test_a_merge_waits_for_its_time(post: Post, doors: Doors):
    ada = doors.script("ada")
    wish = {"upload": upload(post, ada), **TEXTS, "send_at": "2031-01-31T08:00:00+05:30"}
    answer = ada.post("/merges", wish)
    assert answer.json["send_at"] == "2031-01-31T02:30:00+00:00"
    post.bench.run()
    shown = ada.get(f"/messages/{answer.json['id']}").json
    assert (shown["state"], shown["counts"], post.inbox.letters) == ("scheduled", {"queued": 2}, [])
    with post.bench.session() as session, session.begin():
        assert session.scalars(select(Message.is_ready)).all() == [True]


def test_a_merge_takes_its_texts_from_a_template(post: Post, doors: Doors):
    ada, boss = doors.script("ada"), doors.script("boss", "operator")
    template = boss.post("/reply-templates", {"name": "Dues", **TEXTS}).json
    answer = ada.post("/merges", {"upload": upload(post, ada), "template": template["id"], "subject": "Dues"})
    assert answer.status_code == 202, answer.text
    post.bench.run()
    (letter,) = post.inbox.of("ada@x.example")
    assert (letter["Subject"], "Dear **Ada**" in letter.get_body(("plain",)).get_content()) == ("Dues", True)


def test_the_table_of_another_is_not_there(post: Post, doors: Doors):
    ada, eve = doors.script("ada"), doors.script("eve")
    wish = {"upload": upload(post, ada), **TEXTS}
    assert [eve.post(path, wish).status_code for path in ("/merges", "/merges/preview")] == [404, 404]


@pytest.mark.parametrize(
    "more",
    [
        {"column": "due"},
        {"column": "no such"},
        {"column": ["E-Mail"]},
        {"subject": "a\r\nBcc: v@x.example"},
        {"text": None},
        {"text": "{{ ''.__class__ }}"},
        {"template": 2**31 - 1},
        {"template": "1"},
        {"send_at": "2031-01-31T08:00:00"},
        {"send_at": "2031-01-31T08:00:00Z", "expires_at": "2031-01-01T00:00:00Z"},
        {"attachments": "x"},
        {"attachments": [{"name": "a.txt"}]},
        {"attachments": [{"name": "a.txt", "content": "no base64"}]},
        {"attachments": [{"name": "a\r\nb", "content": ""}]},
        {"attachments": [attached("a.txt", b"x")] * 21},
        {"owner": "boss"},
        {"upload": 7},
    ],
)
def test_what_cannot_be_merged_is_refused_in_a_sentence(post: Post, doors: Doors, more: dict[str, Any]):
    ada = doors.script("ada")
    answer = ada.post("/merges", {"upload": upload(post, ada), **TEXTS, **more})
    assert (answer.status_code, len(answer.json["detail"]) > 20) == (422, True), answer.text
    assert ada.get("/messages").json["items"] == []


def test_the_same_file_of_two_messages_lies_in_storage_once(post: Post, doors: Doors):
    ada = doors.script("ada")
    files = [attached("../täble.csv", b"a,b\n1,2\n")]
    for _ in range(2):
        answer = ada.post("/messages", {"to": ["ada@x.example"], "subject": "Hi", "text": "x", "attachments": files})
        assert answer.status_code == 202, answer.text
    with post.bench.session() as session:
        assert [one.name for one in session.scalars(select(Attachment))] == ["täble.csv"] * 2
        assert len({one.file_id for one in session.scalars(select(Attachment))}) == 1
    large = [attached("a.bin", bytes(11_000_000)), attached("b.bin", bytes(11_000_000))]
    refused = ada.post("/messages", {"to": ["ada@x.example"], "subject": "Hi", "text": "x", "attachments": large})
    assert (refused.status_code, "20 MB" in refused.json["detail"]) == (422, True)


# --- recipients -------------------------------------------------------------------------------------------


def test_recipients_come_in_pages_and_as_a_table(post: Post, doors: Doors):
    ada, eve = doors.script("ada"), doors.script("eve")
    to = ["ada@x.example", "no@x.example", "=Bob <bob@x.example>", "no2@x.example"]
    message_id = ada.post("/messages", {"to": to, "subject": "Hi", "text": "x"}).json["id"]
    post.bench.run()
    first = ada.get(f"/messages/{message_id}/recipients?limit=3").json
    second = ada.get(f"/messages/{message_id}/recipients?limit=3&cursor={first['next']}").json
    assert [len(first["items"]), len(second["items"]), second["next"]] == [3, 1, None]
    rejected = ada.get(f"/messages/{message_id}/recipients?state=rejected&state=expired").json["items"]
    assert [(one["address"], one["tries"]) for one in rejected] == [("no@x.example", 1), ("no2@x.example", 1)]
    table = ada.get(f"/messages/{message_id}/recipients.csv?state=accepted")
    rows = list(csv.DictReader(io.StringIO(table.text.lstrip("\ufeff"))))
    assert [(row["address"], row["name"]) for row in rows] == [("ada@x.example", ""), ("bob@x.example", "'=Bob")]
    for place in ("recipients", "recipients.csv"):
        assert eve.get(f"/messages/{message_id}/{place}").status_code == 404
        assert ada.get(f"/messages/{message_id}/{place}?state=lost").status_code == 422
    assert ada.get(f"/messages/{message_id}/recipients?cursor=-1").status_code == 422


# --- reply templates --------------------------------------------------------------------------------------


def test_operators_keep_templates_and_everybody_reads_them(post: Post, doors: Doors):
    boss, ada = doors.script("boss", "operator"), doors.script("ada")
    welcome = {"name": "Welcome", "subject": "Hi", "text": "Dear reader"}
    created = boss.post("/reply-templates", welcome)
    assert created.status_code == 201, created.text
    place = created.headers["Location"].removeprefix("/api/v1")
    assert ada.get(place).json == created.json
    assert boss.post("/reply-templates", welcome).status_code == 409
    other = boss.post("/reply-templates", {**welcome, "name": "Farewell"}).json
    assert boss.ask("put", f"/reply-templates/{other['id']}", welcome).status_code == 409
    changed = boss.ask("put", place, {**welcome, "text": "Dear **reader**"})
    assert (changed.status_code, changed.json["text"]) == (200, "Dear **reader**")
    assert [one["name"] for one in ada.get("/reply-templates").json["items"]] == ["Farewell", "Welcome"]
    refused = [ada.post("/reply-templates", welcome), ada.ask("put", place, welcome), ada.ask("delete", place)]
    assert [one.status_code for one in refused] == [403, 403, 403]
    assert boss.ask("put", place, {**welcome, "subject": "a\nb"}).status_code == 422
    assert [boss.ask("delete", place).status_code, boss.ask("delete", place).status_code] == [200, 404]


# --- who wants no mail ------------------------------------------------------------------------------------


def test_operators_keep_the_list_of_who_wants_no_mail(post: Post, doors: Doors):
    boss, ada = doors.script("boss", "operator"), doors.script("ada")
    added = [boss.post("/suppressions", {"address": "Ada@x.example", "reason": "asked to"}) for _ in range(2)]
    assert [one.status_code for one in added] == [201, 200]
    assert added[1].json["reason"] == "asked to"
    boss.post("/suppressions", {"address": "bob@x.example"})
    first = boss.get("/suppressions?limit=1").json
    second = boss.get(f"/suppressions?limit=1&cursor={first['next']}").json
    shown = [one["address"] for page in (first, second) for one in page["items"]]
    assert (shown, second["next"]) == (["ada@x.example", "bob@x.example"], None)
    assert post.send("ada@x.example")["ada@x.example"][0] == "suppressed"
    assert boss.get("/suppressions/Ada@x.example").json["reason"] == "asked to"
    assert boss.ask("delete", "/suppressions/Ada@x.example").status_code == 200
    assert boss.ask("delete", "/suppressions/Ada@x.example").status_code == 404
    assert post.send("ada@x.example")["ada@x.example"][0] == "accepted"
    asked = [("get", ""), ("post", ""), ("get", "/bob@x.example"), ("delete", "/bob@x.example")]
    assert {ada.ask(method, f"/suppressions{path}").status_code for method, path in asked} == {403}
    assert boss.post("/suppressions", {"address": "a@x.example, b@x.example"}).status_code == 422


@pytest.mark.parametrize("written", ["Ada@BÜCHER.example", "ada@bücher.example", "ada@xn--bcher-kva.example"])
def test_an_address_on_the_list_is_found_however_it_is_written(post: Post, doors: Doors, written: str):
    boss = doors.script("boss", "operator")
    assert boss.post("/suppressions", {"address": "Ada@Bücher.example"}).status_code == 201
    assert boss.get(f"/suppressions/{quote(written)}").json["address"] == "ada@xn--bcher-kva.example"
    assert boss.ask("delete", f"/suppressions/{quote(written)}").status_code == 200
    assert boss.get("/suppressions").json["items"] == []


# --- Idempotency-Key --------------------------------------------------------------------------------------


def test_a_very_long_answer_is_not_kept_with_its_key_but_looked_up_again(post: Post, doors: Doors):
    ada = doors.script("ada")
    hello = {"to": [f"reader{n}@x.example" for n in range(2500)], "subject": "Hello", "text": "Dear reader"}
    first, again = (ada.post("/messages", hello, headers={"Idempotency-Key": "write"}) for _ in range(2))
    assert (first.status_code, again.status_code) == (202, 202)
    assert (again.json, again.location) == (first.json, first.location)
    assert again.headers["Idempotency-Replayed"] == "true"
    verb = f"/messages/{first.json['id']}/pause"
    paused, replayed = (ada.post(verb, headers={"Idempotency-Key": "pause"}) for _ in range(2))
    assert replayed.json == paused.json
    with post.bench.session() as session:
        kept = {row.key: len(row.body) for row in session.scalars(select(IdempotencyKey))}
    assert kept == {"write": 0, "pause": 0}
    assert len(ada.get("/messages").json["items"]) == 1


def test_what_a_refusal_by_state_has_begun_is_undone_also_under_a_key(post: Post, doors: Doors):
    ada = doors.script("ada")
    message_id = ada.post("/messages", {"to": "later@x.example", "subject": "Hello", "text": "Dear reader"}).json["id"]
    post.until(message_id, "deferred")
    with post.bench.session() as session, session.begin():
        session.execute(update(Recipient).values(next_at=seconds_from_now(3600)))
    assert ada.post(f"/messages/{message_id}/retry", headers={"Idempotency-Key": "retry"}).status_code == 409
    with post.bench.session() as session:
        assert session.scalars(select(Recipient.next_at > seconds_from_now(3000))).all() == [True]
