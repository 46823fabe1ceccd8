"""JSON from outside is read only if reading it costs little."""

import pytest

from flaskapp.api.parsing import MOST_VALUES, read_json
from flaskapp.errors import BadArguments


@pytest.mark.parametrize("item", ["[],", "{},", "1,", "[[[]]],"])
def test_a_body_of_very_many_values_is_refused_before_it_is_read(item: str):
    body = '{"to":[' + item * MOST_VALUES + "1]}"
    for text in (body, body.encode()):
        with pytest.raises(BadArguments, match="commas and brackets"):
            read_json(text)


def test_a_long_text_is_no_list():
    assert read_json('{"text":"' + ", [x]" * 300_000 + '"}')["text"].count("[") == 300_000
