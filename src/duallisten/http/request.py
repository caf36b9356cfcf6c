"""Reading a request: its head, checked before and after the parser, and then its body.

The parser gets the head, and a body that comes in chunks, never a byte of what follows. A body of known length needs no
parsing: it is counted here, and given on without a copy. What must be refused is decided around the parser (`head`,
`chunks`), so both parsers refuse alike.
"""

from __future__ import annotations

import re
import sys

from duallisten.http.chunks import ChunkGuard
from duallisten.http.head import (
    FRAMING_FIELDS,
    PLAIN,
    BadRequest,
    Field,
    Framing,
    RequestLine,
    check_head,
    check_host,
    join_fields,
    read_framing,
)
from duallisten.http.parsers import Parser
from duallisten.http.settings import Limits

MAX_LINES = 512
"""Lines of chunk framing that are read in one turn of the event loop: about a millisecond of work."""

TAB_BEHIND_CODING = re.compile(rb"\r\ntransfer-encoding:[^\r]*\t *\r", re.IGNORECASE)
"""What llhttp refuses, though not always, and h11 does not."""


class RequestReader:
    """Reads the requests of one connection, one after the other.

    Args:
        parser: The parser of the connection.
        limits: What the peer may send.

    Attributes:
        has_body: Whether some of the body of the last request is still to come.
        host: The last Host that was found in order; None before the first.
    """

    __slots__ = ("_guard", "_left", "_limits", "_max_fields", "_parser", "has_body", "host")

    def __init__(self, parser: Parser, limits: Limits) -> None:
        self._parser = parser
        self._limits = limits
        self._max_fields = sys.maxsize if limits.head_fields is None else limits.head_fields
        self._left = 0  # bytes of the body that are still to come, where its length is known
        self._guard: ChunkGuard | None = None
        self.has_body = False
        self.host: bytes | None = None

    def read_head(self, head: bytes) -> tuple[RequestLine, list[Field], Framing]:
        """Read a whole head, up to the empty line at its end.

        Raises:
            BadRequest: It is malformed, or could be read in two ways.
        """
        line = check_head(head, self._max_fields)
        fields = self._parser.read_head(head)
        found = dict(fields)
        if len(found) != len(fields) or len(fields) > self._max_fields:
            found = join_fields(fields, self._max_fields)
        host = found.get(b"host")
        if host != self.host or host is None or line.authority is not None:
            check_host(line, host)
            self.host = host
            if line.authority is not None:  # it counts, and Host does not (RFC 9112, 3.2.2)
                fields = [(name, line.authority if name == b"host" else value) for name, value in fields]
        if line.version == "1.1" and FRAMING_FIELDS.isdisjoint(found):
            return line, fields, PLAIN
        framing = read_framing(line, found)
        if framing.length is None and TAB_BEHIND_CODING.search(head):
            raise BadRequest(400, "a tab behind a transfer coding")
        return line, fields, framing

    def begin_body(self, length: int | None) -> None:
        """Prepare to read a body of `length` bytes; None for one that comes in chunks."""
        self.has_body = True
        if length is None:
            self._guard = ChunkGuard(self._limits.head_bytes, self._limits.body_bytes)
        else:
            self._guard, self._left = None, length
            self._parser.skip_body()

    def read_body(self, data: bytes) -> tuple[list[bytes], int]:
        """Read bytes of the body, as far as this turn of the event loop goes.

        Returns:
            What they hold, in pieces, and how many were read.

        Raises:
            BadRequest: They are malformed, or too many.
        """
        guard = self._guard
        if guard is None:
            size = min(self._left, len(data))
            self._left -= size
            self.has_body = self._left > 0
            return [data if size == len(data) else data[:size]], size
        size, end = guard.check(data, MAX_LINES)
        self.has_body = not guard.complete
        if not end:  # nothing for the parser; to h11, no bytes are the end of the connection
            return [], size
        return self._parser.read_body(data if end == len(data) else data[:end]), size

    def close(self) -> None:
        """Let go of the parser: the connection has ended."""
        self._parser.close()
