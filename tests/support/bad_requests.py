"""Bad requests as data: each is followed by another one, which must not reach the application.

Either it is hidden in the body of the first in somebody's reading, or nobody can tell where the first one ends.
Sources: RFC 9112 (2.2, 3, 5, 6.1, 6.3, 7.1), what is known of request smuggling (CL.TE, TE.CL, TE.TE, CL.CL, chunk
sizes, bare line feeds), and what parsers have been found to take.
"""

from __future__ import annotations

from typing import NamedTuple

HIDDEN = b"GET /hidden HTTP/1.1\r\nHost: x\r\n\r\n"
HOST = b"Host: x\r\n"


class Bad(NamedTuple):
    """A bad request with one more behind it.

    sent: all that the client sends
    waits: the parsers that read on: a body is longer than they can be sent
    """

    name: str
    sent: bytes
    waits: tuple[str, ...] = ()


def post(headers: bytes, body: bytes) -> bytes:
    """A POST with its own framing headers."""
    return b"POST /outer HTTP/1.1\r\n" + HOST + headers + b"\r\n" + body


CHUNKED = b"Transfer-Encoding: chunked\r\n"
EMPTY = b"0\r\n\r\n"

FRAMING = (
    Bad("two lengths that differ", post(b"Content-Length: 0\r\nContent-Length: 32\r\n", HIDDEN)),
    Bad("two lengths in one header", post(b"Content-Length: 0, 32\r\n", HIDDEN)),
    Bad(
        "two equal lengths in one header, and a third", post(b"Content-Length: 0, 0\r\nContent-Length: 32\r\n", HIDDEN)
    ),
    Bad("a length and chunks", post(b"Content-Length: 5\r\n" + CHUNKED, EMPTY + HIDDEN)),
    Bad("chunks and a length", post(CHUNKED + b"Content-Length: 5\r\n", EMPTY + HIDDEN)),
    Bad("a length with a plus", post(b"Content-Length: +0\r\n", HIDDEN)),
    Bad("a negative length", post(b"Content-Length: -1\r\n", HIDDEN)),
    Bad("a length in hexadecimal", post(b"Content-Length: 0x0\r\n", HIDDEN)),
    Bad("a length with a space inside", post(b"Content-Length: 1 0\r\n", b"0123456789" + HIDDEN)),
    Bad("a length with an underscore", post(b"Content-Length: 1_0\r\n", b"0123456789" + HIDDEN)),
    Bad("a length that is empty", post(b"Content-Length: \r\n", HIDDEN)),
    Bad("a length beyond 64 bits", post(b"Content-Length: 18446744073709551616\r\n", HIDDEN), ("h11",)),
    Bad("a length of many digits", post(b"Content-Length: " + b"9" * 300 + b"\r\n", HIDDEN)),
    Bad("a length with a fraction", post(b"Content-Length: 0.0\r\n", HIDDEN)),
    Bad("a length in other digits", post(b"Content-Length: \xd9\xa0\r\n", HIDDEN)),
    Bad("a coding that is not known", post(b"Transfer-Encoding: cow\r\n", EMPTY + HIDDEN)),
    Bad("chunks and then a coding", post(b"Transfer-Encoding: chunked, identity\r\n", EMPTY + HIDDEN)),
    Bad("chunks twice", post(b"Transfer-Encoding: chunked, chunked\r\n", EMPTY + HIDDEN)),
    Bad("chunks in two headers", post(CHUNKED + CHUNKED, EMPTY + HIDDEN)),
    Bad("chunks and another in two headers", post(CHUNKED + b"Transfer-Encoding: identity\r\n", EMPTY + HIDDEN)),
    Bad("identity", post(b"Transfer-Encoding: identity\r\n", EMPTY + HIDDEN)),
    Bad("chunks behind a vertical tab", post(b"Transfer-Encoding: \x0bchunked\r\n", EMPTY + HIDDEN)),
    Bad("chunks in quotes", post(b'Transfer-Encoding: "chunked"\r\n', EMPTY + HIDDEN)),
    Bad("chunks with a parameter", post(b"Transfer-Encoding: chunked;q=1\r\n", EMPTY + HIDDEN)),
    Bad("chunks with a letter more", post(b"Transfer-Encoding: xchunked\r\n", EMPTY + HIDDEN)),
    Bad("chunks, folded", post(b"Transfer-Encoding:\r\n chunked\r\n", EMPTY + HIDDEN)),
    Bad(
        "chunks in HTTP/1.0", b"POST /outer HTTP/1.0\r\nConnection: keep-alive\r\n" + CHUNKED + b"\r\n" + EMPTY + HIDDEN
    ),
)
"""How long is the body? Two answers, or none."""

