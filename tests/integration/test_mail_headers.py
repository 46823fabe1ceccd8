"""What people typed stays in its header: on the wire there is no other header, no other reader, no other word."""

from email.header import decode_header, make_header
from email.message import EmailMessage

import pytest

from flaskapp.errors import BadArguments
from flaskapp.extensions import db
from flaskapp.mail import actions
from flaskapp.mail.addresses import mailbox
from tests.integration.doors_fixtures import Doors, csrf_of, doors  # noqa: F401 -- a fixture
from tests.integration.mail_fixtures import Post, mail_bench, post, server  # noqa: F401 -- fixtures

#: Python's parser of headers decodes it, and writes what was hidden in it as lines of their own.
HIDDEN = "=?utf-8?q?a=0D=0ABcc:_victim@v.example=0D=0A=0D=0AOther_text?="
HEADERS = {"To", "Message-ID", "Subject", "From", "Date", "Auto-Submitted", "MIME-Version"}


def headers_of(letter: EmailMessage) -> set[str]:
    return {name for name in letter if not name.startswith("Content-")}


def decoded(letter: EmailMessage, header: str) -> str:
    """As the standard says; the library's own parser puts spaces between the words of an address."""
    raw = next(value for name, value in letter.raw_items() if name == header)
    return str(make_header(decode_header(raw)))


@pytest.mark.parametrize(
    "subject",
    [
        HIDDEN,
        f"{'x' * 300} {HIDDEN}",
        "=?utf-16?b?AAoADQBC?=",
        "=?utf-8?q?a=00b?=",
        "Grüße, “quoted” and 東京 " * 12,
        "plain " * 60 + "end",
        "1 < 2, a: b; c@d.example",
    ],
)
def test_a_subject_arrives_as_it_was_typed_and_brings_no_header(post: Post, subject: str):
    subject = subject.strip()
    post.send("ada@x.example", subject=subject)
    (letter,) = post.inbox.of("ada@x.example")
    assert headers_of(letter) == HEADERS
    assert letter.get_content() == "Dear reader\n"
    assert decoded(letter, "Subject") == subject


@pytest.mark.parametrize(
    "name",
    [
        f"{'x' * 30}, {'y' * 60}, evil@v.example",
        "Ada <evil@v.example>, " * 9,
        'a"b\\c, ' * 30,
        "é, evil@v.example " * 9,
    ],
)
def test_a_long_name_with_commas_is_one_name_of_one_reader(post: Post, name: str):
    quoted = name.replace("\\", r"\\").replace('"', r"\"")
    post.send(f'"{quoted}" <ada@x.example>')
    (letter,) = post.inbox.of("ada@x.example")
    (reader,) = letter["To"].addresses
    assert reader.addr_spec == "ada@x.example"
    assert decoded(letter, "To").split() == [*name.split(), "<ada@x.example>"]


def test_an_encoded_word_in_an_encoded_name_stays_a_name(post: Post):
    post.send(f"=?utf-8?q?{'=' + HIDDEN.encode().hex('=').upper()}?= <ada@x.example>")
    (letter,) = post.inbox.of("ada@x.example")
    assert headers_of(letter) == HEADERS
    assert letter.get_content() == "Dear reader\n"


@pytest.mark.parametrize("word", ["=?utf-8?q?a=E2=80=AEb?=", "=?utf-8?q?a=00b?=", "=?utf-8?q?a=0D=0Ab?="])
def test_a_name_whose_encoded_words_hide_control_characters_is_refused(word: str):
    with pytest.raises(BadArguments, match="is not one address"):
        mailbox(f"{word} <ada@x.example>")


def test_the_name_of_an_attachment_brings_no_header(post: Post):
    with post.bench.app.app_context():
        actions.write(["ada@x.example"], "Hello", "text", attachments=[(f"{HIDDEN}.txt", b"content")])
        db.session.commit()
    post.bench.run()
    (letter,) = post.inbox.of("ada@x.example")
    (part,) = letter.iter_attachments()
    assert set(part.keys()) == {"Content-Type", "Content-Transfer-Encoding", "Content-Disposition", "MIME-Version"}
    assert part.get_content() == "content"


def test_a_stranger_hides_no_header_in_a_subject(post: Post):
    post.set(mail_contact="desk@x.example")
    stranger = Doors(post.bench.app).browser()
    fields = {"email": "eve@v.example", "subject": HIDDEN, "text": "Hello", "csrf_token": csrf_of(stranger, "/contact")}
    assert stranger.post("/contact", data=fields).status_code == 200
    post.bench.run()
    (letter,) = post.inbox.of("desk@x.example")
    assert "Bcc" not in letter
    assert "Other text" not in letter.get_content().splitlines()
