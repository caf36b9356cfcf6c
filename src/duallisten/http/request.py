"""Reading a request: what has come of it, its head, its body, and the scope that its application gets.

The parser gets the head, and a body that comes in chunks, never a byte of what follows. A body of known length needs no
parsing: it is counted here, and passed on without a copy. What must be refused is decided around the parser (`head`,
`chunks`), so both parsers refuse alike.
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
"""Lines of chunk framing that are read in one turn of the event loop: about a millisecond of work."""

TAB_BEHIND_CODING = re.compile(rb"\r\ntransfer-encoding:[^\r]*\t *\r", re.IGNORECASE)
"""What llhttp refuses, though not always, and h11 does not."""

BLANK_LINES = re.compile(rb"(?:\r\n)+")


class Inbox(bytearray):
    """What a connection has received and not used yet: a head that comes in parts, or what a client sends ahead.

    Nearly always that is nothing. Whether there is anything is asked for each request, so it is a bytearray.
    """

    __slots__ = ("_searched",)

    def __init__(self) -> None:
        super().__init__()
        self._searched = 0  # bytes in which no head ends, and no line in a bare LF

    def take(self) -> bytes:
        """Return all of it, and keep nothing."""
        data = bytes(self)
        self.clear()
        return data

    def clear(self) -> None:
        """Throw all of it away."""
        super().clear()
        self._searched = 0

    def has_head(self, max_bytes: int) -> bool:
        """Whether there is a whole head of a request of at most `max_bytes`; each byte is looked at once.

        Empty lines before it are thrown away (RFC 9112, 2.2).

        Raises:
            BadRequest: 431 for a larger one, 400 for what cannot become a head.
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


def connection_scope(connection: Connection) -> dict[str, Any]:
    """Build what the scopes of a connection have in common; it is copied for each request, and never handed out."""
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
    """Build the scope of a request; every dict in it is new, but for the empty ones of extensions."""
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
    """Return the other end's address as in a scope; None where it has none, as at a UNIX domain socket."""
    return (str(name[0]), int(name[1])) if isinstance(name, tuple | list) and len(name) >= 2 else None


def own_address(name: Any) -> tuple[str, int | None] | None:
    """Return our own address as in a scope: host and port, or a path and None."""
    if isinstance(name, str) and name:
        return name, None
    return peer_address(name)
