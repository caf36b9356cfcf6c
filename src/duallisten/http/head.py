"""The head of a request: which heads are refused, and how the message is framed.

Both parser libraries accept requests that must be refused, and not the same ones: httptools accepts two `Host` lines
and `RTSP/1.0`, h11 accepts two equal lengths and lines that end in a bare LF. If a proxy in front of us reads the same
bytes differently, a request can be smuggled past it. So all checks of the head are here, before and after the parser.
A parser may refuse more, but a head that fails here is never served.

The engine always has the whole head in one piece. `check_head` checks its bytes before the parser reads them.
`join_fields`, `check_host` and `read_framing` check the fields that the parser returns.

Sources: RFC 9112, 2.2 (line ends, leading CRLF), 3 (request line), 3.2 (Host), 5.2 (folding), 6.1 and 6.3 (length and
chunks), 9.3 (keep-alive); RFC 9110, 7.8 (Upgrade), 9.1 (methods), 10.1.1 (Expect).

Invariants:
    - A request with two possible lengths never gets a `Framing`.
    - An upgrade that we ignore does not change how the message is framed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import unquote

Field = tuple[bytes, bytes]
"""A header field: its name in lower case, and its value without white space around it."""

SERVED = """
GET HEAD POST PUT DELETE PATCH OPTIONS TRACE QUERY
ACL BIND CHECKOUT COPY LINK LOCK M-SEARCH MERGE MKACTIVITY MKCALENDAR MKCOL MOVE NOTIFY PROPFIND PROPPATCH PURGE
REBIND REPORT SEARCH SUBSCRIBE UNBIND UNLINK UNLOCK UNSUBSCRIBE
"""
METHODS = {name.encode(): name for name in SERVED.split()}
"""The methods that are served: those of llhttp, except CONNECT. We are no proxy, and the bytes after a CONNECT are not
HTTP."""

VERSIONS = {b"HTTP/1.1": "1.1", b"HTTP/1.0": "1.0"}

PREFACE_HEAD = b"PRI * HTTP/2.0\r\n\r\n"
PREFACE = PREFACE_HEAD + b"SM\r\n\r\n"
"""The first bytes of an HTTP/2 client (RFC 9113, 3.4). They look like a request that HTTP/1.1 refuses."""

TEXT = bytes([0x09, *range(0x20, 0x7F), *range(0x80, 0x100)])
"""Every byte that is allowed within a line: the tab, and all that are not control characters."""

LENGTH = re.compile(rb"[0-9]{1,19}")
"""A length in decimal digits (RFC 9110, 8.6), of at most 64 bits."""

HOST = re.compile(
    rb"(?:(?:\[[0-9A-Za-z:._~%-]+\]|(?:[A-Za-z0-9._~!$&'()*+;=-]|%[0-9A-Fa-f]{2})+)(?::[0-9]*)?)?", re.ASCII
)
"""A host with an optional port (RFC 3986, 3.2.2), or nothing. It has no user information (RFC 9110, 4.2.4), no port
without a host (4.2.1), and no comma, which would make it a list of two values."""

SINGLE = frozenset((b"host", b"content-length", b"transfer-encoding"))
"""Fields that may occur once; a second one makes a request ambiguous, even with the same value."""

FRAMING_FIELDS = frozenset((b"connection", b"content-length", b"transfer-encoding", b"expect"))
"""Fields that affect how a message is framed, or whether the connection stays open."""

WHOLE_HEAD = re.compile(rb"([\t\x20-\x7e\x80-\xff]++)\r\n(?![\t ])(?:[\t\x20-\x7e\x80-\xff]++\r\n(?![\t ]))*+\r\n")
"""Lines of `TEXT` that end in CRLF and are not folded, and an empty line."""

LARGE = 4096
"""The fields of a head larger than this many bytes are also counted before it is parsed."""

MAX_KNOWN_LINE = 256
"""The longest request line that is cached, in bytes."""


class BadRequest(Exception):  # noqa: N818
    """A request that is not served.

    Attributes:
        status: The status of the answer.
        reason: What is wrong with the request, for logs and observers; never sent.
    """

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


@dataclass(frozen=True, slots=True)
class RequestLine:
    """The parsed first line of a request.

    Attributes:
        method: One of `METHODS`.
        raw_path: The path as it was sent, percent-encoding included.
        path: The path, decoded.
        query: The part after the question mark.
        version: `1.1` or `1.0`; `2` for a request of HTTP/2.
        authority: The authority of a target in absolute form; None for the usual form.
    """

    method: str
    raw_path: bytes
    path: str
    query: bytes
    version: str
    authority: bytes | None = None


@dataclass(frozen=True, slots=True)
class Framing:
    """How a request's message is framed, and its effect on the connection.

    Attributes:
        length: The length of the body in bytes; None for a chunked body.
        keep_alive: Whether the connection may stay open after the response.
        expects_continue: Whether the client waits for 100 before it sends the body.
        wants_websocket: Whether the client asks for an upgrade to WebSocket.
    """

    length: int | None = 0
    keep_alive: bool = True
    expects_continue: bool = False
    wants_websocket: bool = False


PLAIN = Framing()
"""A request without a body, on a connection that stays open: the usual case."""


def check_head(head: bytes, max_fields: int | None) -> RequestLine:
    """Check the bytes of a whole head, and read its first line.

    Args:
        head: From the first byte of the request line to the empty line at its end.
        max_fields: The largest number of header fields; None for no limit.

    Raises:
        BadRequest: 400 if it is not HTTP/1.1 or HTTP/1.0, or is ambiguous; 431 for a large head with too many fields.
    """
    if len(head) > LARGE and max_fields is not None and head.count(b"\n") - 2 > max_fields:
        raise BadRequest(431, f"more than {max_fields} header fields (--max-head-fields)")
    match = WHOLE_HEAD.fullmatch(head)
    if match is None:
        raise BadRequest(
            400, "malformed header field: a control character, a folded line, or a line that does not end in CRLF"
        )
    return read_line(match[1])


def read_line(line: bytes) -> RequestLine:
    """Parse the first line of a request; it contains no control characters but tabs.

    Raises:
        BadRequest: The line is malformed, or such requests are not served.
    """
    return _read_known_line(line) if len(line) <= MAX_KNOWN_LINE else _read_line(line)


def _read_line(line: bytes) -> RequestLine:
    try:
        raw_method, target, raw_version = line.split(b" ")
        method, version = METHODS[raw_method], VERSIONS[raw_version]
    except (ValueError, KeyError):
        raise BadRequest(400, "malformed request line, unknown method, or unsupported HTTP version") from None
    if b"\t" in target or not target.isascii():
        raise BadRequest(400, "request target contains characters other than visible ASCII")
    raw_path, _, query = target.partition(b"?")
    authority = None
    if not raw_path.startswith(b"/"):
        raw_path, query, authority = _read_other_form(method, target)
    if b"#" in target:
        raise BadRequest(400, "request target contains a fragment")
    path = raw_path.decode("ascii")
    return RequestLine(method, raw_path, unquote(path) if "%" in path else path, query, version, authority)


_read_known_line = lru_cache(maxsize=2048)(_read_line)
"""The same with a cache, for lines that come again and again."""


def _read_other_form(method: str, target: bytes) -> tuple[bytes, bytes, bytes | None]:
    """Parse a target that is not a path: `*`, or an absolute URL as clients send it to a proxy (RFC 9112, 3.2.2).

    Returns:
        The path, the query and the authority.
    """
    if target == b"*" and method == "OPTIONS":
        return b"*", b"", None
    scheme, separator, rest = target.partition(b"://")
    authority = rest[: min((at for at in map(rest.find, (b"/", b"?")) if at >= 0), default=len(rest))]
    if not separator or scheme.lower() not in (b"http", b"https") or not authority:
        raise BadRequest(400, "request target is neither a path nor a URL")
    raw_path, _, query = rest[len(authority) :].partition(b"?")
    return raw_path or b"/", query, authority


def read_framing(line: RequestLine, found: dict[bytes, bytes]) -> Framing:
    """Decide how a request is framed.

    Args:
        line: The first line.
        found: The header fields, as returned by `join_fields`.

    Raises:
        BadRequest: 400 for a malformed length, an unknown transfer coding, or a length with a transfer coding.
    """
    length: int | None = 0
    if b"content-length" in found or b"transfer-encoding" in found:
        length = _read_length(found, line.version)
    keep_alive = line.version == "1.1"
    wants_websocket = False
    connection = found.get(b"connection")
    if connection is not None:
        tokens = [token.strip() for token in connection.lower().split(b",")]
        keep_alive = keep_alive and b"close" not in tokens
        if b"upgrade" in tokens and found.get(b"upgrade", b"").lower() == b"websocket":
            wants_websocket = line.method == "GET" and line.version == "1.1"
    expects = found.get(b"expect", b"").lower() == b"100-continue" and line.version == "1.1"
    return Framing(length, keep_alive, expects, wants_websocket)


def join_fields(fields: Sequence[Field], max_fields: int | None) -> dict[bytes, bytes]:
    """Return the values of the fields by name; the values of fields with the same name are joined (RFC 9110, 5.3).

    Raises:
        BadRequest: 400 for a second field of `SINGLE`; 431 for too many fields.
    """
    if max_fields is not None and len(fields) > max_fields:
        raise BadRequest(431, f"more than {max_fields} header fields (--max-head-fields)")
    found: dict[bytes, bytes] = {}
    for name, value in fields:
        if name not in found:
            found[name] = value
        elif name in SINGLE:
            raise BadRequest(400, f"more than one {name.decode('latin-1')} header field")
        else:
            found[name] += b", " + value
    return found


def check_host(line: RequestLine, host: bytes | None) -> None:
    """Check the Host field, and the authority of a request target that has one (RFC 9112, 3.2).

    Raises:
        BadRequest: 400 if Host is missing in HTTP/1.1, or if one of them is malformed.
    """
    if host is None:
        if line.version != "1.0":
            raise BadRequest(400, "missing Host header")
    elif not HOST.fullmatch(host):
        raise BadRequest(400, "malformed Host header")
    if line.authority is not None and not HOST.fullmatch(line.authority):
        raise BadRequest(400, "malformed authority in the request target")


def _read_length(found: dict[bytes, bytes], version: str) -> int | None:
    """Return the length of a body; None for a chunked body."""
    length, coding = found.get(b"content-length"), found.get(b"transfer-encoding")
    if coding is not None:
        if length is not None:
            raise BadRequest(400, "both Content-Length and Transfer-Encoding")
        if coding.lower() != b"chunked" or version == "1.0":
            raise BadRequest(400, "Transfer-Encoding other than chunked, or in HTTP/1.0")
        return None
    if length is None or not LENGTH.fullmatch(length) or int(length) >= 1 << 63:
        raise BadRequest(400, "malformed Content-Length")
    return int(length)
