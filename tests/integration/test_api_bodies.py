"""What a body may be: JSON in an object, of an honest length, and not endless."""

import pytest

from tests.integration.doors_fixtures import Doors, Script


def post_raw(script: Script, data: bytes, content_type: str = "application/json", path: str = "/jobs", **more):
    headers = {"Authorization": f"Bearer {script.token}"}
    return script.client.post(f"/api/v1{path}", data=data, content_type=content_type, headers=headers, **more)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"\xff\xfe\xfa", 400),
        (b'{"task": NaN}', 400),
        (b'{"task": "diagnostics.echo", "args": [Infinity]}', 400),
        (b'{"task": "diagnostics.echo", "args": [' + b"9" * 5000 + b"]}", 400),
        (b"[]", 422),
        (b'"text"', 422),
        (b"null", 422),
        (b'{"task": "diagnostics.echo", "args": ["\\ud800"]}', 422),
        (b"[" * 100_000, 422),
        (b'{"task": "diagnostics.echo", "args": [' + b"[" * 70 + b"]" * 70 + b"]}", 422),
        (b'{"a":' * 100_000, 422),
    ],
)
def test_what_is_no_json_object_is_refused_with_a_sentence(doors: Doors, body: bytes, status: int):
    answer = post_raw(doors.script(), body)
    assert answer.status_code == status, answer.text
    assert answer.content_type == "application/problem+json"
    assert answer.json["detail"].endswith(".")


def test_integers_beyond_64_bits_are_kept(doors: Doors):
    job = doors.script().submit(args=[2**200])
    assert job["args"] == [2**200]


def test_another_content_type_is_refused(doors: Doors):
    answer = post_raw(doors.script(), b'{"task": "diagnostics.echo"}', "text/plain")
    assert answer.status_code == 415
    assert "Content-Type: application/json" in answer.json["detail"]


class Endless:
    """A body that goes on; remembers how much of it was read."""

    def __init__(self, size: int) -> None:
        self.left = size
        self.was_read = 0

    def read(self, size: int = -1) -> bytes:
        piece = min(self.left, 65_536 if size < 0 else size)
        self.left -= piece
        self.was_read += piece
        return b" " * piece

    def close(self) -> None:
        return None


def test_a_hundred_megabytes_of_json_are_refused_unread(doors: Doors):
    script, body = doors.script(), Endless(100_000_000)
    answer = post_raw(script, b"", environ_overrides={"wsgi.input": body, "CONTENT_LENGTH": "100000000"})
    assert answer.status_code == 413
    assert body.was_read == 0


def test_a_body_without_an_honest_length_is_read_to_the_limit_only(doors: Doors):
    script, body = doors.script(), Endless(100_000_000)
    stream = {"wsgi.input": body, "wsgi.input_terminated": True, "HTTP_TRANSFER_ENCODING": "chunked"}
    assert post_raw(script, b"", environ_overrides=stream).status_code == 413
    assert body.was_read < 2_000_000


def test_a_stranger_does_not_get_a_body_read(doors: Doors):
    body = Endless(100_000)
    answer = doors.browser().post(
        "/api/v1/jobs",
        environ_overrides={"wsgi.input": body, "CONTENT_LENGTH": "100000"},
        content_type="application/json",
    )
    assert answer.status_code == 401
    assert body.was_read == 0
