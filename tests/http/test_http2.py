"""HTTP/2 on the wire: exchanges, windows, what is refused, and who decides which protocol is spoken."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    GoAwayFrame,
    HeadersFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

from duallisten.http import Limits
from duallisten.http.http2.stream import WINDOW
from tests.http.engine import DEADLINE, LOOPS, Recorder, Wire, answer, read_responses, wire
from tests.http.http2_client import (
    COMPRESSION_ERROR,
    FLOW_CONTROL_ERROR,
    GET,
    PREFACE,
    PROTOCOL_ERROR,
    REFUSED_STREAM,
    STREAM_CLOSED,
    Fields,
    Http2Client,
    asking,
    http2,
)

LIMITS = Limits(head_bytes=16384, head_fields=20, body_bytes=1 << 20)


@pytest.fixture(scope="module", params=LOOPS)
def engine(request: pytest.FixtureRequest) -> Iterator[Wire]:
    with wire(Recorder(), request.param, limits=LIMITS, http2=True) as serving:
        yield serving


def test_requests_on_one_connection_are_answered(engine: Wire, app: Recorder) -> None:
    with http2(engine) as client:
        client.ask(1, "/a%20b?c=d", "GET", ("cookie", "a=1"), ("x", "y"), ("cookie", "b=2"))
        client.ask(3, "/body", "POST", body=b"hello" * 1000)
        client.ask(5, "/head", "HEAD")
        answers = [client.response(stream) for stream in (1, 3, 5)]
    assert [(one.status, one.body, one.is_whole, one.reset) for one in answers] == [
        (200, b"/a b", True, None),
        (200, b"/body", True, None),
        (200, b"", True, None),
    ]
    assert answers[2].headers["content-length"] == "5"
    assert app.requests == [("GET", "/a b", b""), ("POST", "/body", b"hello" * 1000), ("HEAD", "/head", b"")]
    assert app.seen[0].headers == ((b"host", b"x"), (b"cookie", b"a=1; b=2"), (b"x", b"y"))


def test_a_head_that_comes_again_is_read_again(engine: Wire, app: Recorder) -> None:
    """Known heads are remembered, until the table that they point into changes."""
    paths = ["/a", "/a", "/b", "/a", "/b", "/b"]
    with http2(engine) as client:
        for number, path in enumerate(paths):
            client.ask(2 * number + 1, path, "GET", ("x", str(number // 2)))
            assert client.response(2 * number + 1).body == path.encode()
    assert app.paths == paths
    assert [dict(one.headers)[b"x"] for one in app.seen] == [b"0", b"0", b"1", b"1", b"2", b"2"]


def test_the_preface_may_come_in_pieces(engine: Wire) -> None:
    for at in (1, 14, 18, 20):
        with engine.connect() as connection:
            client = Http2Client(connection)
            engine.send(connection, PREFACE[:at], b"")  # read apart from what follows
            connection.sendall(PREFACE[at:] + SettingsFrame(0).serialize())
            client.ask(1)
            assert client.response(1).status == 200


def test_http_1_1_is_spoken_beside_it(engine: Wire) -> None:
    upgrade = b"GET /a HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n"
    last = b"GET /b HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    assert [one.body for one in read_responses(engine.ask(upgrade + last))] == [b"/a", b"/b"]
    behind_another = upgrade.replace(b"Upgrade, HTTP2-Settings", b"x") + PREFACE
    assert [one.status for one in read_responses(engine.ask(behind_another))] == [200, 400]


def test_without_the_option_the_preface_is_refused() -> None:
    with wire(Recorder()) as engine:
        assert [one.status for one in read_responses(engine.ask(PREFACE))] == [400]


MALFORMED: dict[str, Fields] = {
    "no method": GET[1:],
    "no scheme": [GET[0], *GET[2:]],
    "no path": GET[:3],
    "an empty path": asking(""),
    "a path that is a URL": asking("http://x/"),
    "a path with a space": asking("/a b"),
    "a path with a fragment": asking("/a#b"),
    "a path beyond ASCII": asking("/\xe9"),
    "a star with GET": asking("*"),
    "CONNECT": [(":method", "CONNECT"), (":authority", "x:1")],
    "a method in small letters": asking("/", "get"),
    "a method nobody knows": asking("/", "FOO"),
    "another scheme": [GET[0], (":scheme", "ftp"), *GET[2:]],
    "extended CONNECT": [(":method", "CONNECT"), (":protocol", "websocket"), *GET[1:]],
    "a pseudo-header field twice": [GET[0], *GET],
    "a pseudo-header field that is not known": [*GET, (":foo", "x")],
    "a pseudo-header field of responses": [*GET, (":status", "200")],
    "a pseudo-header field behind others": [*GET[:3], ("a", "b"), GET[3]],
    "capitals in a name": [*GET, ("Foo", "x")],
    "a space in a name": [*GET, ("a b", "x")],
    "a colon in a name": [*GET, ("a:b", "x")],
    "an empty name": [*GET, ("", "x")],
    "a line break in a value": [*GET, ("a", "x\r\nb: c")],
    "NUL in a value": [*GET, ("a", "x\0")],
    "white space around a value": [*GET, ("a", " x")],
    "connection": [*GET, ("connection", "close")],
    "transfer-encoding": [*GET, ("transfer-encoding", "chunked")],
    "upgrade": [*GET, ("upgrade", "h2c")],
    "keep-alive": [*GET, ("keep-alive", "5")],
    "proxy-connection": [*GET, ("proxy-connection", "x")],
    "te other than trailers": [*GET, ("te", "trailers, deflate")],
    "no host": [GET[0], GET[1], GET[3]],
    "a host that differs": [*GET, ("host", "y")],
    "a host with a slash": [*GET[:2], (":authority", "x/y"), GET[3]],
    "user information": [*GET[:2], (":authority", "a@x"), GET[3]],
    "two hosts": [GET[0], GET[1], GET[3], ("host", "x"), ("host", "x")],
    "two lengths": [*GET, ("content-length", "0"), ("content-length", "0")],
    "a length that is none": [*GET, ("content-length", "+0")],
    "a length without a body": [*GET, ("content-length", "5")],
}


def test_malformed_heads_are_refused_and_the_connection_goes_on(engine: Wire, app: Recorder) -> None:
    with http2(engine) as client:
        for number, (name, fields) in enumerate(MALFORMED.items()):
            stream = 2 * number + 1
            client.send(client.head(stream, [(a.encode("latin-1"), b.encode("latin-1")) for a, b in fields]))
            client.until(lambda stream=stream: client.of(RstStreamFrame, stream))  # type: ignore[misc]
            got = client.response(stream)
            assert (got.status, got.reset) == (400, PROTOCOL_ERROR), name
        client.ask(999, "/good")
        assert client.response(999).body == b"/good"
    assert app.paths == ["/good"]


GOOD: dict[str, Fields] = {
    "a host in the place of an authority": [GET[0], GET[1], GET[3], ("host", "x")],
    "both, alike": [*GET, ("host", "X")],
    "te: trailers": [*GET, ("te", "trailers")],
    "a star with OPTIONS": asking("*", "OPTIONS"),
    "an empty value": [*GET, ("a", "")],
}


@pytest.mark.parametrize("name", GOOD)
def test_unusual_heads_are_served(engine: Wire, app: Recorder, name: str) -> None:
    with http2(engine) as client:
        client.send(client.head(1, GOOD[name]))
        assert client.response(1).status == 200
    assert [name for name, _ in app.seen[0].headers].count(b"host") == 1


def test_limits_are_those_of_http_1_1(engine: Wire, app: Recorder) -> None:
    with http2(engine) as client:
        client.send(client.head(1, [*GET, *((f"x{n}", "y") for n in range(30))]))
        assert client.response(1).status == 431
        client.send(client.head(3, asking("/", "POST", ("content-length", str(1 << 21))), "END_HEADERS"))
        assert client.response(3).status == 413
        client.send(client.head(5, asking("/", "POST"), "END_HEADERS"))
        for _ in range(64):
            client.send(DataFrame(5, data=bytes(16384)))
            client.ping()
        client.send(DataFrame(5, data=b"x"))
        assert client.response(5).status == 413
        client.send(client.head(7, asking("/", "POST", ("content-length", "3")), "END_HEADERS"))
        client.send(DataFrame(7, data=b"four", flags=["END_STREAM"]))
        client.until(lambda: client.of(RstStreamFrame, 7))
        assert client.response(7).status == 400
        client.ask(9, "/last")
        assert client.response(9).body == b"/last"
    assert app.paths == ["/last"]


def test_trailers_of_a_request_are_checked_and_thrown_away(engine: Wire, app: Recorder) -> None:
    with http2(engine) as client:
        client.send(client.head(1, asking("/a", "POST"), "END_HEADERS"), DataFrame(1, data=b"x"))
        client.send(client.head(1, [("x-sum", "1")]))
        assert client.response(1).body == b"/a"
        client.send(client.head(3, asking("/b", "POST"), "END_HEADERS"), client.head(3, [(":path", "/c")]))
        assert client.response(3).status == 400
    assert app.requests == [("POST", "/a", b"x")]
    assert b"x-sum" not in dict(app.seen[0].headers)


BREACHES: dict[str, tuple[int, bytes]] = {
    "a frame that is too large": (0x6, b"\x00\x40\x01\x00\x00\x00\x00\x00\x01" + bytes(16385)),
    "DATA of no stream": (0x1, b"\x00\x00\x00\x00\x00\x00\x00\x00\x00"),
    "DATA on an idle stream": (0x1, DataFrame(1, data=b"x").serialize()),
    "a stream of the server's": (0x1, HeadersFrame(2, data=b"\x82", flags=["END_HEADERS"]).serialize()),
    "CONTINUATION of nothing": (0x1, ContinuationFrame(1).serialize()),
    "a frame within a head": (0x1, HeadersFrame(1, data=b"\x82").serialize() + SettingsFrame(0).serialize()),
    "a block that is malformed": (
        COMPRESSION_ERROR,
        HeadersFrame(1, data=b"\xff\xff\xff\xff\xff\xff\xff", flags=["END_HEADERS"]).serialize(),
    ),
    "RST_STREAM of the wrong size": (0x6, b"\x00\x00\x03\x03\x00\x00\x00\x00\x01abc"),
    "a window of too much": (FLOW_CONTROL_ERROR, WindowUpdateFrame(0, window_increment=(1 << 31) - 1).serialize()),
    "an initial window of too much": (
        FLOW_CONTROL_ERROR,
        b"\x00\x00\x06\x04\x00\x00\x00\x00\x00\x00\x04\xff\xff\xff\xff",
    ),
    "PUSH_PROMISE": (0x1, b"\x00\x00\x05\x05\x04\x00\x00\x00\x01\x00\x00\x00\x02\x82"),
}


@pytest.mark.parametrize("name", BREACHES)
def test_who_breaks_the_rules_is_told_which_and_let_go(engine: Wire, name: str) -> None:
    code, data = BREACHES[name]
    with http2(engine) as client:
        client.socket.sendall(data)
        assert client.goaway().error_code == code
        client.socket.shutdown(socket.SHUT_WR)
        assert engine.wait_until_lost(client.socket)


def test_frames_of_streams_that_have_ended(engine: Wire) -> None:
    with http2(engine) as client:
        client.ask(1)
        client.response(1)
        client.send(DataFrame(1, data=b"x"))
        client.until(lambda: client.of(RstStreamFrame, 1))
        assert client.of(RstStreamFrame, 1)[0].error_code == STREAM_CLOSED
        client.send(client.head(5), client.head(3))
        assert client.goaway().error_code == PROTOCOL_ERROR


# --- Windows ---


class Large:
    """Sends 64 KiB a time, `size` in all, and notes how much it has; the body of `/whole` at once."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.sent = 0
        self.gone = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        at_once = self.size if scope["path"] == "/whole" else 65536
        for at in range(0, self.size, at_once):
            await send({"type": "http.response.body", "body": bytes(at_once), "more_body": at + at_once < self.size})
            self.sent += at_once
        self.gone += (await receive())["type"] == "http.disconnect"


