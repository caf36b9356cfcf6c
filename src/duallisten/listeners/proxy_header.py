"""Parses a header of the PROXY protocol: a TCP load balancer sends it before the client's bytes, to name the client.

Source: haproxy, doc/proxy-protocol.txt. Version 1 is a line of at most 107 bytes. Version 2 is binary: 16 bytes, which
contain the length of the rest, and then the addresses. Both versions are read. The TLVs behind the addresses in version
2 are skipped.

- Where the proxy does not know the client (`UNKNOWN`; a family other than IPv4 and IPv6), the address is the word
  `unknown`, as in X-Forwarded-For. The specification recommends the proxy's own address instead. But the proxy's
  forwarded headers are believed, and those of the request would be the client's.
- `LOCAL` is a connection of the proxy itself, such as a health check. The client is then the proxy.

Invariants:
    - Bytes that are not a whole and well-formed header are an error; nothing else reads them.
    - Pure.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple

from duallisten.net import IPAddress, canonical

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
"""The first bytes of version 2."""

LONGEST_LINE = 107
"""Bytes of the longest header of version 1."""

LONGEST = 4096
"""Bytes of the longest header of version 2 that is read; those of load balancers have some hundred."""

UNKNOWN = ("unknown", 0)
"""The client where the proxy does not know it."""

_PORT = rb"(0|[1-9][0-9]{0,4})"
_LINE = re.compile(rb"PROXY TCP([46]) ([0-9A-Fa-f.:]+) ([0-9A-Fa-f.:]+) %b %b" % (_PORT, _PORT))

_SIZES = {0x11: (4, 12), 0x12: (4, 12), 0x21: (16, 36), 0x22: (16, 36), 0x31: (108, 216), 0x32: (108, 216)}
"""Bytes of one address, and of both addresses with their ports, by family and protocol."""


class BadHeader(Exception):  # noqa: N818
    """The PROXY header is missing or malformed; the message says which."""


class Header(NamedTuple):
    """A header of the PROXY protocol.

    Attributes:
        size: How many bytes it has.
        client: Host and port of the client; None for the proxy itself.
    """

    size: int
    client: tuple[str, int] | None


def read_header(data: bytes) -> Header | None:
    """Parse the header at the beginning of a connection.

    Args:
        data: The bytes received so far.

    Returns:
        None where the header is still incomplete.

    Raises:
        BadHeader: The data does not begin with a valid header.
    """
    if data[:1] == b"P":
        return _read_line(data)
    if data[:1] == b"\r":
        return _read_binary(data)
    if data:
        raise BadHeader("the connection does not begin with a PROXY header")
    return None


def _read_line(data: bytes) -> Header | None:
    line, end, _ = data[:LONGEST_LINE].partition(b"\r\n")
    if not line.startswith(b"PROXY "[: len(line)]):
        raise BadHeader("the connection does not begin with a PROXY header")
    if b"\r" in (line if end else line[:-1]) or b"\n" in line or (not end and len(data) >= LONGEST_LINE):
        raise BadHeader("the PROXY line does not end in CRLF")
    if not end:
        return None
    size = len(line) + 2
    if line == b"PROXY UNKNOWN" or line.startswith(b"PROXY UNKNOWN "):
        return Header(size, UNKNOWN)
    match = _LINE.fullmatch(line)
    if match is not None:
        kind: Callable[[str], IPAddress] = IPv4Address if match[1] == b"4" else IPv6Address
        try:
            client, _ = kind(match[2].decode()), kind(match[3].decode())
        except ValueError:
            raise BadHeader("invalid address in the PROXY line") from None
        port = int(match[4])
        if max(port, int(match[5])) <= 65535:
            return Header(size, (str(canonical(client)), port))
    raise BadHeader("malformed PROXY line")


def _read_binary(data: bytes) -> Header | None:
    if data[:12] != SIGNATURE[: len(data)]:
        raise BadHeader("the connection does not begin with a PROXY header")
    if len(data) > 12 and data[12] not in (0x20, 0x21):
        raise BadHeader(f"unsupported version and command {data[12]:#04x} in the PROXY header")
    if len(data) < 16:
        return None
    size = 16 + int.from_bytes(data[14:16])
    if size > LONGEST:
        raise BadHeader(f"PROXY header longer than {LONGEST} bytes")
    family, protocol = divmod(data[13], 16)
    is_local = data[12] == 0x20  # the family and the addresses are then ignored
    length, least = _SIZES.get(data[13], (0, 0))
    if not is_local and (family > 3 or protocol > 2 or size < 16 + least):
        raise BadHeader(f"malformed PROXY header with family {data[13]:#04x}")
    if len(data) < size:
        return None
    if is_local:
        return Header(size, None)
    if data[13] not in (0x11, 0x21):
        return Header(size, UNKNOWN)
    address = IPv4Address(data[16:20]) if length == 4 else IPv6Address(data[16:32])
    ports = 16 + 2 * length
    return Header(size, (str(canonical(address)), int.from_bytes(data[ports : ports + 2])))
