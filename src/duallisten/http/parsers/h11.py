"""HTTP/1.1 by h11, in Python: for platforms without a wheel of httptools, and for users who want a readable parser."""

from __future__ import annotations

import re

import h11

from duallisten.http.head import BadRequest, Field

NORMALIZED = frozenset((b"content-length", b"transfer-encoding"))
"""Fields that h11 changes: it merges equal lengths into one, and lowercases codings."""

SENT = re.compile(rb"\r\n(content-length|transfer-encoding):([^\r]*)", re.IGNORECASE)
"""Finds these fields in a head, as they were sent."""

NO_LIMIT = 1 << 62
"""The largest head and line of framing for h11, in bytes. The engine has checked both before."""


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
        return fields if NORMALIZED.isdisjoint(name for name, _ in fields) else _as_sent(fields, head)

    def skip_body(self) -> None:
        """Release the h11 connection of the current message."""
        self._connection = None

    def read_body(self, data: bytes) -> list[bytes]:
        """Read bytes of a chunked body."""
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
        """Release the h11 connection of the current message."""
        self._connection = None


def _as_sent(fields: list[Field], head: bytes) -> list[Field]:
    """Replace the fields that h11 has changed by the fields as they were sent."""
    sent = [(name.lower(), value.strip(b" \t")) for name, value in SENT.findall(head)]
    found: list[Field] = []
    for field in fields:
        at = next((at for at, one in enumerate(sent) if one[0] == field[0]), None)
        found.append(field if at is None else sent.pop(at))
    return found + sent
