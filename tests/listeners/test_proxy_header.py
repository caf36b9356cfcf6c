"""Headers of the PROXY protocol: read byte by byte, and never taken for one what is none."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from duallisten.listeners.proxy_header import LONGEST, LONGEST_LINE, BadHeader, Header, read_header
from tests.support.proxy_headers import LOCAL, SIGNATURE, TLVS, any_binary, binary, line

UNKNOWN = ("unknown", 0)

GOOD = {
    "IPv4": (line("198.51.100.7", 4711), ("198.51.100.7", 4711)),
    "IPv6": (line("2001:DB8:0::7", 65535), ("2001:db8::7", 65535)),
    "mapped": (line("::ffff:198.51.100.7", 0), ("198.51.100.7", 0)),
    "unknown": (b"PROXY UNKNOWN\r\n", UNKNOWN),
    "unknown, with more": (b"PROXY UNKNOWN \xff anything\r\n", UNKNOWN),
    "the longest": (b"PROXY UNKNOWN " + b"f" * (LONGEST_LINE - 16) + b"\r\n", UNKNOWN),
    "IPv4, 2": (binary("198.51.100.7", 4711), ("198.51.100.7", 4711)),
    "IPv6, 2": (binary("2001:db8::7", 1), ("2001:db8::7", 1)),
    "mapped, 2": (binary("::ffff:198.51.100.7", 1), ("198.51.100.7", 1)),
    "TLVs": (binary("198.51.100.7", 4711, TLVS), ("198.51.100.7", 4711)),
    "the longest, 2": (binary("198.51.100.7", 4711, b"\0" * (LONGEST - 28)), ("198.51.100.7", 4711)),
    "local": (LOCAL, None),
    "local, with more": (any_binary(0x20, 0xFF, b"x" * 40), None),
    "unspecified": (any_binary(0x21, 0x00), UNKNOWN),
    "unspecified, with more": (any_binary(0x21, 0x00, TLVS), UNKNOWN),
    "unspecified protocol": (any_binary(0x21, 0x10, b"x" * 12), UNKNOWN),
    "UDP": (any_binary(0x21, 0x12, b"x" * 12), UNKNOWN),
    "UNIX": (any_binary(0x21, 0x31, b"/" * 216), UNKNOWN),
}

BEHIND = (b"", b"GET / HTTP/1.1\r\n\r\n", b"\r\n\r\n", b"\x16\x03\x01", line("6.6.6.6", 6), LOCAL)


@pytest.mark.parametrize("name", GOOD)
@pytest.mark.parametrize("behind", BEHIND)
def test_a_header_is_read_when_all_of_it_has_come_and_nothing_behind_it(name: str, behind: bytes) -> None:
    header, client = GOOD[name]
    assert read_header(header + behind) == Header(len(header), client)
    for size in range(len(header)):
        assert read_header(header[:size]) is None


BAD = {
    "HTTP": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "POST": b"POST / HTTP/1.1\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01",
    "an empty line first": b"\r\nPROXY TCP4 198.51.100.7 203.0.113.1 1 2\r\n",
    "lower case": b"proxy TCP4 198.51.100.7 203.0.113.1 1 2\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\n",
    "no space": b"PROXYTCP4 198.51.100.7 203.0.113.1 1 2\r\n",
    "two spaces": b"PROXY  TCP4 198.51.100.7 203.0.113.1 1 2\r\n",
    "a space at the end": b"PROXY TCP4 198.51.100.7 203.0.113.1 1 2 \r\n",
    "a tab": b"PROXY\tTCP4 198.51.100.7 203.0.113.1 1 2\r\n",
    "a bare LF": b"PROXY TCP4 198.51.100.7 203.0.113.1 1 2\nGET",
    "a bare CR": b"PROXY TCP4 198.51.100.7 203.0.113.1 1 2\rGET",
    "a bare CR inside": b"PROXY UNKNOWN \r \r\n",
    "a bare LF inside": b"PROXY UNKNOWN \n \r\n",
    "UDP4": b"PROXY UDP4 198.51.100.7 203.0.113.1 1 2\r\n",
    "UNKNOWNX": b"PROXY UNKNOWNX\r\n",
    "nothing more": b"PROXY \r\n",
    "one address": b"PROXY TCP4 198.51.100.7 1 2\r\n",
    "the wrong family": b"PROXY TCP6 198.51.100.7 203.0.113.1 1 2\r\n",
    "two families": b"PROXY TCP4 198.51.100.7 2001:db8::1 1 2\r\n",
    "a zero before": b"PROXY TCP4 198.51.100.07 203.0.113.1 1 2\r\n",
    "a zero before a port": b"PROXY TCP4 198.51.100.7 203.0.113.1 01 2\r\n",
    "a port too high": b"PROXY TCP4 198.51.100.7 203.0.113.1 65536 2\r\n",
    "an own port too high": b"PROXY TCP4 198.51.100.7 203.0.113.1 1 65536\r\n",
    "a negative port": b"PROXY TCP4 198.51.100.7 203.0.113.1 -1 2\r\n",
    "a name": b"PROXY TCP4 example.com 203.0.113.1 1 2\r\n",
    "a zone": b"PROXY TCP6 fe80::1%1 2001:db8::1 1 2\r\n",
    "a line too long": b"PROXY UNKNOWN " + b"f" * (LONGEST_LINE - 15) + b"\r\n",
    "a line without end": b"PROXY UNKNOWN " + b"f" * 5000,
    "another signature": b"\r\n\r\n\0\r\nQUIX\n" + bytes(8),
    "version 1 in binary": any_binary(0x11, 0x11, bytes(12)),
    "version 3": any_binary(0x31, 0x11, bytes(12)),
    "another command": any_binary(0x22, 0x11, bytes(12)),
    "another family": any_binary(0x21, 0x41, bytes(12)),
    "another protocol": any_binary(0x21, 0x13, bytes(12)),
    "IPv4 cut short": any_binary(0x21, 0x11, bytes(11)),
    "IPv6 cut short": any_binary(0x21, 0x21, bytes(35)),
    "UNIX cut short": any_binary(0x21, 0x31, bytes(215)),
    "too large": binary("198.51.100.7", 4711, bytes(LONGEST - 27)),
    "far too large": SIGNATURE + b"\x21\x11\xff\xff",
    "local, too large": SIGNATURE + b"\x20\x00\xff\xff",
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_header_is_refused_wherever_it_is_cut(name: str) -> None:
    bad = BAD[name]
    with pytest.raises(BadHeader):
        read_header(bad)
    sizes = [size for size in range(len(bad) + 1) if is_refused(bad[:size])]
    assert sizes == list(range(sizes[0], len(bad) + 1)), "what is refused once is not taken later"


def is_refused(data: bytes) -> bool:
    try:
        assert read_header(data) is None
    except BadHeader:
        return True
    return False


MUTATED = st.sampled_from([header for header, _ in GOOD.values()]).flatmap(
    lambda header: st.tuples(
        st.just(header), st.integers(0, len(header) - 1), st.binary(max_size=3), st.binary(max_size=9)
    )
)


@settings(deadline=None, derandomize=True, max_examples=1000)
@given(MUTATED)
def test_a_changed_header_is_read_alike_however_it_comes(case: tuple[bytes, int, bytes, bytes]) -> None:
    header, at, put, behind = case
    data = header[:at] + put + header[at + 1 :] + behind
    verdicts = []
    for size in range(len(data) + 1):
        try:
            read = read_header(data[:size])
        except BadHeader:
            verdicts.append("bad")
            break
        if read is not None:
            assert read.size == size, "a header is read as soon as it is whole"
            assert read_header(data) == read
            verdicts.append("good")
            break
    if verdicts != ["good"]:
        assert is_refused(data) or read_header(data) is None
