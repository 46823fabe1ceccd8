"""Files in a request: streamed straight to storage, only where a view takes files, up to the set size.

Werkzeug would spool them to a temporary folder and copy them once more.
"""

from typing import IO, Any

from flask import Flask, Request, current_app, g, request

from flaskapp.uploads.storage import IncomingFile, Storage

#: The endpoints that take files; everywhere else a body of this size is refused before it is read.
ENDPOINTS = frozenset({"uploads.upload", "api.upload_table", "mail.compose", "mail.merge_send"})
#: Where less is taken than by an upload.
_LESS = {"mail.compose": 22_000_000, "mail.merge_send": 22_000_000}
#: Room for the form's other fields.
_FORM_BYTES = 100_000


class ReceivingRequest(Request):
    """Flask's request, with upload streams that end in storage."""

    @property
    def max_content_length(self) -> int | None:
        if self.endpoint in ENDPOINTS:
            limit: int = current_app.config["SETTINGS"].max_upload_bytes
            return min(limit, _LESS.get(str(self.endpoint), limit)) + _FORM_BYTES
        return super().max_content_length

    @max_content_length.setter
    def max_content_length(self, value: int | None) -> None:
        Request.max_content_length.fset(self, value)  # type: ignore[attr-defined]

    def _get_file_stream(
        self,
        total_content_length: int | None,
        content_type: str | None,
        filename: str | None = None,
        content_length: int | None = None,
    ) -> IO[bytes]:
        if self.endpoint not in ENDPOINTS:
            return super()._get_file_stream(total_content_length, content_type, filename, content_length)
        return open_incoming()  # type: ignore[return-value]


def init_app(app: Flask) -> None:
    app.request_class = ReceivingRequest
    app.extensions["storage"] = Storage(app.config["SETTINGS"].storage_url)
    app.teardown_request(_discard_what_was_not_kept)


def received() -> IncomingFile | None:
    """The file of this request's field `file`; None if none was sent."""
    sent = request.files.get("file")
    return sent.stream if sent is not None and isinstance(sent.stream, IncomingFile) else None


def open_incoming() -> IncomingFile:
    """A file of this request that nobody sent; deleted at its end like those that were, unless it is kept."""
    storage: Storage = current_app.extensions["storage"]
    incoming = storage.receive()
    g.setdefault("incoming", []).append(incoming)
    return incoming


def why_too_large() -> str:
    """The sentence for a 413: Werkzeug says the same of a body, a field and the number of parts."""
    limit: int = current_app.config["SETTINGS"].max_upload_bytes
    received_bytes = sum(incoming.size for incoming in g.get("incoming", []))
    # What came without a length is judged by what had been written when the limit was met.
    if max(request.content_length or 0, received_bytes + _FORM_BYTES) > limit:
        return f"The file is too large: at most {limit / 1e6:,.0f} MB are taken. Split it, or ask an admin."
    return "This form has too many parts or too long ones: send one file, in the field `file`."


def _discard_what_was_not_kept(_error: Any) -> None:
    for incoming in g.get("incoming", []):
        storage: Storage = current_app.extensions["storage"]
        if incoming.path.parent == storage.incoming:
            incoming.discard()
        else:
            incoming.close()
