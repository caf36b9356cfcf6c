"""The head of a request: what is refused, and how its message is framed.

Both parsers are libraries, and they differ in what they take: httptools serves two `Host` lines and `RTSP/1.0`, h11
serves two equal lengths and lines that end in a bare LF. Where two readers of the same bytes can disagree, one of them
may be a proxy in front of us, and a request can be smuggled past it. So everything that must be refused is decided
here, before and after the parser, and only here. A parser may refuse more; it cannot make us serve what fails here.

The engine always has the whole head in one piece. `check_head` looks at its bytes before the parser does;
`join_fields`, `check_host` and `read_framing` look at the fields that the parser has found.

Sources: RFC 9112, 2.2 (line ends, leading CRLF), 3 (request line), 3.2 (Host), 5.2 (folding), 6.1 and 6.3 (length and
chunks), 9.3 (keep-alive); RFC 9110, 7.8 (Upgrade), 9.1 (methods), 10.1.1 (Expect).

Invariants:
    - A request with two possible lengths never gets a `Framing`.
    - An upgrade that is not taken changes nothing about how a message is framed.
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
"""The methods that are served: those that llhttp knows, without CONNECT. We are no proxy, and what follows a CONNECT
is not HTTP."""

VERSIONS = {b"HTTP/1.1": "1.1", b"HTTP/1.0": "1.0"}

PREFACE_HEAD = b"PRI * HTTP/2.0\r\n\r\n"
PREFACE = PREFACE_HEAD + b"SM\r\n\r\n"
"""What a client of HTTP/2 sends first (RFC 9113, 3.4); it begins as a request does that HTTP/1.1 refuses."""

TEXT = bytes([0x09, *range(0x20, 0x7F), *range(0x80, 0x100)])
"""Every byte that may stand within a line: all but control characters, the tab excepted."""

LENGTH = re.compile(rb"[0-9]{1,19}")
"""A length in decimal digits (RFC 9110, 8.6), of at most 64 bits."""

HOST = re.compile(
    rb"(?:(?:\[[0-9A-Za-z:._~%-]+\]|(?:[A-Za-z0-9._~!$&'()*+;=-]|%[0-9A-Fa-f]{2})+)(?::[0-9]*)?)?", re.ASCII
)
"""A host with an optional port (RFC 3986, 3.2.2), or nothing. There is no user information in it (RFC 9110, 4.2.4), no
port without a host (4.2.1), and no comma, which would make it two values of a list."""

SINGLE = frozenset((b"host", b"content-length", b"transfer-encoding"))
"""Fields of which a second one makes a request ambiguous, whatever it says."""

FRAMING_FIELDS = frozenset((b"connection", b"content-length", b"transfer-encoding", b"expect"))
"""Fields that say how a message is framed, or what becomes of the connection."""

WHOLE_HEAD = re.compile(rb"([\t\x20-\x7e\x80-\xff]++)\r\n(?![\t ])(?:[\t\x20-\x7e\x80-\xff]++\r\n(?![\t ]))*+\r\n")
"""Lines of `TEXT`, each of which ends in CRLF and none of which is folded, and an empty line."""

LARGE = 4096
"""Bytes of a head from which on its fields are counted before it is parsed, too."""

MAX_KNOWN_LINE = 256
"""Bytes of the longest request line that is remembered."""


class BadRequest(Exception):  # noqa: N818
    """A request that is not served.

    Attributes:
        status: How it is answered.
        reason: What is wrong with it, for logs and observers; never sent.
    """

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


@dataclass(frozen=True, slots=True)
class RequestLine:
    """What the first line of a request says.

    Attributes:
        method: One of `METHODS`.
        raw_path: The path as it was sent, percent-encoding included.
        path: The same, decoded.
        query: What follows the question mark.
        version: `1.1` or `1.0`.
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
    """How a request's message is delimited, and what it means for the connection.

    Attributes:
        length: Bytes of the body; None where it comes in chunks.
        keep_alive: Whether the connection may live on after the answer.
        expects_continue: Whether the client waits for 100 before it sends the body.
        wants_websocket: Whether the client asks to go on as a WebSocket.
    """

    length: int | None = 0
    keep_alive: bool = True
    expects_continue: bool = False
    wants_websocket: bool = False


PLAIN = Framing()
"""A request without a body, on a connection that lives on: nearly all are."""