def test_an_application_waits_until_the_windows_have_room() -> None:
    """Row 50: 100 streams with a window of 0 that ask for 50 MB each."""
    app = Large(50 << 20)
    with wire(app, http2=True) as engine, http2(engine, initial_window_size=0) as client:
        for number in range(100):
            client.ask(2 * number + 1)
        client.until(lambda: len(client.of(HeadersFrame)) == 100)
        client.ping()
        assert app.sent == 0 and not client.of(DataFrame)
        client.ask(201)
        client.until(lambda: client.of(RstStreamFrame, 201))
        assert client.of(RstStreamFrame, 201)[0].error_code == REFUSED_STREAM
        client.open(3, 100_000)
        client.until(lambda: sum(len(one.data) for one in client.of(DataFrame)) == 65535)  # the connection's
        client.open(0, 1 << 20)
        client.until(lambda: sum(len(one.data) for one in client.of(DataFrame)) == 100_000)
        client.ping()
        assert {one.stream_id for one in client.of(DataFrame)} == {3}
        assert max(len(one.data) for one in client.of(DataFrame)) <= 16384
        assert app.sent == 65536
        client.send(RstStreamFrame(3, error_code=8), SettingsFrame(0, settings={4: 1000}))
        client.until(lambda: len(client.of(DataFrame)) >= 99 + 7)
        assert all(sum(len(one.data) for one in client.of(DataFrame, n)) == 1000 for n in range(5, 200, 2))


