"""WebSockets on streams of HTTP/2 (RFC 8441), over real sockets: the client's frames are written by websockets."""

from __future__ import annotations

import asyncio
import queue
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hyperframe.frame import DataFrame, HeadersFrame, RstStreamFrame, SettingsFrame, WindowUpdateFrame
from websockets.client import ClientProtocol
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory
from websockets.frames import Frame, Opcode
from websockets.http11 import Response
from websockets.protocol import State
from websockets.uri import parse_uri

from duallisten.http import Limits, Observer, WebSocketSettings, hooks_of
from duallisten.http.http2.stream import WINDOW
from duallisten.http.websocket import ClientDisconnected
from tests.http.engine import DEADLINE, LOOPS, Wire, answer, wire
from tests.http.http2_client import (
    CANCEL,
    ENHANCE_YOUR_CALM,
    FLOW_CONTROL_ERROR,
    REFUSED_STREAM,
    Got,
    Http2Client,
    asking,
    http2,
)

ENABLE_CONNECT_PROTOCOL = 8

HANDSHAKE = (
    (":method", "CONNECT"),
    (":protocol", "websocket"),
    (":scheme", "http"),
    (":authority", "x"),
    (":path", "/ws"),
    ("sec-websocket-version", "13"),
)


class App:
    """Answers requests with their path, and WebSockets as the rest of their path says; it notes what it gets.

    told: what `receive` has returned, and what `send` has raised
    """

    def __init__(self) -> None:
        self.told: queue.Queue[Any] = queue.Queue()
        self.scopes: list[Any] = []
        self.gate: asyncio.Event | None = None

    def next(self) -> Any:
        return self.told.get(timeout=DEADLINE)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await answer(send, scope["path"].encode())
            return
        self.scopes.append(scope)
        await getattr(self, scope["path"].strip("/"))(receive, send)

    async def ws(self, receive: Any, send: Any) -> None:
        """Send back what comes, until the end."""
        self.told.put(await receive())
        await send({"type": "websocket.accept", "headers": [(b"x-accepted", b"yes"), (b"connection", b"close")]})
        while (message := await receive())["type"] == "websocket.receive":
            await send({**message, "type": "websocket.send"})
        self.told.put(message)

    async def hear(self, receive: Any, send: Any) -> None:
        """Note what comes, from when the test says so."""
        await receive()
        await send({"type": "websocket.accept", "subprotocol": "b"})
        self.gate = asyncio.Event()
        self.told.put("accepted")
        await self.gate.wait()
        while (message := await receive())["type"] == "websocket.receive":
            self.told.put(message)
        self.told.put(message)

    async def pour(self, receive: Any, send: Any) -> None:
        """Send messages until that fails."""
        await receive()
        await send({"type": "websocket.accept"})
        try:
            for number in range(10_000):
                await send({"type": "websocket.send", "bytes": b"%05d" % number * 8192})
                self.told.put(number)
        except OSError as error:
            self.told.put(error)

    async def linger(self, receive: Any, send: Any) -> None:
        """Accept, and do not return when the client is gone."""
        await receive()
        await send({"type": "websocket.accept"})
        await asyncio.Event().wait()

    async def undecided(self, receive: Any, send: Any) -> None:
        await receive()
        self.told.put(await receive())

    async def denied(self, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.close"})
        self.told.put(await receive())

    async def page(self, receive: Any, send: Any) -> None:
        """Deny with a long response."""
        await send({"type": "websocket.http.response.start", "status": 410, "headers": [(b"x-why", b"gone")]})
        for part in (b"a" * 50_000, b"b" * 50_000):
            await send({"type": "websocket.http.response.body", "body": part, "more_body": True})
        await send({"type": "websocket.http.response.body", "body": b"c"})
        self.told.put("denied")

    async def fails(self, receive: Any, send: Any) -> None:
        raise ValueError

    async def returns(self, receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": "x" * 100_000})


class Told(Observer):
    """Notes what the engine tells."""

    def __init__(self) -> None:
        self.of: list[str] = []

    def exchange_began(self, exchange: Any) -> None:
        self.of.append(f"began {exchange.scope['type']}")

    def exchange_ended(self, exchange: Any) -> None:
        self.of.append("ended")

    def handshake_ended(self, websocket: Any) -> None:
        self.of.append(f"answered {websocket.status}, {websocket.is_accepted}")

    def websocket_closed(self, websocket: Any) -> None:
        self.of.append("closed")

    def connection_lost(self, connection: Any) -> None:
        self.of.append("lost")


class Client:
    """A WebSocket on a stream of a connection."""

    def __init__(self, client: Http2Client, stream: int, path: str = "/ws", *more: tuple[str, str]) -> None:
        self.http2, self.stream = client, stream
        fields = [(":path", path) if name == ":path" else (name, value) for name, value in HANDSHAKE]
        client.send(client.head(stream, (*fields, *more), "END_HEADERS"))
        self.frames: list[Frame] = []
        offered = [ClientPerMessageDeflateFactory()]
        self._protocol = ClientProtocol(parse_uri("ws://x/ws"), extensions=offered, state=State.OPEN)
        self._read = self._unopened = 0  # frames of DATA, and bytes by which windows are yet to be opened

    def accepted(self) -> dict[str, str]:
        """Read until the handshake is accepted; give the fields of the answer."""
        head: HeadersFrame = self.http2.until(lambda: self.http2.of(HeadersFrame, self.stream))[0]
        fields: dict[Any, Any] = dict(self.http2.decoder.decode(head.data))
        assert fields[":status"] == "200" and "END_STREAM" not in head.flags
        self._protocol.extensions = self._protocol.process_extensions(
            Response(101, "", _headers(fields, "sec-websocket-extensions")).headers
        )
        return fields

    def send(self, data: str | bytes, *, ends: bool = False) -> None:
        """Send a message, in frames that HTTP/2 allows."""
        if isinstance(data, str):
            self._protocol.send_text(data.encode())
        else:
            self._protocol.send_binary(data)
        self.write(b"".join(self._protocol.data_to_send()), ends=ends)

    def close(self, code: int = 1000) -> None:
        self._protocol.send_close(code)
        self.write(b"".join(self._protocol.data_to_send()))

    def reply(self) -> None:
        """Send what the frames that were read call for."""
        self.write(b"".join(self._protocol.data_to_send()))

    def write(self, data: bytes, *, ends: bool = False) -> None:
        """Send bytes."""
        pieces = [data[at : at + 16384] for at in range(0, len(data), 16384)] or [b""]
        for piece in pieces[:-1]:
            self.http2.send(DataFrame(self.stream, data=piece))
        self.http2.send(DataFrame(self.stream, data=pieces[-1], flags=["END_STREAM"] if ends else []))

    def message(self) -> str | bytes:
        """Read until a message is there; windows are opened for what comes."""
        parts = [self.frame()]
        while not parts[-1].fin:
            parts.append(self.frame())
        assert all(part.opcode is Opcode.CONT for part in parts[1:])
        data = b"".join(bytes(part.data) for part in parts)
        assert parts[0].opcode in (Opcode.TEXT, Opcode.BINARY)
        return data.decode() if parts[0].opcode is Opcode.TEXT else data

    def frame(self) -> Frame:
        """Read until a frame is there."""

        def look() -> bool:
            data = self.http2.of(DataFrame, self.stream)
            for one in data[self._read :]:
                self._protocol.receive_data(one.data)
                self._unopened += len(one.data)
                if self._unopened >= 4096:
                    self.http2.open(self.stream, self._unopened)
                    self.http2.open(0, self._unopened)
                    self._unopened = 0
            self._read = len(data)
            self.frames += self._protocol.events_received()  # type: ignore[arg-type]
            return bool(self.frames)

        self.http2.until(look)
        return self.frames.pop(0)

    def end(self) -> int | None:
        """Read until the server has ended the stream; give the code of a reset, or None."""
        return self.http2.response(self.stream).reset

    @property
    def has_ended(self) -> bool:
        return any("END_STREAM" in one.flags for one in self.http2.of(DataFrame, self.stream))


def _headers(fields: dict[str, str], *names: str) -> Any:
    from websockets.datastructures import Headers

    return Headers([(name, fields[name]) for name in names if name in fields])


@pytest.fixture
def app() -> App:
    return App()


@pytest.fixture(params=LOOPS)
def engine(request: pytest.FixtureRequest, app: App) -> Iterator[Wire]:
    with wire(app, request.param, http2=True) as serving:
        yield serving


@contextmanager
def opened(engine: Wire, path: str = "/ws", *more: tuple[str, str], **settings: int) -> Iterator[Client]:
    """Connect, and open a WebSocket."""
    with http2(engine, **settings) as client:
        websocket = Client(client, 1, path, *more)
        websocket.accepted()
        yield websocket


def close_of(frame: Frame) -> int:
    assert frame.opcode is Opcode.CLOSE
    return int.from_bytes(frame.data[:2], "big")


# What it is for.


@pytest.mark.parametrize("extensions", [(), (("sec-websocket-extensions", "permessage-deflate"),)])
def test_messages_come_and_go_compressed_or_not(engine: Wire, extensions: Any) -> None:
    messages: list[str | bytes] = ["", "häuser", b"", b"\0\xff", "x" * 70_000, bytes(range(256)) * 2000]
    with http2(engine) as client:
        websocket = Client(client, 1, "/ws", *extensions)
        fields = websocket.accepted()
        assert ("sec-websocket-extensions" in fields) is bool(extensions)
        for message in messages:
            websocket.send(message if len(message) < WINDOW // 2 else message[: WINDOW // 2])
            got = websocket.message()
            assert got == (message if len(message) < WINDOW // 2 else message[: WINDOW // 2])
        websocket.close(1000)
        assert close_of(websocket.frame()) == 1000
        assert websocket.end() is None


def test_the_answer_has_what_the_application_says_and_nothing_of_the_connection(engine: Wire, app: App) -> None:
    with http2(engine) as client:
        fields = Client(client, 1).accepted()
    assert fields == {":status": "200", "x-accepted": "yes"}
    assert app.next() == {"type": "websocket.connect"}


def test_the_scope_is_that_of_a_websocket(engine: Wire, app: App) -> None:
    more = (("sec-websocket-protocol", "a, b"), ("origin", "http://x"), ("cookie", "a=1"))
    with http2(engine) as client:
        websocket = Client(client, 1, "/hear?q=1", *more)
        assert websocket.accepted()["sec-websocket-protocol"] == "b"
    (scope,) = app.scopes
    assert (scope["type"], scope["http_version"], scope["scheme"], scope["path"]) == ("websocket", "2", "ws", "/hear")
    assert (scope["query_string"], scope["subprotocols"]) == (b"q=1", ["a", "b"])
    assert "method" not in scope
    assert dict(scope["headers"]) == {
        b"host": b"x",
        b"sec-websocket-version": b"13",
        b"sec-websocket-protocol": b"a, b",
        b"origin": b"http://x",
        b"cookie": b"a=1",
    }


def test_several_websockets_and_requests_share_a_connection(engine: Wire) -> None:
    with http2(engine) as client:
        websockets = [Client(client, number) for number in (1, 3, 5)]
        client.ask(7, "/a")
        for websocket in websockets:
            websocket.accepted()
        for number, websocket in enumerate(websockets):
            websocket.send(f"to {number}")
        assert [websocket.message() for websocket in reversed(websockets)] == ["to 2", "to 1", "to 0"]
        assert client.response(7).body == b"/a"
        websockets[1].close()
        assert websockets[1].end() is None
        websockets[2].send("still there")
        assert websockets[2].message() == "still there"


def test_what_is_sent_before_the_answer_is_read_behind_the_handshake(engine: Wire) -> None:
    with http2(engine) as client:
        websocket = Client(client, 1)
        for number in range(50):
            websocket.send(str(number))
        websocket.accepted()
        assert [websocket.message() for _ in range(50)] == list(map(str, range(50)))


# Flow.


def test_a_client_that_opens_no_window_holds_up_the_application_and_no_other_stream(engine: Wire, app: App) -> None:
    with opened(engine, "/pour", initial_window_size=0) as websocket:
        client = websocket.http2
        client.ask(3, "/a")
        client.until(lambda: len(client.of(HeadersFrame)) == 2)
        sent = [app.next()]
        while not app.told.empty():
            sent.append(app.next())
        assert 0 < len(sent) * 40960 <= (1 << 16) + 2 * 40960, "what waits is bounded"
        assert not client.of(DataFrame, 1)
        client.open(1, 1 << 20)
        client.open(3, 1 << 20)
        client.open(0, 1 << 24)
        assert client.response(3).body == b"/a"
        for number in range(100):
            assert websocket.message() == b"%05d" % number * 8192


def test_an_application_that_reads_nothing_holds_up_its_client(engine: Wire, app: App) -> None:
    with opened(engine, "/hear") as websocket:
        assert app.next() == "accepted"
        message = b"x" * 8000
        taken = 0
        client = websocket.http2
        room = WINDOW

        def credit() -> int:
            return sum(one.window_increment for one in client.of(WindowUpdateFrame, 1))

        while room + credit() - taken > 10_000:
            websocket.send(message)
            taken += 8010
            client.ping()
        assert taken < 8 * WINDOW, "the window is not opened by what nobody reads"
        assert app.gate is not None
        engine.call(app.gate.set)
        count = taken // 8010
        assert [app.next() for _ in range(count)] == [{"type": "websocket.receive", "bytes": message}] * count
        client.until(lambda: room + credit() - taken > WINDOW // 2)
        websocket.send("more")
        assert app.next() == {"type": "websocket.receive", "text": "more"}


def test_more_than_the_window_ends_the_stream_alone(engine: Wire, app: App) -> None:
    with opened(engine, "/hear") as websocket:
        assert app.next() == "accepted"
        for _ in range(8):
            websocket.send("x" * (WINDOW // 2))
        assert websocket.end() == FLOW_CONTROL_ERROR
        client = websocket.http2
        client.ask(3, "/a")
        assert client.response(3).body == b"/a"


def test_small_messages_are_no_flood(engine: Wire) -> None:
    with opened(engine) as websocket:
        for at in range(0, 3000, 100):
            for number in range(at, at + 100):
                websocket.send(str(number))
            for number in range(at, at + 100):
                assert websocket.message() == str(number)


def test_a_message_that_is_too_large_is_refused_with_1009(app: App) -> None:
    with wire(app, http2=True, websocket=WebSocketSettings(max_size=1000)) as engine, opened(engine) as websocket:
        websocket.send("x" * 1001)
        assert close_of(websocket.frame()) == 1009
        assert websocket.end() is None
        app.next()
        assert app.next() == {
            "type": "websocket.disconnect",
            "code": 1009,
            "reason": "frame with 1001 bytes exceeds limit of 1000 bytes",
        }


def test_the_limit_on_bodies_is_none_on_messages(app: App) -> None:
    with wire(app, http2=True, limits=Limits(body_bytes=10)) as engine, opened(engine) as websocket:
        websocket.send("x" * 1000)
        assert websocket.message() == "x" * 1000


# No.


def test_a_server_without_websockets_offers_none(app: App) -> None:
    with wire(app, http2=True, websocket=None) as engine, http2(engine) as client:
        (said, *_) = client.until(lambda: client.of(SettingsFrame))
        assert said.settings[ENABLE_CONNECT_PROTOCOL] == 0
        assert _refused(client, HANDSHAKE).status == 400


def test_a_server_with_websockets_offers_them(engine: Wire) -> None:
    with http2(engine) as client:
        (said, *_) = client.until(lambda: client.of(SettingsFrame))
        assert said.settings[ENABLE_CONNECT_PROTOCOL] == 1


def _refused(client: Http2Client, fields: Any, *flags: str) -> Got:
    client.send(client.head(1, fields, *(flags or ("END_HEADERS",))))
    return client.response(1)


def _with(*changes: tuple[str, str | None]) -> list[tuple[str, str]]:
    found: dict[str, str | None] = {**dict(HANDSHAKE), **dict(changes)}
    return [(name, value) for name, value in found.items() if value is not None]


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        (_with((":protocol", "connect-udp")), 501),
        (_with((":protocol", "websocket2")), 501),
        (_with((":protocol", "")), 501),
        (_with((":method", "GET")), 400),
        (_with((":protocol", None)), 400),
        (_with((":authority", None)), 400),
        (_with((":path", None)), 400),
        (_with((":path", "ws")), 400),
        (_with((":path", "http://x/ws")), 400),
        (_with((":scheme", "ws")), 400),
        (_with(("content-length", "0")), 400),
        (_with(("content-length", "3")), 400),
        (_with(("upgrade", "websocket")), 400),
        (_with(("connection", "upgrade")), 400),
        ([*_with(), (":protocol", "websocket")], 400),
        (_with(("sec-websocket-version", None)), 400),
        (_with(("sec-websocket-version", "8")), 400),
    ],
)
def test_a_malformed_handshake_is_refused_and_the_connection_goes_on(
    engine: Wire, app: App, fields: Any, status: int
) -> None:
    with http2(engine) as client:
        assert _refused(client, fields).status == status
        client.ask(3, "/a")
        assert client.response(3).body == b"/a"
    assert not app.scopes


def test_a_handshake_that_ends_its_stream_is_refused(engine: Wire, app: App) -> None:
    with http2(engine) as client:
        assert _refused(client, HANDSHAKE, "END_HEADERS", "END_STREAM").status == 400
    assert not app.scopes


def test_a_key_of_http_1_is_ignored(engine: Wire) -> None:
    with opened(engine, "/ws", ("sec-websocket-key", "no key")) as websocket:
        websocket.send("a")
        assert websocket.message() == "a"


def test_an_application_denies(engine: Wire, app: App) -> None:
    with http2(engine) as client:
        Client(client, 1, "/denied")
        got = client.response(1)
        assert (got.status, got.body, got.is_whole) == (403, b"", True)
        assert app.next() == {"type": "websocket.disconnect", "code": 1006}
        client.ask(3, "/a")
        assert client.response(3).body == b"/a"


def test_an_application_denies_with_a_response_that_the_client_takes_slowly(engine: Wire, app: App) -> None:
    with http2(engine, initial_window_size=60_000) as client:
        websocket = Client(client, 1, "/page")
        client.until(lambda: sum(len(one.data) for one in client.of(DataFrame, 1)) == 60_000)
        assert app.told.empty()
        websocket.write(b"", ends=True)
        client.open(0, 100_000)
        client.open(1, 100_000)
        got = client.response(1)
        assert (got.status, got.headers["x-why"], got.reset) == (410, "gone", None)
        assert got.body == b"a" * 50_000 + b"b" * 50_000 + b"c"
    assert app.next() == "denied"


def test_an_application_that_fails_is_answered_for(engine: Wire) -> None:
    with http2(engine) as client:
        Client(client, 1, "/fails")
        assert client.response(1).status == 500


# The end.


def test_an_application_that_returns_ends_the_stream_behind_what_it_has_sent(engine: Wire) -> None:
    with opened(engine, "/returns", initial_window_size=10_000) as websocket:
        assert websocket.message() == "x" * 100_000
        assert websocket.end() is None
        websocket.http2.ask(3, "/a")
        assert websocket.http2.response(3).body == b"/a"


@pytest.mark.parametrize(
    ("leave", "code"),
    [
        (lambda one: one.close(1001), 1001),
        (lambda one: one.write(b"", ends=True), 1005),
        (lambda one: one.http2.send(RstStreamFrame(1, error_code=CANCEL)), 1005),
        (lambda one: one.http2.socket.close(), 1005),
    ],
    ids=["close", "end", "reset", "connection"],
)
def test_the_application_is_told_how_the_client_has_left(
    engine: Wire, app: App, leave: Callable[[Client], None], code: int
) -> None:
    with opened(engine) as websocket:
        app.next()
        leave(websocket)
        told = app.next()
        assert (told["type"], told["code"]) == ("websocket.disconnect", code)


def test_an_end_is_answered_by_an_end(engine: Wire) -> None:
    with opened(engine) as websocket:
        websocket.write(b"", ends=True)
        assert websocket.end() is None
        assert websocket.has_ended


@pytest.mark.parametrize("ends", [True, False])
def test_a_client_that_leaves_during_the_handshake_is_told_of(engine: Wire, app: App, *, ends: bool) -> None:
    with http2(engine) as client:
        websocket = Client(client, 1, "/undecided")
        client.ping()
        if ends:
            websocket.write(b"", ends=True)
            assert websocket.end() == CANCEL
        else:
            client.send(RstStreamFrame(1, error_code=CANCEL))
        assert app.next() == {"type": "websocket.disconnect", "code": 1006}
        client.ask(3, "/a")
        assert client.response(3).body == b"/a"


def test_sending_to_a_client_that_has_left_raises_an_oserror(engine: Wire, app: App) -> None:
    with opened(engine, "/pour", initial_window_size=0) as websocket:
        websocket.http2.send(RstStreamFrame(1, error_code=CANCEL))
        while isinstance(told := app.next(), int):
            pass
        assert isinstance(told, ClientDisconnected)


def test_a_peer_that_breaks_the_rules_is_told_why(engine: Wire, app: App) -> None:
    with opened(engine) as websocket:
        app.next()
        websocket.write(b"\x81\x01x" + bytes(20_000))  # without a mask
        assert close_of(websocket.frame()) == 1002
        assert websocket.end() is None
        assert app.next()["code"] == 1002
        websocket.http2.ask(3, "/a")
        assert websocket.http2.response(3).body == b"/a"


def test_a_peer_that_takes_nothing_is_given_up(app: App) -> None:
    with (
        wire(app, http2=True, limits=Limits(send_seconds=0.2)) as engine,
        opened(engine, "/pour", initial_window_size=1000) as websocket,
    ):
        assert websocket.end() == CANCEL
        while isinstance(told := app.next(), int):
            pass
        assert isinstance(told, ClientDisconnected)
        websocket.http2.ask(3, "/a")
        assert websocket.http2.response(3).status == 200


def test_a_peer_that_does_not_answer_pings_is_closed_with_1011(app: App) -> None:
    pings = WebSocketSettings(ping_interval=0.05, ping_timeout=0.05)
    with wire(app, http2=True, websocket=pings) as engine, opened(engine) as websocket:
        assert websocket.frame().opcode is Opcode.PING
        assert close_of(websocket.frame()) == 1011
        assert websocket.end() is None


def test_an_open_websocket_has_no_deadline_of_a_request(app: App) -> None:
    limits = Limits(head_seconds=0.1, body_seconds=0.1, send_seconds=0.1)
    with wire(app, http2=True, limits=limits, keep_alive=0.1) as engine, opened(engine) as websocket:
        engine.call(lambda: None)
        asyncio.run(asyncio.sleep(1.0))
        websocket.send("still there")
        assert websocket.message() == "still there"


def test_clients_are_told_1012_when_the_server_ends_and_the_connection_ends_with_them(engine: Wire, app: App) -> None:
    with opened(engine) as websocket:
        app.next()
        undecided = Client(websocket.http2, 3, "/undecided")
        websocket.http2.ping()
        engine.call(lambda: [one.shutdown() for one in list(engine.context.connections)])
        assert undecided.http2.response(3).status == 503
        assert close_of(websocket.frame()) == 1012
        assert sorted(app.next()["code"] for _ in range(2)) == [1006, 1012]
        websocket.reply()
        assert websocket.end() is None
        websocket.http2.goaway()
    assert engine.wait_until(lambda: not engine.context.connections)


# Limits.


def test_streams_whose_application_has_not_returned_count(app: App) -> None:
    with wire(app, http2=True) as engine, http2(engine) as client:
        for number in range(1, 201, 2):
            Client(client, number, "/linger").accepted()
            client.send(RstStreamFrame(number, error_code=CANCEL))
        client.ask(201, "/a")
        assert client.response(201).reset == REFUSED_STREAM


def test_resetting_websockets_at_once_is_a_flood(app: App) -> None:
    with wire(app, http2=True) as engine, http2(engine) as client:
        try:
            for number in range(1, 1201, 2):
                Client(client, number, "/undecided")
                client.send(RstStreamFrame(number, error_code=CANCEL))
        except ConnectionError:
            pass
        assert client.goaway().error_code == ENHANCE_YOUR_CALM


def test_observers_hear_of_a_handshake_and_its_end() -> None:
    told, app = Told(), App()
    with wire(app, http2=True, hooks=hooks_of([told])) as engine:
        with opened(engine) as websocket:
            websocket.close()
            assert websocket.end() is None
            client = websocket.http2
            client.send(client.head(3, asking("/a"), "END_STREAM", "END_HEADERS"))
            client.response(3)
            Client(client, 5, "/denied")
            client.response(5)
        assert engine.wait_until(lambda: bool(told.of) and told.of[-1] == "lost")
    assert told.of == [
        "began websocket",
        "answered 200, True",
        "closed",
        "began http",
        "ended",
        "began websocket",
        "answered 403, False",
        "lost",
    ]
