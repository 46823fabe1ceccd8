"""The list of breaks stays true to the code; `make mutants` runs them."""

import ast
from pathlib import Path

import pytest

from tests.mutants.breaks import BREAKS, Break

ROOT = Path(__file__).parent.parent
PROMISES = [f"G{number}" for number in range(1, 10)]


@pytest.mark.parametrize("each", BREAKS, ids=str)
def test_a_breaks_text_stands_once_in_its_file(each: Break) -> None:
    assert (ROOT / each.file).read_text().count(each.old) == 1


@pytest.mark.parametrize("each", BREAKS, ids=str)
def test_a_broken_file_is_still_python(each: Break) -> None:
    ast.parse((ROOT / each.file).read_text().replace(each.old, each.new))


@pytest.mark.parametrize("each", BREAKS, ids=str)
def test_a_breaks_test_exists(each: Break) -> None:
    file, _, name = each.test.partition("::")

    assert f"def {name.partition('[')[0]}(" in (ROOT / file).read_text()


@pytest.mark.parametrize("promise", PROMISES)
def test_every_promise_has_a_break(promise: str) -> None:
    assert any(each.promise == promise for each in BREAKS)
