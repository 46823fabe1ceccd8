"""An address from outside is one person's, and that person's only."""

import pytest

from flaskapp.mail.addresses import mailbox


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
