"""Reading a request: the received bytes, the head, the body, and the ASGI scope.

The parser gets the head and a chunked body, and no byte after them. A body of known length needs no parsing: its bytes
are counted here, and passed on without a copy. `head` and `chunks` decide what is refused, so both parsers refuse the
same requests.
"""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, Any

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

if TYPE_CHECKING:
    from duallisten.http.connection import Connection
    from duallisten.http.parsers import Parser
    from duallisten.http.settings import Limits
    from duallisten.sides import Scope

MAX_LINES = 512
"""The most lines of chunk framing that are read in one turn of the event loop: about a millisecond of work."""

TAB_BEHIND_CODING = re.compile(rb"\r\ntransfer-encoding:[^\r]*\t *\r", re.IGNORECASE)
"""A tab after the coding. llhttp refuses it, but not always; h11 accepts it."""

BLANK_LINES = re.compile(rb"(?:\r\n)+")


class Inbox(bytearray):
    """Bytes that a connection has received and not used yet: an incomplete head, or requests sent ahead.

    It is nearly always empty, and tested for each request. It is a bytearray because that test is fast.
    """

    __slots__ = ("_searched",)

    def __init__(self) -> None:
        super().__init__()
        self._searched = 0  # bytes already searched: no head ends in them, and no line ends in a bare LF

    def take(self) -> bytes:
        """Return all bytes, and clear the inbox."""
        data = bytes(self)
        self.clear()
        return data

    def clear(self) -> None:
        """Drop all bytes."""
        super().clear()
        self._searched = 0

    def has_head(self, max_bytes: int) -> bool:
        """Whether the inbox holds a whole request head; each byte is searched once.

        Empty lines before the head are dropped (RFC 9112, 2.2).

        Raises:
            BadRequest: 431 for an incomplete head of more than `max_bytes`, 400 for bytes that cannot become a head.
        """
        if self.startswith(b"\r"):
            if (match := BLANK_LINES.match(self)) is not None:
                del self[: match.end()]
                self._searched = 0
            if self.startswith(b"\r") and len(self) > 1:
                raise BadRequest(400, "CR before the request line")
        if self.find(b"\r\n\r\n", max(0, self._searched - 3)) >= 0:
            return True
        if len(self) > max_bytes:
            raise BadRequest(431, f"request head larger than {max_bytes} bytes (--max-head-size)")
        new = bytes(self[max(0, self._searched - 1) :])
        if new.count(b"\n") != new.count(b"\r\n") + new.startswith(b"\n"):
            raise BadRequest(400, "line does not end in CRLF")
        self._searched = len(self)
        return False


class RequestReader:
    """Reads the requests of one connection, one after the other.

    Args:
        parser: The parser of the connection.
        limits: The limits for heads and bodies.

    Attributes:
        has_body: Whether a part of the last request's body has not been read yet.
        host: The last valid Host; None before the first.
    """

    __slots__ = ("_guard", "_left", "_limits", "_max_fields", "_parser", "has_body", "host")

    def __init__(self, parser: Parser, limits: Limits) -> None:
        self._parser = parser
        self._limits = limits
        self._max_fields = sys.maxsize if limits.head_fields is None else limits.head_fields
        self._left = 0  # bytes of the body that have not been read yet, if its length is known
        self._guard: ChunkGuard | None = None
        self.has_body = False
        self.host: bytes | None = None

    def read_head(self, head: bytes) -> tuple[RequestLine, list[Field], Framing]:
        """Read a whole head, up to the empty line at its end.

        Raises:
            BadRequest: It is malformed or ambiguous.
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
            if line.authority is not None:  # it replaces Host (RFC 9112, 3.2.2)
                fields = [(name, line.authority if name == b"host" else value) for name, value in fields]
        if line.version == "1.1" and FRAMING_FIELDS.isdisjoint(found):
            return line, fields, PLAIN
        framing = read_framing(line, found)
        if framing.length is None and TAB_BEHIND_CODING.search(head):
            raise BadRequest(400, "tab after the transfer coding")
        return line, fields, framing

    def begin_body(self, length: int | None) -> None:
        """Prepare to read a body of `length` bytes; None for a chunked body."""
        self.has_body = True
        if length is None:
            self._guard = ChunkGuard(self._limits.head_bytes, self._limits.body_bytes)
        else:
            self._guard, self._left = None, length
            self._parser.skip_body()

    def read_body(self, data: bytes) -> tuple[list[bytes], int]:
        """Read bytes of the body, at most as many as one turn of the event loop may.

        Returns:
            The decoded data in pieces, and the number of bytes read.

        Raises:
            BadRequest: The framing is malformed, or the body is too large.
        """
        guard = self._guard
        if guard is None:
            size = min(self._left, len(data))
            self._left -= size
            self.has_body = self._left > 0
            return [data if size == len(data) else data[:size]], size
        size, end = guard.check(data, MAX_LINES)
        self.has_body = not guard.complete
        if not end:  # nothing for the parser; h11 takes b"" as the end of the connection
            return [], size
        return self._parser.read_body(data if end == len(data) else data[:end]), size

    def close(self) -> None:
        """Release the parser: the connection is closed."""
        self._parser.close()


def connection_scope(connection: Connection) -> dict[str, Any]:
    """Build the common part of a connection's scopes; each request gets a copy."""
    return {
        "type": "http",
        "asgi": None,
        "http_version": "1.1",
        "server": connection.server,
        "client": connection.client,
        "scheme": connection.scheme,
        "method": "GET",
        "root_path": connection.context.root_path,
        "path": None,
        "raw_path": None,
        "query_string": None,
        "headers": None,
        "state": None,
        "extensions": None,
    }


def make_scope(connection: Connection, line: RequestLine, fields: list[Field]) -> Scope:
    """Build the scope of a request; every dict in it is new, except the values of `extensions`."""
    context = connection.context
    scope: Scope = connection.scope.copy()  # a copy costs less than a dict of so many keys
    scope["method"] = line.method
    scope["http_version"] = line.version
    scope["path"] = context.root_path + line.path
    scope["raw_path"] = context.raw_root_path + line.raw_path
    scope["query_string"] = line.query
    scope["headers"] = fields
    scope["asgi"] = {"version": context.asgi_version, "spec_version": "2.3"}
    scope["state"] = context.app_state.copy()
    scope["extensions"] = connection.extensions.copy()
    return scope


def peer_address(name: Any) -> tuple[str, int] | None:
    """Return the client's address as in an ASGI scope; None if it has none (UNIX domain socket)."""
    return (str(name[0]), int(name[1])) if isinstance(name, tuple | list) and len(name) >= 2 else None


def own_address(name: Any) -> tuple[str, int | None] | None:
    """Return the server's address as in an ASGI scope: host and port, or a path and None."""
    if isinstance(name, str) and name:
        return name, None
    return peer_address(name)