def test_streams_take_turns() -> None:
    app = Large(1 << 20)
    with wire(app, http2=True) as engine, http2(engine, initial_window_size=1 << 20) as client:
        for stream in (1, 3, 5):
            client.ask(stream, "/whole")
        client.until(lambda: len(client.of(HeadersFrame)) == 3)
        client.open(0, 4 << 20)
        for stream in (1, 3, 5):
            assert len(client.response(stream).body) == 1 << 20
        order = [one.stream_id for one in client.of(DataFrame)]
        assert set(order[30:40]) == {1, 3, 5}


class Held:
    """Reads no body until it is told to."""

    def __init__(self) -> None:
        self.began, self.go_on = threading.Event(), threading.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.began.set()
        await asyncio.to_thread(self.go_on.wait)
        size, more = 0, True
        while more:
            message = await receive()
            size += len(message.get("body", b""))
            more = message.get("more_body", False)
        await answer(send, b"%d" % size)


def test_a_window_is_opened_as_the_body_is_read() -> None:
    app = Held()
    with wire(app, http2=True) as engine, http2(engine) as client:
        client.send(client.head(1, asking("/", "POST"), "END_HEADERS"))
        for _ in range(WINDOW // 16384):
            client.send(DataFrame(1, data=bytes(16384)))
        client.ping()
        assert not client.of(WindowUpdateFrame, 1)
        app.go_on.set()
        client.until(lambda: client.of(WindowUpdateFrame, 1))
        assert sum(one.window_increment for one in client.of(WindowUpdateFrame, 1)) == WINDOW
        client.send(DataFrame(1, data=b"x", flags=["END_STREAM"]))
        assert client.response(1).body == b"%d" % (WINDOW + 1)


def test_who_sends_more_than_the_window_is_reset() -> None:
    app = Held()
    with wire(app, http2=True) as engine, http2(engine) as client:
        client.send(client.head(1, asking("/", "POST"), "END_HEADERS"))
        for _ in range(WINDOW // 16384):
            client.send(DataFrame(1, data=bytes(16384)))
        client.send(DataFrame(1, data=b"x"))
        assert client.response(1).reset == FLOW_CONTROL_ERROR
        app.go_on.set()


def test_what_nobody_reads_of_a_body_is_dropped(engine: Wire) -> None:
    with http2(engine) as client:
        client.send(client.head(1, asking("/early", "POST"), "END_HEADERS"), DataFrame(1, data=bytes(1000)))
        assert client.response(1).status == 200
        client.send(DataFrame(1, data=bytes(1000), flags=["END_STREAM"]))
        client.ping()
        assert not client.of(RstStreamFrame)
        client.send(client.head(3, asking("/early", "POST"), "END_HEADERS"))
        for _ in range(WINDOW // 16384):
            client.send(DataFrame(3, data=bytes(16384)))
        client.until(lambda: client.of(RstStreamFrame, 3))
        got = client.response(3)
        assert (got.status, got.reset, got.is_whole) == (200, 0, True)


# --- What applications do ---


async def odd(scope: Any, receive: Any, send: Any) -> None:
    """Behaves as its path says."""
    path = scope["path"]
    assert scope["http_version"] == "2" and scope["scheme"] == "http"
    if path == "/raise":
        raise ZeroDivisionError
    if path == "/nothing":
        return
    headers = [(b"connection", b"close"), (b"Transfer-Encoding", b"chunked"), (b"X-A", b"1"), [b"x-b", b"2"]]
    if path == "/trailers":
        await send({"type": "http.response.early_hint", "links": [b"</a.css>; rel=preload"]})
    start = {"type": "http.response.start", "status": 200, "headers": headers, "trailers": path == "/trailers"}
    if path == "/short":
        start["headers"] = [(b"content-length", b"9")]
    if path == "/none":
        start["status"] = 204
    await send(start)
    if path == "/half":
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        return
    await send({"type": "http.response.body", "body": b"body"})
    if path == "/trailers":
        await send({"type": "http.response.trailers", "headers": [(b"x-sum", b"5")]})


def test_what_applications_do_is_put_right(caplog: pytest.LogCaptureFixture) -> None:
    with wire(odd, http2=True) as engine, http2(engine) as client:
        paths = ("/raise", "/nothing", "/plain", "/trailers", "/short", "/none", "/half")
        for number, path in enumerate(paths):
            client.ask(2 * number + 1, path)
        got = {path: client.response(2 * number + 1) for number, path in enumerate(paths)}
    assert got["/raise"].status == got["/nothing"].status == 500
    assert got["/plain"].headers == {":status": "200", "x-a": "1", "x-b": "2"}
    assert (got["/trailers"].body, got["/trailers"].trailers) == (b"body", {"x-sum": "5"})
    assert (got["/none"].status, got["/none"].body, got["/none"].is_whole) == (204, b"", True)
    for path in ("/short", "/half"):
        assert (got[path].status, got[path].is_whole, got[path].reset) == (200, False, 2)


def test_expect_continue_is_answered_when_the_body_is_wanted(engine: Wire) -> None:
    with http2(engine) as client:
        client.send(client.head(1, asking("/", "POST", ("expect", "100-continue")), "END_HEADERS"))
        client.until(lambda: client.of(HeadersFrame, 1))
        client.send(DataFrame(1, data=b"x", flags=["END_STREAM"]))
        assert client.response(1).status == 200
        heads: list[Any] = [client.decoder.decode(one.data) for one in client.of(HeadersFrame, 1)]
    assert [dict(head)[":status"] for head in heads] == ["100", "200"]


def test_an_application_hears_that_its_client_is_gone() -> None:
    app = Recorder()
    with wire(app, http2=True) as engine:
        with http2(engine) as client:
            client.send(client.head(1, asking("/reset", "POST"), "END_HEADERS"))
            client.ping()
            client.send(RstStreamFrame(1, error_code=8))
            client.ping()
            assert app.gone == ["/reset"]
            client.send(client.head(3, asking("/left", "POST"), "END_HEADERS"))
            client.ping()
        assert engine.wait_until(lambda: app.gone == ["/reset", "/left"])


def test_a_client_that_ends_is_answered_first(engine: Wire) -> None:
    with http2(engine) as client:
        client.ask(1, "/a")
        client.send(GoAwayFrame(0))
        assert client.response(1).body == b"/a"
        while client.read():
            pass


def test_a_head_that_is_held_back_is_not_sent_on_a_stream_that_was_reset() -> None:
    go_on = threading.Event()
    is_done = threading.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/held":
            await receive()
            await asyncio.to_thread(go_on.wait)
            await send({"type": "http.response.start", "status": 200, "headers": []})
            for _ in range(1000):
                await send({"type": "http.response.body", "body": b"x", "more_body": True})
            is_done.set()
        else:
            await answer(send, b"other")

    with wire(app, http2=True) as engine, http2(engine) as client:
        client.send(client.head(1, asking("/held")))
        client.ping()
        client.send(RstStreamFrame(1, error_code=8))
        client.ping()
        go_on.set()
        assert is_done.wait(DEADLINE)
        client.ask(3)
        assert client.response(3).body == b"other"
        assert not [one for one in client.frames if one.stream_id == 1]


def test_too_many_requests_at_a_time_get_503() -> None:
    with wire(Recorder(), http2=True, limit_concurrency=3) as engine, http2(engine) as client:
        for stream in (1, 3, 5):
            client.send(client.head(stream, asking(f"/{stream}", "POST"), "END_HEADERS"))
        client.ask(7)
        got = client.response(7)
        assert (got.status, got.reset, "connection" in got.headers) == (503, None, False)
        client.send(DataFrame(1, data=b"x", flags=["END_STREAM"]))
        assert client.response(1).body == b"/1"
