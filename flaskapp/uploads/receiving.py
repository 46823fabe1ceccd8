"""Files in a request: streamed straight to storage, only where a view takes files, up to the set size.

Werkzeug would spool them to a temporary folder and copy them once more.
"""

from typing import IO, Any

from flask import Flask, Request, current_app, g, request

from flaskapp.uploads.storage import IncomingFile, Storage

#: The endpoints that take files; everywhere else a body of this size is refused before it is read.
ENDPOINTS = frozenset({"uploads.upload", "api.upload_table"})
#: Room for the form's other fields.
_FORM_BYTES = 100_000


class ReceivingRequest(Request):
    """Flask's request, with upload streams that end in storage."""

    @property
    def max_content_length(self) -> int | None:
        if self.endpoint in ENDPOINTS:
            limit: int = current_app.config["SETTINGS"].max_upload_bytes
            return limit + _FORM_BYTES
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
        storage: Storage = current_app.extensions["storage"]
        incoming = storage.receive()
        g.setdefault("incoming", []).append(incoming)
        return incoming  # type: ignore[return-value]


def init_app(app: Flask) -> None:
    app.request_class = ReceivingRequest
    app.extensions["storage"] = Storage(app.config["SETTINGS"].storage_url)
    app.teardown_request(_discard_what_was_not_kept)


def received() -> IncomingFile | None:
    """The file of this request's field `file`; None if none was sent."""
    sent = request.files.get("file")
    return sent.stream if sent is not None and isinstance(sent.stream, IncomingFile) else None


def _discard_what_was_not_kept(_error: Any) -> None:
    for incoming in g.get("incoming", []):
        storage: Storage = current_app.extensions["storage"]
        if incoming.path.parent == storage.incoming:
            incoming.discard()
        else:
            incoming.close()
