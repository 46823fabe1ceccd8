"""`:name` in a question: what is one, what only looks like one, and what finding them costs."""

import time

import pytest

from flaskapp.query.child.parameters import names_in, numbered, with_marks


@pytest.mark.parametrize(
    ("sql", "names"),
    [
        ("SELECT :a, :b, :a", ["a", "b"]),
        ("SELECT :a::int, x::text", ["a"]),
        ("SELECT ':a', \":b\", `:c`, E'\\':d', 'it''s :e'", []),
        ("SELECT $$:a$$, $x$ $$ :b $x$, :c", ["c"]),
        ("SELECT a$b$c, :d, e$b$f", ["d"]),
        ("SELECT 1 -- :a\n, :b /* :c */", ["b"]),
        ("SELECT 1 /* :a", []),
        ("SELECT $a$ :a", []),
        ("SELECT '12:30', 12:30, :1, :äöü", ["äöü"]),
    ],
)
def test_a_name_is_found_outside_of_texts_and_comments(sql: str, names: list[str]) -> None:
    assert names_in(sql) == names


def test_each_database_gets_its_own_placeholders() -> None:
    assert numbered("SELECT :a, :b, :a::int") == ("SELECT $1, $2, $1::int", ["a", "b"])
    assert with_marks("SELECT :a, :b, :a") == ("SELECT ?, ?, ?", ["a", "b", "a"])


@pytest.mark.parametrize(
    "piece", ["/* ", "$tag{n}$ ", "e'\\' ", "'", '"a', "`", "$", "e'\\a", "$aaaaaaaaaaaaaaaa", "--", ":", "::a:"]
)
def test_what_is_never_closed_is_looked_through_once(piece: str) -> None:
    """The web process looks before it can refuse what is too long, and nothing else runs while it does."""
    tags = ("".join(chr(97 + int(digit)) for digit in str(number)) for number in range(12_000))
    sql = "SELECT " + "".join(piece.replace("{n}", tag) for tag in tags)
    began = time.process_time()
    names_in(sql)
    assert time.process_time() - began < 1
