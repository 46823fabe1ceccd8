"""An address from outside is one person's, and that person's only."""

import time

import pytest

from flaskapp.errors import BadArguments
from flaskapp.mail.addresses import Mailbox, mailbox, mailboxes


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("Ada@BÜCHER.example", "Ada@xn--bcher-kva.example"),
        # strasse.example may be somebody else's.
        ("ada@straße.example", "ada@xn--strae-oqa.example"),
        ("ada@STRAẞE.example", "ada@xn--strae-oqa.example"),
        ("ada@σόλος.example", "ada@xn--wxaijb9b.example"),
        ("ada@ΣΌΛΟΣ.example", "ada@xn--wxaikc6b.example"),
    ],
)
def test_a_domain_in_any_script_is_the_one_that_was_written(written: str, meant: str):
    assert mailbox(written).address == meant


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("J. R. O'Neil-Smith Jr. <ada@x.example>", "J. R. O'Neil-Smith Jr."),
        ('"Lovelace, Ada" <ada@x.example>', "Lovelace, Ada"),
        ("報告 Müller<ada@x.example>", "報告 Müller"),
        ("Ada  (of  London)  Lovelace <ada@x.example>", "Ada Lovelace"),
        ('"a \\"b\\"" <ada@x.example>', 'a "b"'),
        ("=?utf-8?q?Ada?= <ada@x.example>", "Ada"),
        ('"" <ada@x.example>', ""),
        ("<ada@x.example>", ""),
    ],
)
def test_a_name_before_the_address_is_read_as_people_write_it(written: str, name: str):
    assert mailbox(written) == Mailbox("ada@x.example", name)


def test_every_sign_that_needs_no_quotes_may_stand_in_an_address_also_after_a_name():
    for address in ("o'neil@x.example", "a!#$%&'*+?/=^_`{|}~-b@x.example"):
        assert mailbox(f"J. O'Neil <{address}>") == Mailbox(address, "J. O'Neil")


@pytest.mark.parametrize("written", ["a@b.c <ada@x.example>", "Bob, Ada <ada@x.example>", '"=?utf-8?q?x?=" <a@b.c>'])
def test_a_name_that_may_mean_something_else_is_refused(written: str):
    with pytest.raises(BadArguments, match="is not one address"):
        mailbox(written)


def test_a_long_list_of_odd_names_does_not_keep_its_reader_busy():
    words = "a  " * 300
    began = time.process_time()
    with pytest.raises(BadArguments, match="take long to read"):
        mailboxes(f"{words}<u{number}@x.example>" for number in range(1_000))
    # The fifty thousand of a full list would take ten minutes.
    assert time.process_time() - began < 10


def test_a_long_list_of_names_is_read_at_a_glance():
    names = [f"Ada J. Lovelace <u{number}@x.example>" for number in range(20_000)]
    began = time.process_time()
    assert len(mailboxes(names)) == 20_000
    assert time.process_time() - began < 2