CHUNKS = (
    Bad("a chunk size that is no number", post(CHUNKED, b"x\r\n\r\n" + HIDDEN)),
    Bad("a chunk size with 0x", post(CHUNKED, b"0x0\r\n\r\n" + HIDDEN)),
    Bad("a chunk size with a plus", post(CHUNKED, b"+0\r\n\r\n" + HIDDEN)),
    Bad("a negative chunk size", post(CHUNKED, b"-1\r\n\r\n" + HIDDEN)),
    Bad("a chunk size with an underscore", post(CHUNKED, b"0_0\r\n\r\n" + HIDDEN)),
    Bad("a chunk size beyond 64 bits", post(CHUNKED, b"10000000000000000\r\n" + HIDDEN), ("h11",)),
    Bad("an empty chunk size", post(CHUNKED, b"\r\n\r\n" + HIDDEN)),
    Bad("a space before a chunk size", post(CHUNKED, b" 0\r\n\r\n" + HIDDEN)),
    Bad("a chunk longer than its size", post(CHUNKED, b"3\r\nabcdef\r\n" + EMPTY + HIDDEN)),
    Bad("a chunk without its end", post(CHUNKED, b"3\r\nabc" + EMPTY + HIDDEN)),
    Bad("a chunk that ends in a bare LF", post(CHUNKED, b"3\r\nabc\n" + EMPTY + HIDDEN)),
    Bad("a chunk that ends in two letters", post(CHUNKED, b"3\r\nabcXX" + EMPTY + HIDDEN)),
    Bad("a chunk size that ends in a bare LF", post(CHUNKED, b"0\n\r\n" + HIDDEN)),
    Bad("a chunk extension with a bare LF", post(CHUNKED, b"2;\nxx\r\n4c\r\n" + EMPTY + HIDDEN)),
    Bad("a chunk size that ends in a bare CR", post(CHUNKED, b"3\rabc\r\n" + EMPTY + HIDDEN)),
    Bad("a trailer without a colon", post(CHUNKED, b"0\r\nnocolon\r\n\r\n" + HIDDEN)),
    Bad("a trailer with a space before its colon", post(CHUNKED, b"0\r\nX : y\r\n\r\n" + HIDDEN)),
)
"""Where does a chunk end?"""


def get(lines: bytes) -> bytes:
    """A GET with header lines of its own, and the hidden request behind it."""
    return b"GET /outer HTTP/1.1\r\n" + lines + b"\r\n" + HIDDEN


LINES = (
    Bad("a space before the colon", get(HOST + b"Content-Length : 32\r\n")),
    Bad("a tab before the colon", get(HOST + b"Content-Length\t: 32\r\n")),
    Bad("a space before the colon of the coding", post(b"Transfer-Encoding : chunked\r\n", EMPTY + HIDDEN)),
    Bad("a folded header", get(HOST + b"X-A: b\r\n c\r\n")),
    Bad("a folded header with a tab", get(HOST + b"X-A: b\r\n\tContent-Length: 32\r\n")),
    Bad("a first line that is folded", get(b" X-A: b\r\n" + HOST)),
    Bad("a header without a colon", get(HOST + b"nocolon\r\n")),
    Bad("a header without a name", get(HOST + b": value\r\n")),
    Bad("a NUL in a value", get(HOST + b"X-A: a\x00b\r\n")),
    Bad("a NUL in a name", get(HOST + b"X\x00A: b\r\n")),
    Bad("a bare CR in a value", get(HOST + b"X-A: a\rContent-Length: 32\r\n")),
    Bad("a bare CR for an end of line", b"GET /outer HTTP/1.1\rHost: x\r\r" + HIDDEN),
    Bad("a bare LF after the request line", b"GET /outer HTTP/1.1\nHost: x\r\n\r\n" + HIDDEN),
    Bad("a bare LF after a header", get(b"Host: x\nX-A: b\r\n")),
    Bad("a bare LF before the end of the head", b"GET /outer HTTP/1.1\r\nHost: x\r\n\n" + HIDDEN),
    Bad("bare LFs throughout", b"GET /outer HTTP/1.1\nHost: x\n\n" + HIDDEN),
    Bad("a control character in a name", get(HOST + b"X\x01A: b\r\n")),
    Bad("a control character in a value", get(HOST + b"X-A: \x01b\r\n")),
    Bad("DEL in a value", get(HOST + b"X-A: \x7fb\r\n")),
    Bad("a name with a space inside", get(HOST + b"X A: b\r\n")),
    Bad("a name that is not ASCII", get(HOST + b"X\xc3\xa9: b\r\n")),
    Bad("a name with parentheses", get(HOST + b"X(A): b\r\n")),
)
"""Where does a header line end, and what is its name?"""