def check_head(head: bytes, max_fields: int | None) -> RequestLine:
    """Check the bytes of a whole head, and read its first line.

    Args:
        head: From the first byte of the request line to the empty line at its end.
        max_fields: The most header fields; None for any number.

    Raises:
        BadRequest: 400 for what is not HTTP/1.1 or HTTP/1.0, or could be read in two ways; 431 for far too many fields.
    """
    if len(head) > LARGE and max_fields is not None and head.count(b"\n") - 2 > max_fields:
        raise BadRequest(431, f"more than {max_fields} header fields")
    match = WHOLE_HEAD.fullmatch(head)
    if match is None:
        raise BadRequest(400, "a control character, a folded field, or a line that does not end in CRLF")
    return read_line(match[1])


def read_line(line: bytes) -> RequestLine:
    """Read the first line of a request, which has no control characters in it.

    Raises:
        BadRequest: It is none of a request that is served.
    """
    return _read_known_line(line) if len(line) <= MAX_KNOWN_LINE else _read_line(line)


def _read_line(line: bytes) -> RequestLine:
    try:
        raw_method, target, raw_version = line.split(b" ")
        method, version = METHODS[raw_method], VERSIONS[raw_version]
    except (ValueError, KeyError):
        raise BadRequest(400, "a request line that is not HTTP/1.1 or HTTP/1.0 with a known method") from None
    if b"\t" in target or not target.isascii():
        raise BadRequest(400, "a request target with other characters than visible ASCII")
    raw_path, _, query = target.partition(b"?")
    authority = None
    if not raw_path.startswith(b"/"):
        raw_path, query, authority = _read_other_form(method, target)
    if b"#" in target:
        raise BadRequest(400, "a request target with a fragment")
    path = raw_path.decode("ascii")
    return RequestLine(method, raw_path, unquote(path) if "%" in path else path, query, version, authority)


_read_known_line = lru_cache(maxsize=2048)(_read_line)
"""The same for lines that come again and again."""


def _read_other_form(method: str, target: bytes) -> tuple[bytes, bytes, bytes | None]:
    """Read a target that is not a path: `*`, or an absolute URL as clients send it to a proxy (RFC 9112, 3.2.2).

    Returns:
        The path, the query and the authority.
    """
    if target == b"*" and method == "OPTIONS":
        return b"*", b"", None
    scheme, separator, rest = target.partition(b"://")
    authority = rest[: min((at for at in map(rest.find, (b"/", b"?")) if at >= 0), default=len(rest))]
    if not separator or scheme.lower() not in (b"http", b"https") or not authority:
        raise BadRequest(400, "a request target that is neither a path nor a URL")
    raw_path, _, query = rest[len(authority) :].partition(b"?")
    return raw_path or b"/", query, authority


def read_framing(line: RequestLine, found: dict[bytes, bytes]) -> Framing:
    """Decide how a request is framed.

    Args:
        line: Its first line.
        found: Its header fields, as `join_fields` makes them.

    Raises:
        BadRequest: 400 for a length or a transfer coding that is malformed or not known, and for both of them.
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
    """Return the value of each field by its name; values of fields with one name are joined (RFC 9110, 5.3).

    Raises:
        BadRequest: 400 for a second one of `SINGLE`; 431 for too many.
    """
    if max_fields is not None and len(fields) > max_fields:
        raise BadRequest(431, f"more than {max_fields} header fields")
    found: dict[bytes, bytes] = {}
    for name, value in fields:
        if name not in found:
            found[name] = value
        elif name in SINGLE:
            raise BadRequest(400, f"more than one {name.decode('latin-1')} field")
        else:
            found[name] += b", " + value
    return found


def check_host(line: RequestLine, host: bytes | None) -> None:
    """Check the Host field, and the authority of a request target that has one (RFC 9112, 3.2).

    Raises:
        BadRequest: 400 where there is none and must be one, or it is malformed.
    """
    if host is None:
        if line.version != "1.0":
            raise BadRequest(400, "no Host field")
    elif not HOST.fullmatch(host):
        raise BadRequest(400, "a Host field that is not a host and a port")
    if line.authority is not None and not HOST.fullmatch(line.authority):
        raise BadRequest(400, "a request target whose authority is not a host and a port")


def _read_length(found: dict[bytes, bytes], version: str) -> int | None:
    """Read the length of a body; None where it comes in chunks."""
    length, coding = found.get(b"content-length"), found.get(b"transfer-encoding")
    if coding is not None:
        if length is not None:
            raise BadRequest(400, "a length together with a transfer coding")
        if coding.lower() != b"chunked" or version == "1.0":
            raise BadRequest(400, "a transfer coding other than chunked, or one in HTTP/1.0")
        return None
    if length is None or not LENGTH.fullmatch(length) or int(length) >= 1 << 63:
        raise BadRequest(400, "a length that is not a number")
    return int(length)
