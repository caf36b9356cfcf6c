"""What a connection has received and not used yet.

Nearly always that is nothing: a request comes in one read, and is used at once. A head that comes in parts is gathered
here, and so is what a client sends ahead of its answers.
"""

from __future__ import annotations

import re

from duallisten.http.head import BadRequest

BLANK_LINES = re.compile(rb"(?:\r\n)+")


class Inbox(bytearray):
    """Bytes in the order in which they came; whether there are any is asked for each request, so it is a bytearray."""

    __slots__ = ("_searched",)

    def __init__(self) -> None:
        super().__init__()
        self._searched = 0  # bytes in which no head ends, and no line in a bare LF

    def add(self, data: bytes) -> None:
        """Take what came next."""
        self.extend(data)

    def take(self) -> bytes:
        """Give all of it away."""
        data = bytes(self)
        self.clear()
        return data

    def clear(self) -> None:
        """Throw all of it away."""
        super().clear()
        self._searched = 0

    def has_head(self, max_bytes: int) -> bool:
        """Whether there is a whole head of a request; each byte is looked at once.

        Empty lines before it are thrown away (RFC 9112, 2.2).

        Args:
            max_bytes: The largest head.

        Raises:
            BadRequest: 431 for more than that, 400 for what cannot become a head.
        """
        if self.startswith(b"\r"):
            if (match := BLANK_LINES.match(self)) is not None:
                del self[: match.end()]
                self._searched = 0
            if self.startswith(b"\r") and len(self) > 1:
                raise BadRequest(400, "a CR in front of a request line")
        if self.find(b"\r\n\r\n", max(0, self._searched - 3)) >= 0:
            return True
        if len(self) > max_bytes:
            raise BadRequest(431, f"a head of more than {max_bytes} bytes")
        new = bytes(self[max(0, self._searched - 1) :])
        if new.count(b"\n") != new.count(b"\r\n") + new.startswith(b"\n"):
            raise BadRequest(400, "a line that does not end in CRLF")
        self._searched = len(self)
        return False
