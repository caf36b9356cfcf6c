r"""The chunked coding of a request's body: a guard in front of the parser.

The parser decodes the chunks. The guard reads the same bytes first:

- It decides what is refused, so that httptools and h11 refuse the same bodies. (h11 accepts `5 \r\n`, control
  characters in extensions, and bare LFs in trailers.)
- It finds the end of the message, so that the parser never gets a byte after it.
- It reads the trailer section itself, and limits its size. Both parsers take some trailer fields for headers, but not
  the same ones.
- It refuses framing that outweighs the data, because a line of framing costs us far more than the sender.

It keeps no data, only the received part of an incomplete line of framing.

Source: RFC 9112, 7.1.
"""

from __future__ import annotations

import re

from duallisten.http.head import TEXT, BadRequest

MAX_OVERHEAD = 16 * 1024
"""The most bytes of framing in excess of the bytes of data; a body with more is refused. Real clients send chunks of
kilobytes; a client that sends lines of text as chunks stays far below."""

MAX_LINE = 4096
"""The longest line of framing, in bytes. nginx, node and Go accept 4 to 16 KiB."""

TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]++"
QUOTED = rb'"(?:[\t\x20\x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t\x20-\x7e\x80-\xff])*+"'

SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})(?:;%b(?:=(?:%b|%b))?)*+\r\n" % (TOKEN, TOKEN, QUOTED))
"""A chunk's size, below 2**60, and its extensions, which are ignored. White space around `;` and `=`, which the RFC
allows for old clients, is refused as in llhttp."""

TRAILER = re.compile(TOKEN + rb":[\t\x20-\x7e\x80-\xff]*\r\n")
"""A field of the trailer section, not folded. Trailer fields are checked and dropped (RFC 9110, 6.5.1)."""


class ChunkGuard:
    """Follows the framing of one chunked body.

    Args:
        max_trailer_bytes: The largest trailer section; None for no limit.
        max_body_bytes: The largest body; None for no limit.

    Attributes:
        complete: Whether the last byte of the message has been read.
        lines: The number of lines of framing so far: a measure of the work that the body has caused.
    """

    def __init__(self, max_trailer_bytes: int | None, max_body_bytes: int | None) -> None:
        self._max_trailer = max_trailer_bytes
        self._max_body = max_body_bytes
        self._data_left = 0  # unread bytes of the current chunk, with its CRLF
        self._in_trailer = False
        self._line = b""
        self._overhead = self._received = self._trailer_bytes = 0
        self.complete = False
        self.lines = 0

    def check(self, data: bytes, max_lines: int) -> tuple[int, int]:
        """Check the next bytes of the message.

        Args:
            data: The next received bytes.
            max_lines: The number of lines of framing to stop after, so that other connections get their turn.

        Returns:
            The number of checked bytes of this message, and the number of those before its trailer section, which the
            parser gets. If the first number is less than the length of `data`, the message is `complete`, or
            `max_lines` was reached.

        Raises:
            BadRequest: 400 for malformed framing or too much of it, 413 for too large a body.
        """
        at = chunks_end = 0
        last_line = self.lines + max_lines
        while at < len(data) and not self.complete and self.lines < last_line:
            was_in_trailer = self._in_trailer
            at = self._skip_data(data, at) if self._data_left else self._read_line(data, at)
            if not was_in_trailer:
                chunks_end = at
        return at, chunks_end

    def _skip_data(self, data: bytes, at: int) -> int:
        """Skip the data of a chunk, and check the CRLF after it."""
        left = self._data_left
        end = min(len(data), at + left)
        if left > 2:
            self._overhead -= min(left - 2, end - at)
        if end - at > left - 2:  # a part of the CRLF was received
            tail = data[max(at, at + left - 2) : end]
            if tail != b"\r\n"[2 - min(left, 2) :][: len(tail)]:
                raise BadRequest(400, "chunk data longer or shorter than the chunk size")
        self._data_left = left - (end - at)
        return end

    def _read_line(self, data: bytes, at: int) -> int:
        """Read a line of framing, or the received part of one."""
        end = data.find(b"\n", at) + 1
        part = data[at : end or len(data)]
        line = self._line + part if self._line else part
        if len(line) > MAX_LINE:
            raise BadRequest(400, "chunk line too long")
        if not end:
            _check_beginning(line)
            self._line = line
            return len(data)
        self._line = b""
        self.lines += 1
        if self._in_trailer:
            self._take_trailer(line)
        else:
            self._take_size(line)
        return end

    def _take_size(self, line: bytes) -> None:
        match = SIZE.fullmatch(line)
        if match is None:
            raise BadRequest(400, "malformed chunk size")
        size = int(match[1], 16)
        self._overhead += len(line) + 2
        if self._overhead > MAX_OVERHEAD:
            raise BadRequest(400, "too much chunk framing for the amount of data")
        self._received += size
        if self._max_body is not None and self._received > self._max_body:
            raise BadRequest(413, f"body larger than {self._max_body} bytes (--max-body-size)")
        if size:
            self._data_left = size + 2
        else:
            self._in_trailer = True

    def _take_trailer(self, line: bytes) -> None:
        if line == b"\r\n":
            self.complete = True
            return
        if TRAILER.fullmatch(line) is None:
            raise BadRequest(400, "malformed trailer field")
        self._trailer_bytes += len(line)
        if self._max_trailer is not None and self._trailer_bytes > self._max_trailer:
            raise BadRequest(400, "trailer section too large (--max-head-size)")


def _check_beginning(line: bytes) -> None:
    """Refuse an incomplete line that already contains a control character."""
    if line.removesuffix(b"\r").translate(None, TEXT):
        raise BadRequest(400, "control character in chunk framing")
