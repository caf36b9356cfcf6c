"""What clients send, as data: what is served, and what is refused.

Each stream that is served has what the application must see of it. Each stream that is refused has a request behind it,
or in it, that must not be seen. Sources: RFC 9110 and 9112, and `tests/support/bad_requests.py`, of which these are the sequel.
"""

from __future__ import annotations

from typing import NamedTuple

from tests.support.bad_requests import CHUNKED, EMPTY, HIDDEN, HOST
from tests.support.bad_requests import REFUSED as REFUSED_BEFORE

Request = tuple[str, str, bytes]
"""Method, path, body."""


class Served(NamedTuple):
    """A stream of requests, each of which is answered with 200.

    seen: what the application sees
    """

    name: str
    sent: bytes
    seen: tuple[Request, ...]


class Refused(NamedTuple):
    """A request that gets one answer, which is the last, and does not reach the application.

    statuses: those that are right
    """

    name: str
    sent: bytes
    statuses: tuple[int, ...] = (400,)


def head(line: bytes, *fields: bytes) -> bytes:
    return b"\r\n".join((line, *fields, b"", b""))


def post(*fields: bytes, body: bytes = b"", path: bytes = b"/a") -> bytes:
    return head(b"POST " + path + b" HTTP/1.1", b"Host: x", *fields) + body


def get(*fields: bytes, path: bytes = b"/a") -> bytes:
    return head(b"GET " + path + b" HTTP/1.1", b"Host: x", *fields)


def with_length(*fields: bytes, body: bytes, path: bytes = b"/a") -> bytes:
    """A POST whose body has a length."""
    return post(*fields, b"Content-Length: %d" % len(body), body=body, path=path)


def in_chunks(*fields: bytes, body: bytes, path: bytes = b"/a") -> bytes:
    """A POST whose body comes in one chunk."""
    return post(*fields, b"Transfer-Encoding: chunked", body=b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body), path=path)


def chunked(body: bytes) -> bytes:
    """A POST with a body as it is on the wire."""
    return post(b"Transfer-Encoding: chunked", body=body)


A, B = ("GET", "/a", b""), ("GET", "/b", b"")
EARLY = ("POST", "/early", b"")
GET_A, GET_B = get(), get(path=b"/b")
LARGE = HIDDEN * 2200
"""More than 64 KiB of requests."""

UPGRADES = (
    (b"Connection: Upgrade", b"Upgrade: foo"),
    (b"Connection: Upgrade", b"Upgrade: h2c"),
    (
        b"Connection: Upgrade, HTTP2-Settings",
        b"Upgrade: h2c",
        b"HTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA",
    ),
    (b"Connection: Upgrade", b"Upgrade: websocket"),
    (b"Connection: upgrade", b"Upgrade: WebSocket"),
    (b"Connection: Upgrade", b"Upgrade: websocket, foo"),
    (b"Connection: Upgrade", b"Upgrade: foo, websocket"),
    (b"Connection: Upgrade", b"Upgrade: foo", b"Upgrade: websocket"),
    (b"Connection: keep-alive, Upgrade", b"Upgrade: h2c"),
    (b"Connection: keep-alive", b"Connection: Upgrade", b"Upgrade: TLS/1.2, HTTP/1.1"),
    (b"Upgrade: h2c", b"Connection: Upgrade"),
    (b"Connection: Upgrade", b"Upgrade: "),
    (b"Connection: Upgrade",),
    (b"Upgrade: h2c",),
    (b"Upgrade: websocket",),
    (
        b"Connection: Upgrade",
        b"Upgrade: websocket",
        b"Sec-WebSocket-Version: 13",
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    ),
)
"""Upgrades that nobody takes: the method is POST, or the protocol is not spoken here."""


