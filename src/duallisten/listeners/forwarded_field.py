"""Parses the field `Forwarded`: splits it into elements from the right, and reads an element. Pure.

Source: RFC 7239, 4 to 6. The field is a list with commas. An element is a list of pairs with semicolons, such as
`for="[2001:db8::7]:4711";proto=https`. A value is a token or a quoted string. Commas and semicolons in a quoted string
separate nothing. A node is an IPv4 address, an IPv6 address in brackets, `unknown`, or an identifier that begins with
`_`.

A proxy appends its element to the field of the client, which may contain anything. Read from the left, an open
quotation mark of the client would swallow the proxy's element. Read from the right, the proxy's element is always
whole.

Invariants:
    - The text to the left of an element does not change how the element is read.
    - The work for an element is bounded by `LONGEST_ELEMENT`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple

LONGEST_ELEMENT = 512
"""Bytes of the longest element that is read: two addresses, a host name and a scheme take less than 400."""

LONGEST_VALUE = 128
"""Bytes of the longest value that can be an address with its port, or a scheme, each character escaped."""

_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_PAIR = re.compile(rb'[ \t]*(?:(%b)=(?:(%b)|"((?:[^"\\]|\\.)*)"))?[ \t]*(?:;|\Z)' % (_TOKEN, _TOKEN), re.DOTALL)
_ESCAPED = re.compile(rb"\\(.)", re.DOTALL)
_LAST_REVERSED = re.compile(rb'(?:[^",]++|"(?:[^"]++|"(?=\\(?:\\\\)*+(?!\\)))*+")*+')
"""Matches, on reversed text, everything behind the last comma outside of quoted strings. In reversed text an odd number
of backslashes follows a quotation mark that is escaped."""

_FIRST = re.compile(rb'(?:[^",]|"(?:[^"\\]|\\.)*")*', re.DOTALL)
_HIDDEN = re.compile(r"_[0-9A-Za-z._-]+")


class Element(NamedTuple):
    """What one proxy says about the request that it received.

    Attributes:
        client: Host and port of the peer that sent the request to the proxy; the port is 0 where none is given. None
            where `for` is missing.
        proto: The scheme of the request, in lower case; empty where `proto` is missing.
    """

    client: tuple[str, int] | None
    proto: str


def pick_element(
    lines: Sequence[bytes], is_proxy: Callable[[str], bool], most: int, *, right_most: bool
) -> Element | None:
    """Pick the element that names the client: the right-most whose client is not a proxy.

    An element that is malformed or has no `for` ends the list: the sender of the elements to its left is unknown.

    Args:
        lines: The values of the field's lines, as received.
        is_proxy: Whether a host is a proxy. The next element to the left is then this proxy's.
        most: How many elements are read at most.
        right_most: Where all clients are proxies, pick the right-most element, else the left-most.

    Returns:
        None where no element can be read.
    """
    found: Element | None = None
    for number, text in enumerate(elements_from_the_right(lines), 1):
        if text:  # empty elements are ignored (RFC 9110, 5.6.1.2)
            said = read_element(text)
            if said is None or said.client is None:
                return found or said
            if not is_proxy(said.client[0]):
                return said
            if found is None or not right_most:
                found = said
        if number == most:
            break
    return found


def elements_from_the_right(lines: Sequence[bytes]) -> Iterator[bytes]:
    """Yield the elements of the field from right to left.

    Args:
        lines: The values of the field's lines. Together they are one list (RFC 9110, 5.3).
    """
    for line in reversed(lines):
        end = len(line)
        while end >= 0:
            begin = _begin(line, end)
            yield line[begin:end].strip(b" \t")
            end = begin - 1  # where the comma is


def first_element(lines: Sequence[bytes]) -> bytes:
    """Return the left-most element, cut off after `LONGEST_ELEMENT` bytes; there must be a line."""
    match = _FIRST.match(lines[0][: LONGEST_ELEMENT + 1])
    return match[0].strip(b" \t") if match else b""


def read_element(text: bytes) -> Element | None:
    """Read an element that is not empty; None where it is malformed."""
    if len(text) > LONGEST_ELEMENT:
        return None
    said: dict[bytes, bytes] = {}  # values with their backslashes
    end = 0
    while end < len(text):
        match = _PAIR.match(text, end)
        if match is None:
            return None
        end = match.end()
        name, token, quoted = match.groups()
        if name is not None:
            if (name := name.lower()) in said:
                return None
            said[name] = token if quoted is None else quoted
    client = None
    if b"for" in said and (client := read_node(_text(said[b"for"]))) is None:
        return None
    return Element(client, _text(said.get(b"proto", b"")).lower())


def read_node(text: str) -> tuple[str, int] | None:
    """Parse a node into host and port; the port is 0 where it is missing or hidden. None where it is malformed."""
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or not _is_address(IPv6Address, host) or (rest and not rest.startswith(":")):
            return None
        has_port, port = bool(rest), rest[1:]
    else:
        host, colon, port = text.partition(":")
        has_port = bool(colon)
        if host.lower() == "unknown":
            host = "unknown"
        elif not (_HIDDEN.fullmatch(host) or _is_address(IPv4Address, host)):
            return None
    if not has_port or _HIDDEN.fullmatch(port):
        return host, 0
    if not (port.isascii() and port.isdigit() and len(port) <= 5 and int(port) <= 65535):
        return None
    return host, int(port)


def _text(value: bytes) -> str:
    """Return a value without its backslashes; a value longer than `LONGEST_VALUE` is invalid and returned as it is."""
    return _ESCAPED.sub(rb"\1", value).decode("latin-1") if len(value) <= LONGEST_VALUE else value.decode("latin-1")


def _is_address(kind: type[IPv4Address | IPv6Address], text: str) -> bool:
    try:
        kind(text)
    except ValueError:
        return False
    return "%" not in text  # an IPv6 zone means nothing on another host


def _begin(line: bytes, end: int) -> int:
    """Return the begin of the element that ends at `end`: behind a comma outside of quoted strings, or 0.

    Without such a comma within `LONGEST_ELEMENT` bytes the element is the rest of the line.
    """
    reversed_part = line[max(0, end - LONGEST_ELEMENT - 1) : end][::-1]
    match = _LAST_REVERSED.match(reversed_part)
    size = match.end() if match else 0
    return end - size if reversed_part[size : size + 1] == b"," else 0
