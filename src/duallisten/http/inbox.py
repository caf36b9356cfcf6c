"""What a connection has received and not used yet.

Nearly always that is nothing: a request comes in one read, and is used at once. A head that comes in parts is gathered
here, and so is what a client sends ahead of its answers.
"""

from __future__ import annotations

import re

from duallisten.http.head import BadRequest

BLANK_LINES = re.compile(rb"(?:\r\n)+")


class Inbox:
    """Bytes in the order in which they came."""

    __slots__ = ("_data", "_searched")

    def __init__(self) -> None:
        self._data = bytearray()
        self._searched = 0  # bytes in which no head ends, and no line in a bare LF

    def __len__(self) -> int:
        return len(self._data)

    def add(self, data: bytes) -> None:
        """Take what came next."""
        self._data += data

    def take(self) -> bytes:
        """Give all of it away."""
        data = bytes(self._data)
        self.clear()
        return data

    def clear(self) -> None:
        """Throw all of it away."""
        self._data.clear()
        self._searched = 0

    def has_head(self, max_bytes: int) -> bool:
        """Whether there is a whole head of a request; each byte is looked at once.

        Empty lines before it are thrown away (RFC 9112, 2.2).

        Args:
            max_bytes: The largest head.

        Raises:
            BadRequest: 431 for more than that, 400 for what cannot become a head.
        """
        data = self._data
        if data[:1] == b"\r" and (match := BLANK_LINES.match(data)) is not None:
            del data[: match.end()]
            self._searched = 0
        if data[:1] == b"\r" and len(data) > 1:
            raise BadRequest(400, "a CR in front of a request line")
        if data.find(b"\r\n\r\n", max(0, self._searched - 3)) >= 0:
            return True
        if len(data) > max_bytes:
            raise BadRequest(431, f"a head of more than {max_bytes} bytes")
        new = bytes(data[max(0, self._searched - 1) :])
        if new.count(b"\n") != new.count(b"\r\n") + new.startswith(b"\n"):
            raise BadRequest(400, "a line that does not end in CRLF")
        self._searched = len(data)
        return False