def _upgrades() -> list[Served]:
    found = []
    for fields in UPGRADES:
        name = ", ".join(field.decode() for field in fields)[:90]
        # The framing before the upgrade, and behind it.
        found += [
            Served(f"a length behind {name}", with_length(*fields, body=HIDDEN) + GET_B, (("POST", "/a", HIDDEN), B)),
            Served(f"chunks behind {name}", in_chunks(*fields, body=HIDDEN) + GET_B, (("POST", "/a", HIDDEN), B)),
            Served(
                f"a length before {name}",
                post(b"Content-Length: %d" % len(HIDDEN), *fields, body=HIDDEN) + GET_B,
                (("POST", "/a", HIDDEN), B),
            ),
            Served(f"no body and {name}", post(*fields) + GET_B, (("POST", "/a", b""), B)),
            Served(f"a length of 0 and {name}", with_length(*fields, body=b"") + GET_B, (("POST", "/a", b""), B)),
            Served(
                f"two of {name}",
                with_length(*fields, body=b"1") + GET_B + in_chunks(*fields, body=HIDDEN, path=b"/c"),
                (("POST", "/a", b"1"), B, ("POST", "/c", HIDDEN)),
            ),
        ]
    for method in (b"GET", b"PUT", b"DELETE", b"OPTIONS"):
        sent = method + b" /a HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: foo\r\nContent-Length: 33\r\n\r\n"
        assert len(HIDDEN) == 33
        found.append(
            Served(
                f"{method.decode()} that asks for an upgrade",
                sent + HIDDEN + GET_B,
                ((method.decode(), "/a", HIDDEN), B),
            )
        )
    found += [
        Served("a GET that asks for an upgrade", get(b"Connection: Upgrade", b"Upgrade: foo") + GET_B, (A, B)),
        Served(
            "an upgrade whose Connection comes last",
            with_length(b"Upgrade: foo", b"X-A: b", b"Connection: x, upgrade", body=HIDDEN) + GET_B,
            (("POST", "/a", HIDDEN), B),
        ),
        Served(
            "an upgrade with a body that is answered early",
            with_length(*UPGRADES[1], body=HIDDEN, path=b"/early") + GET_B,
            (EARLY, B),
        ),
        Served(
            "chunks with a trailer that asks for an upgrade",
            chunked(b"21\r\n" + HIDDEN + b"\r\n0\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n") + GET_B,
            (("POST", "/a", HIDDEN), B),
        ),
    ]
    return found


LARGE_ONES = [
    Served("a large body behind an upgrade", with_length(*UPGRADES[0], body=LARGE) + GET_B, (("POST", "/a", LARGE), B)),
    Served("a large chunk behind an upgrade", in_chunks(*UPGRADES[3], body=LARGE) + GET_B, (("POST", "/a", LARGE), B)),
    Served("a large body behind h2c", with_length(*UPGRADES[2], body=LARGE) + GET_B, (("POST", "/a", LARGE), B)),
    Served(
        "a large body that is answered early",
        with_length(*UPGRADES[1], body=LARGE, path=b"/early") + GET_B,
        (EARLY, B),
    ),
    Served(
        "many chunks",
        chunked(b"".join(b"%x\r\n%s\r\n" % (n, b"x" * n) for n in range(1, 500)) + EMPTY) + GET_B,
        (("POST", "/a", b"x" * 124_750), B),
    ),
    Served("many requests in one packet", GET_A * 300 + GET_B, (*(A,) * 300, B)),
]
"""More than is read at once."""

ENDED_BY_VERSION = [
    Served(
        "an upgrade in HTTP/1.0",
        head(b"POST /a HTTP/1.0", b"Connection: Upgrade", b"Upgrade: foo", b"Content-Length: 33") + HIDDEN + GET_B,
        (("POST", "/a", HIDDEN),),
    ),
    Served(
        "a WebSocket handshake in HTTP/1.0",
        head(b"GET /a HTTP/1.0", b"Host: x", b"Connection: Upgrade", b"Upgrade: websocket") + GET_B,
        (A,),
    ),
    Served("HTTP/1.0 without a Host", head(b"GET /a HTTP/1.0") + GET_B, (A,)),
    Served("HTTP/1.0 with a Host", head(b"GET /a HTTP/1.0", b"Host: x") + GET_B, (A,)),
    Served(
        "HTTP/1.0 with a body",
        head(b"POST /a HTTP/1.0", b"Content-Length: 2") + b"ab" + GET_B,
        (("POST", "/a", b"ab"),),
    ),
    Served("Connection: close", get(b"Connection: close") + GET_B, (A,)),
    Served("Connection: close in a list", get(b"Connection: foo , CLOSE") + GET_B, (A,)),
    Served("Connection: close on a second line", get(b"Connection: keep-alive", b"Connection: close") + GET_B, (A,)),
    Served(
        "an upgrade and a close",
        with_length(b"Connection: Upgrade, close", b"Upgrade: foo", body=HIDDEN) + GET_B,
        (("POST", "/a", HIDDEN),),
    ),
]
"""Requests after whose answer the connection ends, so that what is behind them is not served."""

