"""A second reading of RFC 9112, to compare the engine with: all of a stream at once, slowly, and by no parser.

It takes what the engine must take, and refuses what the engine must refuse. Of the engine it has the list of methods
and the limits alone. WebSockets are not spoken here.
"""

from __future__ import annotations

from itertools import takewhile
from typing import NamedTuple
from urllib.parse import unquote

from duallisten.http.head import METHODS
from tests.http.engine import Seen

TOKEN = frozenset(b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
HEXDIGITS = frozenset(b"0123456789abcdefABCDEF")
DIGITS = frozenset(b"0123456789")
REG_NAME = frozenset(b"-._~!$&'()*+;=0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
"""What a host may have in it that is no address in brackets (RFC 3986, 3.2.2), without the comma."""


class Reading(NamedTuple):
    """What a stream says.

    requests: those that are whole
    end: `open` where the next one has not come, or not all of it; `closed` where the connection ends after the last
        one, whatever follows; `refused` where what follows is no request
    """

    requests: list[Seen]
    end: str


class RefusedError(Exception):
    """It must not be served."""


class OpenError(Exception):
    """There is more to come."""


def read(stream: bytes) -> Reading:
    requests: list[Seen] = []
    while True:
        while stream.startswith(b"\r\n"):
            stream = stream[2:]
        try:
            request, stream, goes_on = _read_one(stream)
        except RefusedError:
            return Reading(requests, "refused")
        except OpenError:
            return Reading(requests, "open")
        requests.append(request)
        if not goes_on:
            return Reading(requests, "closed")


def _refuse_unless(is_so: bool) -> None:
    if not is_so:
        raise RefusedError


def _read_one(stream: bytes) -> tuple[Seen, bytes, bool]:
    """Give a request, what follows it, and whether the connection goes on."""
    head, separator, rest = stream.partition(b"\r\n\r\n")
    if not separator:
        raise OpenError
    first, *lines = head.split(b"\r\n")
    for line in (first, *lines):
        _refuse_unless(all(byte == 9 or 32 <= byte != 127 for byte in line))
    words = first.split(b" ")
    _refuse_unless(len(words) == 3 and words[0] in METHODS and words[2] in (b"HTTP/1.0", b"HTTP/1.1"))
    method, target, version = words
    path, authority = _read_target(method, target)
    _refuse_unless(len(lines) <= 100)
    fields = [_read_field(line) for line in lines]
    _check_hosts([value for name, value in fields if name == b"host"], authority, version)
    if authority is not None:
        fields = [(name, authority if name == b"host" else value) for name, value in fields]
    body, rest = _read_body(fields, version, rest)
    tokens = [token.strip() for name, value in fields if name == b"connection" for token in value.lower().split(b",")]
    goes_on = version == b"HTTP/1.1" and b"close" not in tokens
    return Seen(method.decode(), unquote(path.decode()), tuple(fields), body), rest, goes_on


def _read_target(method: bytes, target: bytes) -> tuple[bytes, bytes | None]:
    _refuse_unless(bool(target) and all(0x21 <= byte <= 0x7E for byte in target) and b"#" not in target)
    if target.startswith(b"/"):
        return target.split(b"?")[0], None
    if method == b"OPTIONS" and target == b"*":
        return b"*", None
    scheme, separator, rest = target.partition(b"://")
    _refuse_unless(bool(separator) and scheme.lower() in (b"http", b"https"))
    authority = rest.split(b"/")[0].split(b"?")[0]
    _refuse_unless(bool(authority) and _is_host(authority))
    return rest[len(authority) :].split(b"?")[0] or b"/", authority


def _read_field(line: bytes) -> tuple[bytes, bytes]:
    name, separator, value = line.partition(b":")
    _refuse_unless(bool(separator and name) and TOKEN.issuperset(name))
    if name.lower() == b"transfer-encoding":  # white space is allowed here, and yet refused, as by llhttp
        _refuse_unless(not value.rstrip(b" ").endswith(b"\t"))
    return name.lower(), value.strip(b" \t")


def _check_hosts(hosts: list[bytes], authority: bytes | None, version: bytes) -> None:
    _refuse_unless(len(hosts) == 1 or (not hosts and version == b"HTTP/1.0"))
    _refuse_unless(all(map(_is_host, hosts)))


def _is_host(host: bytes) -> bool:
    if host.startswith(b"["):
        address, bracket, port = host[1:].partition(b"]")
        if not (address and bracket) or not all(
            byte in b":%" or byte in REG_NAME - set(b"!$&'()*+;=") for byte in address
        ):
            return False
    else:
        name, colon, port = host.partition(b":")
        if colon and not name:
            return False
        port = colon + port
        while name:
            if name[0] == 0x25:
                if len(name) < 3 or not HEXDIGITS.issuperset(name[1:3]):
                    return False
                name = name[3:]
            elif name[0] in REG_NAME:
                name = name[1:]
            else:
                return False
    return not port or (port.startswith(b":") and DIGITS.issuperset(port[1:]))


def _read_body(fields: list[tuple[bytes, bytes]], version: bytes, rest: bytes) -> tuple[bytes, bytes]:
    lengths = [value for name, value in fields if name == b"content-length"]
    codings = [value for name, value in fields if name == b"transfer-encoding"]
    _refuse_unless(len(lengths) + len(codings) <= 1)
    if codings:
        _refuse_unless(codings[0].lower() == b"chunked" and version == b"HTTP/1.1")
        return _read_chunks(rest)
    if not lengths:
        return b"", rest
    _refuse_unless(bool(lengths[0]) and DIGITS.issuperset(lengths[0]) and len(lengths[0]) < 20)
    length = int(lengths[0])
    _refuse_unless(length < 1 << 63)
    if len(rest) < length:
        raise OpenError
    return rest[:length], rest[length:]


def _read_line(rest: bytes) -> tuple[bytes, bytes]:
    """Give the next line of framing, and what follows it."""
    line, feed, after = rest.partition(b"\n")
    _refuse_unless(all(byte == 9 or 32 <= byte != 127 for byte in line.removesuffix(b"\r")))
    if not feed:
        raise OpenError
    _refuse_unless(line.endswith(b"\r"))
    return line[:-1], after


def _check_extensions(left: bytes) -> None:
    """Names with or without a value, which may be quoted; white space around them is refused (we may)."""
    while left:
        name = bytes(takewhile(TOKEN.__contains__, left[1:]))
        _refuse_unless(left.startswith(b";") and bool(name))
        left = left[1 + len(name) :]
        if left.startswith(b'="'):
            left = left[2:]
            while not left.startswith(b'"'):
                left = left[2:] if left.startswith(b"\\") else left[1:]
                _refuse_unless(bool(left))
            left = left[1:]
        elif left.startswith(b"="):
            value = bytes(takewhile(TOKEN.__contains__, left[1:]))
            _refuse_unless(bool(value))
            left = left[1 + len(value) :]


def _read_chunks(rest: bytes) -> tuple[bytes, bytes]:
    body = b""
    while True:
        line, rest = _read_line(rest)
        digits, semicolon, extensions = line.partition(b";")
        _refuse_unless(0 < len(digits) < 16 and HEXDIGITS.issuperset(digits))
        _check_extensions(semicolon + extensions)
        size = int(digits, 16)
        if size == 0:
            break
        end = rest[size : size + 2]
        _refuse_unless(b"\r\n".startswith(end))
        if len(end) < 2:
            raise OpenError
        body, rest = body + rest[:size], rest[size + 2 :]
    while True:
        line, rest = _read_line(rest)
        if not line:
            return body, rest
        _read_field(line)
