"""The head of a request in HTTP/2, checked by the rules of HTTP/1.1, and the encoded head of a response.

Requests. The functions of `head` refuse here what they refuse in HTTP/1.1: `read_line` reads a request line that is
built from the pseudo-header fields; `check_host`, `read_framing` and `join_fields` check Host, lengths and the number
of fields. HTTP/2 adds rules: no connection-specific fields, names in lower case, no white space around values, and each
pseudo-header field once, before the other fields.

A WebSocket handshake is a CONNECT with a `:protocol` (RFC 8441, 4). Its target is read as that of a GET, as in
HTTP/1.1.

Responses are encoded without a dynamic table. So a field has the same bytes in every response, and is encoded once and
cached. The peer is told so in the first head, and whenever it sets the size of its table (RFC 7541, 4.2).

Source: RFC 9113, 8.2 and 8.3; RFC 7541, 6.2.2 (a literal that is not indexed).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any, NamedTuple

from hpack import Encoder

from duallisten.http.answers import MAX_KNOWN_FIELD, MAX_KNOWN_FIELDS, check_field
from duallisten.http.head import (
    BadRequest,
    Field,
    RequestLine,
    check_host,
    join_fields,
    read_framing,
    read_line,
)

NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9a-z-]++")
"""The name of a field: a token (RFC 9110, 5.1) in lower case."""

VALUE = re.compile(rb"(?:[\x21-\x7e\x80-\xff](?:[\t\x20]*+[\x21-\x7e\x80-\xff]++)*+)?")
"""The value of a field: as in HTTP/1.1, without white space around it."""

OF_CONNECTION = frozenset((b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"))
"""Connection-specific fields of HTTP/1.1 (RFC 9113, 8.2.2): refused in a request, dropped from a response."""

SCHEMES = frozenset((b"http", b"https"))

PSEUDO = frozenset((b":method", b":scheme", b":path", b":authority", b":protocol"))

NO_TABLE = b"\x20"
"""A table size update to 0 (RFC 7541, 6.3): there is no dynamic table."""


class Request(NamedTuple):
    """The checked head of a request.

    Attributes:
        line: The request line as in HTTP/1.1, with the version `2`.
        fields: The header fields: Host first if there is an authority, and at most one `cookie`.
        length: The announced length of the body in bytes, or None.
        expects_continue: Whether the client waits for 100 before it sends the body.
        is_handshake: Whether it is a WebSocket handshake.
    """

    line: RequestLine
    fields: list[Field]
    length: int | None
    expects_continue: bool
    is_handshake: bool = False


def read_request(found: Sequence[Field], max_fields: int | None, *, takes_websockets: bool = False) -> Request:
    """Check and read the decoded fields of a request's head.

    Raises:
        BadRequest: 400 for a malformed or ambiguous head, 431 for too many fields, 501 for a `:protocol` that is not
            supported.
    """
    pseudo: dict[bytes, bytes] = {}
    for name, value in found:
        if not name.startswith(b":"):
            break
        if name not in PSEUDO or name in pseudo:
            raise BadRequest(400, "duplicate or unknown pseudo-header field")
        pseudo[name] = value
    method, path = pseudo.get(b":method"), pseudo.get(b":path")
    if method is None or path is None or pseudo.get(b":scheme", b"").lower() not in SCHEMES:
        raise BadRequest(400, "missing :method or :path, or :scheme is not http or https")
    protocol = pseudo.get(b":protocol")
    if protocol is not None:
        method = _read_protocol(protocol, pseudo, takes_websockets=takes_websockets)
    if not (NAME.fullmatch(method.lower()) and VALUE.fullmatch(path)):
        raise BadRequest(400, ":method or :path contains characters other than visible ASCII")
    line = _read_target(method, path)
    fields = [(name, value) for name, value in found[len(pseudo) :]]  # plain tuples
    check_fields(fields)
    if sum(name == b"cookie" for name, _ in fields) > 1:
        fields = _join_cookies(fields)
    request = _with_host(line, fields, pseudo.get(b":authority"), max_fields)
    return request if protocol is None else request._replace(is_handshake=True)


def _read_protocol(protocol: bytes, pseudo: dict[bytes, bytes], *, takes_websockets: bool) -> bytes:
    """Check the `:protocol` of a CONNECT; return the method that the rest of its head is read with."""
    if not takes_websockets or pseudo[b":method"] != b"CONNECT" or b":authority" not in pseudo:
        raise BadRequest(
            400,
            ":protocol without CONNECT or :authority, or WebSockets are not served here",
        )
    if protocol != b"websocket":
        raise BadRequest(501, "extended CONNECT with a :protocol other than websocket")
    return b"GET"


def _with_host(line: RequestLine, fields: list[Field], authority: bytes | None, max_fields: int | None) -> Request:
    """Replace Host by the authority, if there is one, and check the remaining fields."""
    by_name = join_fields(fields, max_fields)
    host = by_name.get(b"host")
    if authority is not None:
        if host is not None and host.lower() != authority.lower():
            raise BadRequest(400, ":authority and Host differ")
        fields = [(b"host", authority), *(field for field in fields if field[0] != b"host")]
        host = authority
    check_host(line, host)
    framing = read_framing(line, by_name)
    length = framing.length if b"content-length" in by_name else None
    return Request(replace(line, version="2"), fields, length, framing.expects_continue)


@lru_cache(maxsize=2048)
def _read_known_target(method: bytes, path: bytes) -> RequestLine:
    line = read_line(b"%b %b HTTP/1.1" % (method, path))
    if line.authority is not None:
        raise BadRequest(400, ":path is a URL")
    return line


def _read_target(method: bytes, path: bytes) -> RequestLine:
    """Parse a method and a path by the rules of a request line."""
    read = _read_known_target if len(path) < MAX_KNOWN_FIELD else _read_known_target.__wrapped__
    return read(method, path)


def check_fields(fields: Iterable[Field]) -> None:
    """Check the fields of a head after its pseudo-header fields, or those of a trailer section.

    Raises:
        BadRequest: A field is malformed, or not allowed in HTTP/2.
    """
    for name, value in fields:
        if not NAME.fullmatch(name) or not VALUE.fullmatch(value):
            raise BadRequest(400, "malformed header field, or a pseudo-header field after header fields")
        if name in OF_CONNECTION or (name == b"te" and value.lower() != b"trailers"):
            raise BadRequest(400, "connection-specific header field")


def _join_cookies(fields: list[Field]) -> list[Field]:
    """Join cookies that came in several fields (RFC 9113, 8.2.3)."""
    cookie = b"; ".join(value for name, value in fields if name == b"cookie")
    at = next(at for at, field in enumerate(fields) if field[0] == b"cookie")
    rest = [field for field in fields[at:] if field[0] != b"cookie"]
    return [*fields[:at], (b"cookie", cookie), *rest]


class BlockShape(NamedTuple):
    """Facts about an encoded block of fields that are known without decoding it.

    Attributes:
        fields: The number of its fields, including updates of the table's size.
        is_stateless: Whether decoding it does not change the dynamic table.
    """

    fields: int
    is_stateless: bool


def shape_of(block: bytes) -> BlockShape:
    """Scan an encoded block (RFC 7541, 6); a malformed block is left to the decoder to refuse."""
    at = count = 0
    is_stateless = True
    while at < len(block):
        first = block[at]
        count += 1
        if first >= 0x80:
            at = _skip_number(block, at, 0x7F)[1]
            continue
        if first & 0xE0 == 0x20:
            is_stateless = False
            at = _skip_number(block, at, 0x1F)[1]
            continue
        prefix = 0x3F if first & 0x40 else 0x0F
        is_stateless = is_stateless and not first & 0x40
        index, at = _skip_number(block, at, prefix)
        for _ in range(2 if index == 0 else 1):
            size, at = _skip_number(block, at, 0x7F)
            at += size
    return BlockShape(count, is_stateless)


def _skip_number(block: bytes, at: int, prefix: int) -> tuple[int, int]:
    """Read a number (RFC 7541, 5.1); return it, and the position of the next byte."""
    if at >= len(block):
        return 0, at
    number = block[at] & prefix
    at += 1
    if number < prefix:
        return number, at
    shift = 0
    while at < len(block) and shift < 35:
        byte = block[at]
        number += (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            break
    return number, at


# Responses.


def encode_field(name: bytes, value: bytes) -> bytes:
    """Encode a field; the result does not depend on fields encoded before."""
    written: bytes = Encoder().encode([(name, value, True)], huffman=True)  # True: not added to the dynamic table
    if written[0] & 0xF0 == 0x10:  # "never indexed"; it becomes "without indexing"
        written = bytes((written[0] & 0x0F,)) + written[1:]
    return written


def encode_block(fields: Iterable[Field]) -> bytes:
    """Encode our own fields; they are not checked, but connection-specific fields are left out."""
    pairs = [(name.lower(), value.strip(b" \t")) for name, value in fields]
    return b"".join(encode_field(name, value) for name, value in pairs if name not in OF_CONNECTION)


def encode_checked(fields: Iterable[Any]) -> list[tuple[bytes, int | None]]:
    """Check and encode an application's header fields.

    Returns:
        For each field its encoded bytes (empty if it is not allowed in HTTP/2), and the length it announces, or None.

    Raises:
        RuntimeError: A name or a value contains characters that are not allowed.
    """
    try:
        return [_known_field(field) for field in fields]
    except TypeError:  # a list or another unhashable value
        return [_encode_checked(field) for field in fields]


def _encode_checked(field: Any) -> tuple[bytes, int | None]:
    says = check_field(field)[1]
    name, value = bytes(field[0]).lower(), bytes(field[1]).strip(b" \t")
    if name in OF_CONNECTION or name == b"te":
        return b"", None
    return encode_field(name, value), says if says is not None and says >= 0 else None


class _KnownFields(dict[Any, tuple[bytes, int | None]]):
    """A cache of `_encode_checked`'s results, by field."""

    def __missing__(self, field: Any) -> tuple[bytes, int | None]:
        found = _encode_checked(field)
        if len(self) < MAX_KNOWN_FIELDS and len(found[0]) <= MAX_KNOWN_FIELD:
            self[tuple(map(bytes, field))] = found
        return found


_known_field = _KnownFields().__getitem__


class _Statuses(dict[int, bytes]):
    """The encoded `:status` field, by status; filled on demand, because encoding all of them takes 20 ms."""

    def __missing__(self, status: int) -> bytes:
        if not 100 <= status <= 599:
            raise KeyError(status)
        self[status] = written = encode_field(b":status", b"%d" % status)
        return written


STATUSES = _Statuses()