TRAILERS = [
    Served(
        f"the trailer {b', '.join(fields)!r}",
        chunked(b"2\r\nab\r\n0\r\n" + b"".join(field + b"\r\n" for field in fields) + b"\r\n") + GET_A + GET_B,
        (("POST", "/a", b"ab"), A, B),
    )
    for fields in (
        (b"Connection: close",),
        (b"connection: CLOSE", b"X-Sum: 1"),
        (b"X-Sum: 1", b"Connection: close"),
        (b"Content-Length: 5",),
        (b"Content-Length: 5", b"Content-Length: 6"),
        (b"Host: y",),
        (b"Host: x/y", b"Host: z"),
        (b"Transfer-Encoding: chunked",),
        (b"Transfer-Encoding: gzip",),
        (b"Upgrade: websocket", b"Connection: Upgrade"),
        (b"Expect: 100-continue",),
        (b"X-Empty:",),
        (b"X-Sum: \xe9\t~",),
    )
]

CHUNKS = [
    Served(name, chunked(body) + GET_B, (("POST", "/a", data), B))
    for name, body, data in (
        ("no chunk", b"0\r\n\r\n", b""),
        ("a size in capitals", b"A\r\n0123456789\r\n0\r\n\r\n", b"0123456789"),
        ("a size in small letters", b"a\r\n0123456789\r\n0\r\n\r\n", b"0123456789"),
        ("a size with zeros in front", b"0002\r\nab\r\n0000\r\n\r\n", b"ab"),
        ("an extension", b"2;a\r\nab\r\n0\r\n\r\n", b"ab"),
        ("an extension with a value", b"2;a=b\r\nab\r\n0;c=d\r\n\r\n", b"ab"),
        ("an extension in quotes", b'2;a="b"\r\nab\r\n0\r\n\r\n', b"ab"),
        ("an extension with a quote in quotes", b'2;a="b\\"\\\\;c";d=e\r\nab\r\n0\r\n\r\n', b"ab"),
        ("several extensions", b"2;a;b=c\r\nab\r\n1;d\r\nc\r\n0\r\n\r\n", b"abc"),
        ("a chunk that looks like the end", b"5\r\n0\r\n\r\n\r\n0\r\n\r\n", b"0\r\n\r\n"),
        ("a chunk that is a request", b"21\r\n" + HIDDEN + b"\r\n0\r\n\r\n", HIDDEN),
    )
]

BLANKS = [
    Served("an empty line in front", b"\r\n" + GET_A + GET_B, (A, B)),
    Served("two empty lines in front", b"\r\n\r\n" + GET_A + GET_B, (A, B)),
    Served("ten empty lines in front", b"\r\n" * 10 + GET_A + GET_B, (A, B)),
    Served("empty lines in between", GET_A + b"\r\n" + GET_B + b"\r\n\r\n\r\n" + GET_A, (A, B, A)),
    Served("an empty line behind a body", with_length(body=b"ab") + b"\r\n" + GET_B, (("POST", "/a", b"ab"), B)),
    Served("an empty line behind chunks", in_chunks(body=b"ab") + b"\r\n\r\n" + GET_B, (("POST", "/a", b"ab"), B)),
]

HOSTS = [
    Served(f"the host {host.decode()!r}", head(b"GET /a HTTP/1.1", b"Host: " + host) + GET_B, (A, B))
    for host in (
        b"x",
        b"",
        b"x:80",
        b"x:",
        b"127.0.0.1:8000",
        b"[::1]",
        b"[::1]:80",
        b"a_b.example.",
        b"%41",
        b"EXAMPLE",
    )
] + [
    Served("a host without a space in front", b"GET /a HTTP/1.1\r\nHost:x\r\n\r\n" + GET_B, (A, B)),
    Served("a host with tabs around it", b"GET /a HTTP/1.1\r\nhOST:\tx\t \r\n\r\n" + GET_B, (A, B)),
    Served("a URL for a target", head(b"GET http://x/a HTTP/1.1", b"Host: x") + GET_B, (A, B)),
    Served("a URL for another host", head(b"GET http://y/a HTTP/1.1", b"Host: x") + GET_B, (A, B)),
    Served("a URL without a path", head(b"GET http://x HTTP/1.1", b"Host: x") + GET_B, (("GET", "/", b""), B)),
    Served("a star for a target", head(b"OPTIONS * HTTP/1.1", b"Host: x") + GET_B, (("OPTIONS", "*", b""), B)),
]

