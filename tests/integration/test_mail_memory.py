"""A merge from a table with long cells costs little memory, whatever the table and the message come to."""

import tracemalloc
from collections.abc import Callable
from typing import Any

from sqlalchemy import select

from flaskapp.extensions import db
from flaskapp.mail import actions, merge_texts, merging, people
from flaskapp.uploads.models import Upload
from tests.integration.doors_fixtures import Doors
from tests.integration.mail_fixtures import Post, mail_bench, post, server  # noqa: F401 -- fixtures
from tests.integration.test_mail_merge import doors, newest, upload  # noqa: F401 -- a fixture

_LONG = 400_000
_ROWS = 60
#: What is held at once, and what the driver reads ahead, in characters; a copy or two of it may be on its way.
_ENOUGH = 20_000_000
TABLE = "e_mail,long\n" + "".join(f"u{number}@x.example,{'x' * _LONG}\n" for number in range(_ROWS))


def peak(act: Callable[[], Any]) -> int:
    tracemalloc.start()
    try:
        act()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_table_of_long_rows_is_never_held_whole(post: Post, doors: Doors):
    ada = doors.signed_in("ada")
    place = f"/mail/merge?upload={upload(post, ada, TABLE.encode())}"
    assert peak(lambda: ada.get(place)) < _ENOUGH
    with post.bench.app.app_context():
        table = db.session.scalars(select(Upload)).one()
        assert len(list(people.rows_of(table, people.columns_of(table)))) == _ROWS
        assert peak(lambda: sum(1 for _ in people.rows_of(table, people.columns_of(table)))) < _ENOUGH
        texts = ("Hello", "Dear {{ e_mail }}: {{ long }}")
        assert peak(lambda: merge_texts.preview(table, "e_mail", *texts, 1)) < _ENOUGH
        assert peak(lambda: merging.check(table, "e_mail", *texts)) < _ENOUGH
        actions.pause(db.session(), merging.write(db.session(), table, "e_mail", *texts, "ada"))
        db.session.commit()
    assert peak(post.bench.run) < _ENOUGH
    assert post.states(newest(post).id) == ["queued"] * _ROWS


def test_what_fills_the_mails_is_not_read_with_a_list_of_who_got_them(post: Post, doors: Doors):
    ada = doors.signed_in("ada")
    with post.bench.app.app_context():
        message = actions.write(["b@x.example"], "Hello", "Dear reader", owner="ada")
        people_ = [(one, '"' + "x" * _LONG + '"') for one in actions.mailboxes(f"u{n}@x.example" for n in range(_ROWS))]
        actions.add_recipients(db.session(), message, people_, first=1)
        message_id = message.id
        db.session.commit()
    for place in (f"/mail/{message_id}", f"/mail/{message_id}/recipients.csv"):
        assert peak(lambda place=place: ada.get(place).data) < _ENOUGH / 4
