"""HTTP/1.1 by h11, in Python: for platforms without a wheel of httptools, and for those who want to read the parser."""

from __future__ import annotations

import re

import h11

from duallisten.http.head import BadRequest, Field

LENGTHS = re.compile(rb"\r\ncontent-length:([^\r]*)", re.IGNORECASE)
"""The lengths in a head, as they were sent."""

NO_LIMIT = 1 << 62
"""Bytes of the largest head and line of framing. The engine has checked both before h11 sees them."""


class H11Parser:
    """Reads the messages of one connection, each with an `h11.Connection` of its own; see `Parser`."""

    __slots__ = ("_connection",)

    def __init__(self) -> None:
        self._connection: h11.Connection | None = None

    def read_head(self, head: bytes) -> list[Field]:
        """Read a whole head."""
        self._connection = connection = h11.Connection(h11.SERVER, max_incomplete_event_size=NO_LIMIT)
        try:
            connection.receive_data(head)
            event = connection.next_event()
        except h11.RemoteProtocolError as error:
            raise BadRequest(400, f"h11: {error}") from None
        if not isinstance(event, h11.Request):
            raise BadRequest(400, "h11: not a request")
        fields = list(event.headers)
        if any(name == b"content-length" for name, _ in fields):  # h11 makes one of several that are equal
            fields = [field for field in fields if field[0] != b"content-length"]
            fields += [(b"content-length", value.strip(b" \t")) for value in LENGTHS.findall(head)]
        return fields

    def read_body(self, data: bytes) -> list[bytes]:
        """Read bytes of the body."""
        connection = self._connection
        assert connection is not None  # noqa: S101
        body: list[bytes] = []
        try:
            connection.receive_data(data)
            while isinstance(event := connection.next_event(), h11.Data):
                body.append(bytes(event.data))
        except h11.RemoteProtocolError as error:
            raise BadRequest(400, f"h11: {error}") from None
        return body

    def close(self) -> None:
        """Let go of the message at hand."""
        self._connection = None