OTHERS = [
    Served("two requests in one packet", GET_A + GET_B, (A, B)),
    Served(
        "a length with zeros in front", post(b"Content-Length: 002", body=b"ab") + GET_B, (("POST", "/a", b"ab"), B)
    ),
    Served("chunked in capitals", post(b"Transfer-Encoding: CHUNKED", body=EMPTY) + GET_B, (("POST", "/a", b""), B)),
    Served("a body that is a request", with_length(body=HIDDEN) + GET_B, (("POST", "/a", HIDDEN), B)),
    Served("a body that nobody has asked for", with_length(body=HIDDEN, path=b"/early") + GET_B, (EARLY, B)),
    Served(
        "a GET with a body",
        get(b"Content-Length: 33") + HIDDEN + GET_B,
        (("GET", "/a", HIDDEN), B),
    ),
    Served("a field without a value", get(b"X-A:") + GET_B, (A, B)),
    Served("Proxy-Connection: close", get(b"Proxy-Connection: close") + GET_B, (A, B)),
    Served(
        "Proxy-Connection: close and an upgrade",
        get(b"Proxy-Connection: close, upgrade", b"Upgrade: foo") + GET_B,
        (A, B),
    ),
    Served(
        "Proxy-Connection: close and a body",
        with_length(b"Proxy-Connection: close", body=HIDDEN) + GET_B,
        (("POST", "/a", HIDDEN), B),
    ),
    Served("a field that is not ASCII", get(b"X-A: \xc3\xa9\xff") + GET_B, (A, B)),
    Served("a field with a tab in it", get(b"X-A: a\tb") + GET_B, (A, B)),
    Served("an Expect of something else", with_length(b"Expect: tea", body=b"ab") + GET_B, (("POST", "/a", b"ab"), B)),
    Served("an escaped path", get(path=b"/%61?x=/%20&%zz") + GET_B, (A, B)),
]

SERVED = {
    "upgrades": _upgrades(),
    "trailers": TRAILERS,
    "chunks": CHUNKS,
    "empty lines": BLANKS,
    "hosts": HOSTS,
    "others": OTHERS,
}
"""Streams behind which the connection lives on, by what they are about."""

NOT_SERVED = (400, 405, 501)
WRONG_VERSION = (400, 505)
WRONG_CODING = (400, 501)

CONNECTS = [
    Refused("CONNECT", head(b"CONNECT x:80 HTTP/1.1", b"Host: x:80") + HIDDEN, NOT_SERVED),
    Refused("CONNECT to a path", head(b"CONNECT /a HTTP/1.1", b"Host: x") + HIDDEN, NOT_SERVED),
    Refused(
        "CONNECT with a length", head(b"CONNECT /a HTTP/1.1", b"Host: x", b"Content-Length: 33") + HIDDEN, NOT_SERVED
    ),
    Refused(
        "CONNECT in chunks",
        head(b"CONNECT /a HTTP/1.1", b"Host: x", CHUNKED[:-2]) + b"21\r\n" + HIDDEN + EMPTY,
        NOT_SERVED,
    ),
    Refused("CONNECT in HTTP/1.0", head(b"CONNECT x:80 HTTP/1.0") + HIDDEN, NOT_SERVED),
    Refused(
        "CONNECT with a large body",
        head(b"CONNECT /a HTTP/1.1", b"Host: x", b"Content-Length: 72600") + LARGE,
        NOT_SERVED,
    ),
    Refused("a method in small letters", head(b"get /a HTTP/1.1", b"Host: x") + HIDDEN, NOT_SERVED),
    Refused("a method that nobody knows", head(b"BREW /a HTTP/1.1", b"Host: x") + HIDDEN, NOT_SERVED),
    Refused("a request of RTSP", head(b"DESCRIBE /a RTSP/1.0", b"Host: x") + HIDDEN, WRONG_VERSION),
]

