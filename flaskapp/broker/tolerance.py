"""Headers that py-amqp and pika cannot read, nested too deep or with a date of no calendar, end no process.

Both libraries decode a message's properties in the thread that reads the socket: an exception there is the end of
a worker, and, because the message comes back, of the next one. What cannot be read becomes the one header UNREADABLE.
"""

from typing import Any

import pika.spec
from amqp import serialization

#: The header that says what is wrong with the others; its bytes are kept under BYTES.
UNREADABLE, BYTES = "offload_unreadable", "offload_bytes"
_BASIC = pika.spec.BasicProperties.INDEX
_MOST = 2000
_amqp_read = serialization.PROPERTY_CLASSES[_BASIC]


def install() -> None:
    """Put ours where the two libraries look up how properties are read."""
    serialization.PROPERTY_CLASSES[_BASIC] = _read
    pika.spec.props[_BASIC] = Properties


def _read(encoded: Any, offset: int) -> tuple[dict[str, Any], int]:
    try:
        properties, offset = _amqp_read(encoded, offset)
    except Exception as problem:  # noqa: BLE001 -- said in the header
        return {"application_headers": _instead(problem, encoded)}, len(encoded)
    return properties, offset


class Properties(pika.spec.BasicProperties):
    def decode(self, encoded: bytes, offset: int = 0) -> Any:
        try:
            super().decode(encoded, offset)
        except Exception as problem:  # noqa: BLE001 -- said in the header
            self.headers = _instead(problem, encoded)
        return self


def _instead(problem: Exception, encoded: Any) -> dict[str, Any]:
    what = f"Its headers cannot be read ({type(problem).__name__})."
    return {UNREADABLE: what, BYTES: bytes(encoded[:_MOST])}