TARGETS = (
    Bad("a NUL in the target", b"GET /\x00 HTTP/1.1\r\n" + HOST + b"\r\n" + HIDDEN),
    Bad("a space in the target", b"GET /a b HTTP/1.1\r\n" + HOST + b"\r\n" + HIDDEN),
    Bad("a tab in the target", b"GET /a\tb HTTP/1.1\r\n" + HOST + b"\r\n" + HIDDEN),
    Bad("a target that is not ASCII", b"GET /\xc3\xa9 HTTP/1.1\r\n" + HOST + b"\r\n" + HIDDEN),
    Bad("bytes that are no UTF-8 in the target", b"GET /\xff\xfe HTTP/1.1\r\n" + HOST + b"\r\n" + HIDDEN),
    Bad("no target", b"GET  HTTP/1.1\r\n" + HOST + b"\r\n" + HIDDEN),
    Bad("no version", b"GET /outer\r\n" + HOST + b"\r\n" + HIDDEN),
    Bad("an old version", b"GET /outer HTTP/0.9\r\n" + HOST + b"\r\n" + HIDDEN),
    Bad("a version of two digits", b"GET /outer HTTP/1.10\r\n" + HOST + b"\r\n" + HIDDEN),
    Bad("another protocol", b"GET /outer HTTQ/1.1\r\n" + HOST + b"\r\n" + HIDDEN),
    Bad("a space before the method", b" GET /outer HTTP/1.1\r\n" + HOST + b"\r\n" + HIDDEN),
    Bad("a method that is no token", b"G{}T /outer HTTP/1.1\r\n" + HOST + b"\r\n" + HIDDEN),
    Bad("a space at the end of the request line", b"GET /outer HTTP/1.1 \r\n" + HOST + b"\r\n" + HIDDEN),
    Bad("CONNECT", b"CONNECT x:80 HTTP/1.1\r\n" + HOST + b"\r\n" + HIDDEN),
    Bad("CONNECT with a body", b"CONNECT x:80 HTTP/1.1\r\n" + HOST + b"Content-Length: 2\r\n\r\nab" + HIDDEN),
    Bad("a TLS handshake", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + HIDDEN),
    Bad("noise", bytes(range(256)) + HIDDEN),
    Bad("NULs", bytes(64) + HIDDEN),
)
"""What is asked for?"""

REFUSED = FRAMING + CHUNKS + LINES + TARGETS

ODD = (
    Bad("two hosts", get(HOST + b"Host: y\r\n")),
    Bad("no host", get(b"X-A: b\r\n")),
    Bad("two spaces in the request line", b"GET  /outer HTTP/1.1\r\n" + HOST + b"\r\n" + HIDDEN),
    Bad("a URL with a bad port", b"GET http://x:99999999/outer HTTP/1.1\r\n" + HOST + b"\r\n" + HIDDEN),
    Bad("a URL with a bad host", b"GET http://[::1/outer HTTP/1.1\r\n" + HOST + b"\r\n" + HIDDEN),
    Bad("a target that begins with a query", b"GET ?a HTTP/1.1\r\n" + HOST + b"\r\n" + HIDDEN),
    Bad("a target without a slash", b"GET outer HTTP/1.1\r\n" + HOST + b"\r\n" + HIDDEN),
    Bad(
        "an upgrade with a body", post(b"Connection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 2\r\n", b"ab" + HIDDEN)
    ),
    Bad("an upgrade to nothing", get(HOST + b"Connection: Upgrade\r\nUpgrade: \r\n")),
    Bad("an upgrade in chunks", post(b"Connection: Upgrade\r\nUpgrade: h2c\r\n" + CHUNKED, EMPTY + HIDDEN)),
)
"""Requests whose end is not in doubt: served or refused, as the parser will, but without a word of error."""