BAD_HOSTS = [
    Refused(f"{name}", head(b"GET /a HTTP/1.1", *fields) + HIDDEN)
    for name, fields in (
        ("two hosts", (b"Host: x", b"Host: y")),
        ("two equal hosts", (b"Host: x", b"Host: x")),
        ("two hosts in other letters", (b"Host: x", b"hOST: x")),
        ("two hosts apart", (b"Host: x", b"X-A: b", b"HOST: y")),
        ("a host and an empty one", (b"Host: x", b"Host:")),
        ("no host", ()),
        ("no host but one like it", (b"X-Host: x",)),
    )
] + [
    Refused(f"the host {host!r}", head(b"GET /a HTTP/1.1", b"Host: " + host) + HIDDEN)
    for host in (
        b"x/y", b"x?y", b"x#y", b"x y", b"x\ty", b"u@x", b"@", b"x@y:80", b"x,y", b"x, x", b"x\\y", b'"x"', b"<x>", b"{x}",
        b"x|y", b"x^y", b"x`y", b"x:a", b"x:80:80", b"x:-1", b"[::1", b"::1", b"[::1]x", b"http://x", b"x%zz", b"x%", b"\xe9", b"x\xff",
        b":80", b":",
    )
] + [
    Refused("two hosts in HTTP/1.0", head(b"GET /a HTTP/1.0", b"Host: x", b"Host: x") + HIDDEN),
    Refused("a bad host in HTTP/1.0", head(b"GET /a HTTP/1.0", b"Host: x/y") + HIDDEN),
    Refused("a URL with a port and no host", head(b"GET http://:80/a HTTP/1.1", b"Host: x") + HIDDEN),
    Refused("a URL with nothing but a colon", head(b"GET http://: HTTP/1.1", b"Host: x") + HIDDEN),
    Refused("a URL with no host", head(b"GET http:///a HTTP/1.1", b"Host: x") + HIDDEN),
    Refused("a URL with a user", head(b"GET http://u@x/a HTTP/1.1", b"Host: x") + HIDDEN),
    Refused("a URL and no host", head(b"GET http://x/a HTTP/1.1") + HIDDEN),
]  # fmt: skip

CODINGS = [
    Refused(f"the coding {coding!r}", post(b"Transfer-Encoding: " + coding, body=EMPTY + HIDDEN), WRONG_CODING)
    for coding in (
        b",chunked", b", chunked", b"chunked,", b"chunked, ", b"identity, chunked", b"x, chunked", b"gzip, chunked", b"gzip",
        b"chunked, gzip", b"chunked, chunked", b"identity", b"", b"chunked;a=b", b"chunked ;a", b'"chunked"', b"chunked chunked",
        b"xchunked", b"chunkedx", b"chunked\xa0", b"\x85chunked", b"chunke", b"deflate,chunked",
    )
] + [
    Refused("chunks on two lines", post(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked", body=EMPTY + HIDDEN), WRONG_CODING),
    Refused("a coding and chunks on two lines", post(b"Transfer-Encoding: gzip", b"Transfer-Encoding: chunked", body=EMPTY + HIDDEN), WRONG_CODING),
    Refused("no coding and chunks on two lines", post(b"Transfer-Encoding:", b"transfer-encoding: chunked", body=EMPTY + HIDDEN), WRONG_CODING),
    Refused("chunks and a length", post(b"Transfer-Encoding: chunked", b"Content-Length: 5", body=EMPTY + HIDDEN)),
    Refused("a length of 0 and chunks", post(b"Content-Length: 0", b"Transfer-Encoding: chunked", body=EMPTY + HIDDEN)),
    Refused("chunks in HTTP/1.0", head(b"POST /a HTTP/1.0", b"Host: x", b"Transfer-Encoding: chunked") + EMPTY + HIDDEN, WRONG_CODING),
    Refused("chunks in HTTP/1.0 that is kept", head(b"POST /a HTTP/1.0", b"Connection: keep-alive", CHUNKED[:-2]) + EMPTY + HIDDEN, WRONG_CODING),
    *(
        Refused(f"the coding {coding!r} behind {fields[1].decode()}", post(*fields, b"Transfer-Encoding: " + coding, body=EMPTY + HIDDEN), WRONG_CODING)
        for coding in (b"chunked\t", b"chunked x", b"gzip", b"chunked, gzip", b"xchunked", b"")
        for fields in (UPGRADES[0], UPGRADES[3])
    ),
    Refused("a coding behind an upgrade", post(*UPGRADES[0], b"Transfer-Encoding: gzip, chunked", body=EMPTY + HIDDEN), WRONG_CODING),
]  # fmt: skip

VERSIONS = [
    Refused(f"the line {line!r}", line + b"\r\n" + HOST + b"\r\n" + HIDDEN, WRONG_VERSION)
    for line in (
        b"GET /a", b"GET /a ", b"GET", b"GET /a RTSP/1.0", b"GET /a HTTP/1.2", b"GET /a HTTP/3.0", b"GET /a HTTP/2.0", b"GET /a HTTP/2",
        b"GET /a HTTP/0.9", b"GET /a HTTP/1", b"GET /a HTTP/1.", b"GET /a HTTP/1.10", b"GET /a HTTP/11", b"GET /a HTTP/01.1", b"GET /a http/1.1",
        b"GET /a HTTP/1.1 ", b"GET /a  HTTP/1.1", b"GET  /a HTTP/1.1", b"GET\t/a HTTP/1.1", b"GET /a\tHTTP/1.1", b"GET /a ICE/1.0", b"GET /a HTTP 1.1",
        b"GET /a HTTP/-1.1", b"GET /a HTTP/1.1x", b"GET /a SHTTP/1.1", b" GET /a HTTP/1.1", b"GET /a b HTTP/1.1",
        b"GET /a#b HTTP/1.1", b"GET a HTTP/1.1", b"GET ?a HTTP/1.1", b"GET * HTTP/1.1", b"GET /\xe9 HTTP/1.1", b"GET ftp://x/a HTTP/1.1", b"GET //\x7f HTTP/1.1",
    )
] + [
    Refused("a line alone", b"GET /a\r\n\r\n" + HIDDEN, WRONG_VERSION),
    Refused("the beginning of HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + HIDDEN, WRONG_VERSION),
    Refused("HTTP/2 with a host", head(b"PRI * HTTP/2.0", b"Host: x") + b"SM\r\n\r\n" + HIDDEN, WRONG_VERSION),
    Refused("an answer for a request", head(b"HTTP/1.1 200 OK", b"Content-Length: 0") + HIDDEN, WRONG_VERSION),
]  # fmt: skip

BAD_CHUNKS = [
    Refused(f"the chunks {body[:24]!r}", chunked(body + EMPTY + HIDDEN))
    for body in (
        b"5;\r\nabcde\r\n",
        b"5;;a\r\nabcde\r\n",
        b"5; a\r\nabcde\r\n",
        b"5;a =b\r\nabcde\r\n",
        b"5;a=\r\nabcde\r\n",
        b"5;a:b\r\nabcde\r\n",
        b'5;a="b\r\nabcde\r\n',
        b'5;a="b"c\r\nabcde\r\n',
        b"5 \r\nabcde\r\n", b"5\t\r\nabcde\r\n", b" 5\r\nabcde\r\n", b"5 ;a\r\nabcde\r\n", b"5;a\x00\r\nabcde\r\n", b"5;\x01=b\r\nabcde\r\n",
        b"5;a=\x7f\r\nabcde\r\n", b"5;a\n\r\nabcde\r\n", b"5;a\rb\r\nabcde\r\n", b"5\nabcde\r\n", b"5\n\nabcde\r\n", b"5\r\nabcde\n", b"5\r\nabcde",
        b"5\r\r\nabcde\r\n", b"5\r\nabcdef\r\n", b"5\r\nabcd\r\n", b"5,a\r\nabcde\r\n", b"0x5\r\nabcde\r\n", b"+5\r\nabcde\r\n", b"-5\r\nabcde\r\n",
        b"5h\r\nabcde\r\n", b"5.0\r\nabcde\r\n", b"5_\r\nabcde\r\n", b"\r\n", b";a\r\n", b"g\r\n", b"\xd9\xa5\r\nabcde\r\n", b"1" * 16 + b"\r\n", b"0" * 17 + b"\r\n",
        b"5\r\nabcde\r\r\n", b"5\r\nabcde\rX", b"5\r\nabcde X",
    )
] + [
    Refused(f"the trailer {line!r}", chunked(b"2\r\nab\r\n0\r\n" + line + b"\r\n" + HIDDEN))
    for line in (
        b"X-A: b\n", b"X-A: b\n\r\n", b"X-A: b\r\n c\r\n", b" X-A: b\r\n", b"\tX-A: b\r\n", b"X-A\r\n", b"X-A : b\r\n", b": b\r\n", b"X-A: \x00\r\n",
        b"X-A: a\rb\r\n", b"X A: b\r\n", b"X-\xe9: b\r\n", b"X-A: \x7f\r\n", b"\n", b"\rX: a\r\n",
    )
] + [Refused("a trailer section without its end", chunked(b"0\r\n" + HIDDEN))]  # fmt: skip

LENGTHS = [
    Refused(f"the lengths {fields!r}", post(*fields, body=b"abcde" + HIDDEN))
    for fields in (
        (b"Content-Length: 5, 5",), (b"Content-Length: 5,5",), (b"Content-Length: 5", b"Content-Length: 5"),
        (b"Content-Length: 5", b"content-length: 5"), (b"Content-Length: 5", b"X-A: b", b"CONTENT-LENGTH: 5"),
        (b"Content-Length: 5", b"Content-Length: 5", b"Content-Length: 5"), (b"Content-Length: 0", b"Content-Length: 0"),
        (b"Content-Length: 5", b"Content-Length: 05"), (b"Content-Length: 5", b"Content-Length:"), (b"Content-Length:", b"Content-Length: 5"),
        (b"Content-Length: 5, ",), (b"Content-Length: ,5",), (b"Content-Length: 5;5",), (b"Content-Length: 5 5",), (b"Content-Length: +5",),
        (b"Content-Length: -5",), (b"Content-Length: 5.0",), (b"Content-Length: 0x5",), (b"Content-Length: 5e0",), (b"Content-Length: \xb2",),
        (b"Content-Length: \xd9\xa5",), (b"Content-Length:",), (b"Content-Length: \"5\"",), (b"Content-Length: 9223372036854775808",),
        (b"Content-Length: 18446744073709551621",), (b"Content-Length: 99999999999999999999999",), (b"Content-Length: 5_0",),
    )
]  # fmt: skip

LINES = [
    Refused(f"the head {sent[:40]!r}", sent + HIDDEN)
    for sent in (
        b"\nGET /a HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\r\n\nGET /a HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\rGET /a HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\r\r\nGET /a HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\r\n\rGET /a HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\r\n GET /a HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /a HTTP/1.1\nHost: x\r\n\r\n",
        b"GET /a HTTP/1.1\rHost: x\r\n\r\n",
        b"GET /a HTTP/1.1\r\nHost: x\n\r\n",
        b"GET /a HTTP/1.1\r\nHost: x\n\n",
        b"GET /a HTTP/1.1\r\nHost: x\r\n\n",
        b"GET /a HTTP/1.1\r\nHost: x\r\r\n\r\n",
        b"GET /a HTTP/1.1\r\n Host: x\r\n\r\n",
        b"GET /a HTTP/1.1\r\nHost: x\r\n\tfolded\r\n\r\n",
        b"GET /a HTTP/1.1\r\nHost: x\r\nX-A: b\r\n \r\n\r\n",
        b"GET /a HTTP/1.1\r\nHost : x\r\n\r\n",
        b"GET /a HTTP/1.1\r\nHost\r\n\r\n",
        b"GET /a HTTP/1.1\r\nHost: x\r\n: b\r\n\r\n",
        b"GET /a HTTP/1.1\r\nHost: x\r\nX-A: \x00\r\n\r\n",
        b"GET /a HTTP/1.1\r\nHost: x\r\nX-A: \x0b\r\n\r\n",
        b"GET /a HTTP/1.1\r\nHost: x\r\nX-A: \x1b[0m\r\n\r\n",
        b"GET /a HTTP/1.1\r\nHost: x\r\nX\xe9: b\r\n\r\n",
        b"GET /a HTTP/1.1\r\nHost: x\r\nX,A: b\r\n\r\n",
        b"GET /a\x00 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\xef\xbb\xbfGET /a HTTP/1.1\r\nHost: x\r\n\r\n",
    )
]

REFUSED = {
    "CONNECT": CONNECTS,
    "hosts": BAD_HOSTS,
    "codings": CODINGS,
    "request lines": VERSIONS,
    "chunks": BAD_CHUNKS,
    "lengths": LENGTHS,
    "lines": LINES,
    "those known before": [Refused(bad.name, bad.sent, (400, 501, 505)) for bad in REFUSED_BEFORE],
}
"""Requests that are refused, by what they are about."""
