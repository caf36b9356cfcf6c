"""WebSockets on the engine, over real sockets, with both event loops."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import ssl
import struct
import tracemalloc
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import trustme
import uvloop
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from duallisten.http import Connection, Context, Limits, Observer, Settings, WebSocketSettings, hooks_of
from duallisten.http.websocket import ClientDisconnected
from duallisten.http.websocket_protocol import MAX_FRAGMENTS, PIECE, FrameCutter, WebSocketProtocol

DEADLINE = 30.0

LIMITS = Limits()

HANDSHAKE = (
    b"GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
COMPRESSED = HANDSHAKE[:-2] + b"Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n"

TEXT, BINARY, CONT, CLOSE, PING, PONG = 0x1, 0x2, 0x0, 0x8, 0x9, 0xA

Run = Callable[[Callable[[], Awaitable[None]]], None]


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    """Run a scenario on one of the event loops."""

    def run(scenario: Callable[[], Awaitable[None]]) -> None:
        async def bounded() -> None:
            await asyncio.wait_for(scenario(), DEADLINE)

        with asyncio.Runner(loop_factory=uvloop.new_event_loop if request.param == "uvloop" else None) as runner:
            runner.run(bounded())

    return run


class Told(Observer):
    """Notes what the engine tells."""

    def __init__(self) -> None:
        self.of: list[Any] = []

    def exchange_began(self, exchange: Any) -> None:
        self.of.append(f"began {exchange.scope['type']}")

    def handshake_ended(self, websocket: Any) -> None:
        self.of.append(f"answered {websocket.status}")
        self.websocket = websocket

    def websocket_closed(self, websocket: Any) -> None:
        self.of.append("closed")

    def connection_lost(self, connection: Any) -> None:
        self.of.append("lost")


class Engine:
    """The engine on a port of the kernel's choice, and all that it makes known."""

    def __init__(self, app: Any, limits: Limits, websocket: WebSocketSettings) -> None:
        self.state = SimpleNamespace(total_requests=0, connections=set(), tasks=set())
        self.told = Told()
        self.context = Context(
            asyncio.get_running_loop(),
            Settings(limits=limits, websocket=websocket),
            app,
            self.state,
            hooks=hooks_of([self.told]),
        )
        self.context.set_default_fields([(b"server", b"engine")])
        self.port = 0
        self.raised: list[Any] = []

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/ws"

    @property
    def open(self) -> list[WebSocketProtocol]:
        return [one for one in self.state.connections if isinstance(one, WebSocketProtocol)]

    def shutdown(self) -> None:
        """Do what a server does at its end."""
        self.context.is_ending = True
        for connection in list(self.state.connections):
            connection.shutdown()

    async def connect(self, *, receive_buffer: int = 0) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect without a library for WebSockets."""
        client = socket.socket()
        if receive_buffer:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        client.setblocking(False)
        await asyncio.get_running_loop().sock_connect(client, ("127.0.0.1", self.port))
        return await asyncio.open_connection(sock=client, limit=1 << 26 if not receive_buffer else 1024)

    async def ask(self, data: bytes, *, half_close: bool = False) -> bytes:
        """Send, and read until the server closes."""
        reader, writer = await self.connect()
        writer.write(data)
        if half_close:
            writer.write_eof()
        try:
            return await reader.read()
        finally:
            writer.close()

    async def open_raw(
        self, handshake: bytes = HANDSHAKE, *, receive_buffer: int = 0
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Open a WebSocket without a library."""
        reader, writer = await self.connect(receive_buffer=receive_buffer)
        writer.write(handshake)
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 ")
        return reader, writer


@asynccontextmanager
async def serving(
    app: Any, limits: Limits = LIMITS, tls: ssl.SSLContext | None = None, **websocket: Any
) -> AsyncIterator[Engine]:
    """Serve an application; nothing may have been raised to the event loop, and nothing may be left."""
    loop = asyncio.get_running_loop()
    engine = Engine(app, limits, WebSocketSettings(**websocket))
    loop.set_exception_handler(lambda loop, context: engine.raised.append(context))
    server = await loop.create_server(lambda: Connection(engine.context), "127.0.0.1", 0, ssl=tls)
    engine.port = server.sockets[0].getsockname()[1]
    try:
        yield engine
    finally:
        server.close()
        for connection in list(engine.state.connections):
            connection.transport.abort()
        while engine.state.connections or engine.state.tasks:
            await asyncio.sleep(0)
        engine.context.clock.stop()
    assert engine.raised == []


def frame(opcode: int, data: bytes = b"", *, fin: bool = True, rsv1: bool = False) -> bytes:
    """Write a frame as a client does, with a mask of zeros."""
    first = opcode | (0x80 if fin else 0) | (0x40 if rsv1 else 0)
    if len(data) < 126:
        head = struct.pack("!BB", first, 0x80 | len(data))
    elif len(data) < 1 << 16:
        head = struct.pack("!BBH", first, 0xFE, len(data))
    else:
        head = struct.pack("!BBQ", first, 0xFF, len(data))
    return head + b"\0\0\0\0" + data


async def read_frame(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """Read a frame of a server."""
    first, length = await reader.readexactly(2)
    if length == 126:
        (length,) = struct.unpack("!H", await reader.readexactly(2))
    elif length == 127:
        (length,) = struct.unpack("!Q", await reader.readexactly(8))
    return first & 0x0F, await reader.readexactly(length)


async def read_close(reader: asyncio.StreamReader) -> int:
    """Read up to a Close; return its code."""
    while True:
        opcode, data = await read_frame(reader)
        if opcode == CLOSE:
            return int.from_bytes(data[:2], "big")


def deflated(data: bytes) -> bytes:
    """Compress a message as permessage-deflate does."""
    deflate = zlib.compressobj(9, zlib.DEFLATED, -12)
    return (deflate.compress(data) + deflate.flush(zlib.Z_SYNC_FLUSH))[:-4]


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Send back what comes; answer requests with their path."""
    if scope["type"] == "http":
        body = scope["raw_path"]
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
        await send({"type": "http.response.body", "body": body})
        return
    assert (await receive())["type"] == "websocket.connect"
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({**message, "type": "websocket.send"})


def denying(*messages: dict[str, Any]) -> Any:
    """Make an application that answers handshakes with these messages, and requests as `echo` does."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await echo(scope, receive, send)
            return
        for message in messages:
            await send(message)

    return app


class Hearing:
    """An application that accepts, and notes what comes."""

    def __init__(self, *first: dict[str, Any]) -> None:
        self.heard: list[dict[str, Any]] = []
        self.first = first
        self.ended = asyncio.Event()
        self.error: BaseException | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.scope = scope
        try:
            await receive()
            await send({"type": "websocket.accept"})
            for message in self.first:
                await send(message)
            while not self.heard or self.heard[-1]["type"] == "websocket.receive":
                self.heard.append(await receive())
        except BaseException as error:
            self.error = error
            raise
        finally:
            self.ended.set()

    @property
    def end(self) -> dict[str, Any]:
        return self.heard[-1]


CLIENT: dict[str, Any] = {"proxy": None, "ping_interval": None}


# What it is for.


@pytest.mark.parametrize("compression", [None, "deflate"])
def test_messages_come_and_go_compressed_or_not(run: Run, compression: Any) -> None:
    messages: list[str | bytes] = ["", "häuser", b"", b"\0\xff", "x" * 70_000, b"y" * 300_000]

    async def scenario() -> None:
        async with serving(echo) as engine, connect(engine.url, compression=compression, **CLIENT) as client:
            assert ("Sec-WebSocket-Extensions" in client.response.headers) is bool(compression)  # type: ignore[union-attr]
            for message in messages:
                await client.send(message)
                assert await client.recv() == message
            for message in messages:
                await client.send(message)
            assert [await client.recv() for _ in messages] == messages

    run(scenario)


def test_compression_can_be_switched_off(run: Run) -> None:
    async def scenario() -> None:
        async with serving(echo, per_message_deflate=False) as engine, connect(engine.url, **CLIENT) as client:
            assert "Sec-WebSocket-Extensions" not in client.response.headers  # type: ignore[union-attr]
            await client.send("a")
            assert await client.recv() == "a"

    run(scenario)


def test_the_scope_is_that_of_a_websocket(run: Run) -> None:
    async def scenario() -> None:
        app = Hearing()
        async with serving(app) as engine:
            async with connect(f"{engine.url}/ä?q=1", subprotocols=["one", "two"], **CLIENT):  # type: ignore[list-item]
                pass
            await app.ended.wait()
        scope = app.scope
        assert (scope["type"], scope["scheme"], scope["http_version"]) == ("websocket", "ws", "1.1")
        assert (scope["path"], scope["raw_path"], scope["query_string"]) == ("/ws/ä", b"/ws/%C3%A4", b"q=1")
        assert scope["subprotocols"] == ["one", "two"]
        assert scope["asgi"]["spec_version"] == "2.4"
        assert scope["extensions"] == {"websocket.http.response": {}}
        assert "method" not in scope
        assert scope["client"][0] == scope["server"][0] == "127.0.0.1"
        assert (b"upgrade", b"websocket") in scope["headers"]

    run(scenario)


def test_an_acceptance_has_the_subprotocol_and_all_fields(run: Run) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        fields = [(b"X-Own", "ä".encode("latin-1")), (b"set-cookie", b"a=1"), (b"set-cookie", b"b=2")]
        await send({"type": "websocket.accept", "subprotocol": "two", "headers": fields})
        await receive()

    async def scenario() -> None:
        async with serving(app) as engine:
            reader, writer = await engine.connect()
            writer.write(HANDSHAKE)
            head = (await reader.readuntil(b"\r\n\r\n")).split(b"\r\n")
            assert head[0] == b"HTTP/1.1 101 Switching Protocols"
            assert b"sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in head
            assert head.count(b"server: engine") == 1
            assert head[-6:-2] == [
                b"x-own: \xe4",
                b"set-cookie: a=1",
                b"set-cookie: b=2",
                b"sec-websocket-protocol: two",
            ]
            writer.close()

    run(scenario)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100, 1000])
def test_what_is_sent_right_behind_the_handshake_is_read_in_any_segmentation(run: Run, size: int) -> None:
    data = HANDSHAKE + frame(TEXT, b"first") + frame(BINARY, b"s" * 200) + frame(TEXT, b"x", fin=False)
    data += frame(PING, b"?") + frame(CONT, b"y", fin=False) + frame(CONT, b"z") + frame(CLOSE, b"\x03\xe8bye")

    async def scenario() -> None:
        app = Hearing()
        async with serving(app) as engine:
            reader, writer = await engine.connect()
            writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for at in range(0, len(data), size):
                writer.write(data[at : at + size])
                await asyncio.sleep(0)
            answer = await reader.read()
            await app.ended.wait()
            writer.close()
        assert answer.endswith(b"\r\n\r\n\x8a\x01?\x88\x05\x03\xe8bye")
        contents = [message.get("text") or message.get("bytes") for message in app.heard[:-1]]
        assert contents == ["first", b"s" * 200, "xyz"]
        assert app.end == {"type": "websocket.disconnect", "code": 1000, "reason": "bye"}

    run(scenario)


def test_it_goes_over_tls(run: Run) -> None:
    authority = trustme.CA()
    ours, theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("127.0.0.1").configure_cert(ours)
    authority.configure_trust(theirs)

    async def scenario() -> None:
        scopes: list[Any] = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            scopes.append(scope)
            await echo(scope, receive, send)

        async with serving(app, tls=ours, max_size=500_000) as engine:
            url = engine.url.replace("ws:", "wss:")
            async with connect(url, ssl=theirs, **CLIENT) as client:
                for message in ("a", b"x" * 300_000, "b" * 100_000):
                    await client.send(message)
                    assert await client.recv() == message
                for number in range(1000):
                    await client.send(str(number))
                assert [await client.recv() for _ in range(1000)] == [str(number) for number in range(1000)]
            async with connect(url, ssl=theirs, **CLIENT) as client:
                await client.send(b"x" * 600_000)
                with pytest.raises(ConnectionClosed):
                    await client.recv()
                assert client.close_code == 1009
        assert scopes[0]["scheme"] == "wss"
        assert scopes[0]["extensions"]["tls"]["tls_version"] == 0x0304

    run(scenario)


# Handshakes that are not accepted.


def test_requests_around_a_refused_handshake_are_all_answered_in_order(run: Run) -> None:
    size = 10_000  # what has not come when a handshake is denied is not waited for
    request = b"GET /%b HTTP/1.1\r\nHost: x\r\n\r\n"
    last = b"GET /last HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    data = request % b"a" + HANDSHAKE + request % b"b" + HANDSHAKE + last

    async def scenario() -> None:
        async with serving(denying({"type": "websocket.close"})) as engine:
            reader, writer = await engine.connect()
            for at in range(0, len(data), size):
                writer.write(data[at : at + size])
                await asyncio.sleep(0)
            answer = await reader.read()
            writer.close()
            assert engine.told.of == [
                *("began http", "began websocket", "answered 403", "began http", "began websocket", "answered 403"),
                *("began http", "lost"),
            ]
        statuses = [
            line.split()[1] for line in answer.split(b"\r\n") if line.startswith((b"HTTP/", b"/aHTTP", b"/bHTTP"))
        ]
        assert statuses == [b"200", b"403", b"200", b"403", b"200"]
        assert answer.endswith(b"\r\n\r\n/last")
        assert answer.count(b"connection: close") == 1

    run(scenario)


def test_a_client_is_told_403_when_the_application_closes_instead_of_accepting(run: Run) -> None:
    async def scenario() -> None:
        async with serving(denying({"type": "websocket.close"})) as engine:
            with pytest.raises(InvalidStatus) as refused:
                await connect(engine.url, **CLIENT)
            assert refused.value.response.status_code == 403
            assert refused.value.response.headers["server"] == "engine"

    run(scenario)


@pytest.mark.parametrize("pieces", [[b"go away"], [b"go ", b"away"]])
def test_an_application_denies_with_a_response_of_its_own(run: Run, pieces: list[bytes]) -> None:
    start = {"type": "websocket.http.response.start", "status": 401, "headers": [(b"X-Why", b"so")]}
    bodies: list[dict[str, Any]] = [
        {"type": "websocket.http.response.body", "body": piece, "more_body": piece is not pieces[-1]}
        for piece in pieces
    ]

    async def scenario() -> None:
        async with serving(denying(start, *bodies)) as engine:
            with pytest.raises(InvalidStatus) as refused:
                await connect(engine.url, **CLIENT)
            response = refused.value.response
            assert (response.status_code, response.body) == (401, b"go away")
            assert response.headers["x-why"] == "so"
            assert ("content-length" in response.headers) is (len(pieces) == 1)
            assert engine.told.of[:2] == ["began websocket", "answered 401"]
            assert engine.told.websocket.complete

    run(scenario)


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ((b"Sec-WebSocket-Version: 13", b"Sec-WebSocket-Version: 8"), 400),
        ((b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", b""), 400),
        ((b"dGhlIHNhbXBsZSBub25jZQ==", b"x"), 400),
        ((b"\r\n\r\n", b"\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"), 400),
    ],
)
def test_a_malformed_handshake_is_refused_and_the_next_request_answered(
    run: Run, change: tuple[bytes, bytes], status: int
) -> None:
    async def scenario() -> None:
        async with serving(echo) as engine:
            last = b"GET /last HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
            answer = await engine.ask(HANDSHAKE.replace(*change) + last)
            assert answer.startswith(b"HTTP/1.1 %d " % status)
            assert b"sec-websocket-version: 13\r\n" in answer
            assert answer.endswith(b"/last")
            assert engine.told.of == ["began websocket", f"answered {status}", "began http", "lost"]

    run(scenario)


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        (b"Content-Length: 5\r\n", 400),
        (b"Transfer-Encoding: chunked\r\n", 400),
        (b"X-Many: x\r\n" * 200, 431),
        (b"X-Long: " + b"x" * 70_000 + b"\r\n", 431),
        (b"X-Long: " + b"x" * 9_000 + b"\r\nConnection: close\r\n", 403),
    ],
)
def test_a_handshake_that_is_too_large_or_has_a_body_is_answered_and_ended(
    run: Run, fields: bytes, status: int
) -> None:
    async def scenario() -> None:
        async with serving(denying({"type": "websocket.close"})) as engine:
            answer = await engine.ask(HANDSHAKE[:-2] + fields + b"\r\n")
            assert answer.startswith(b"HTTP/1.1 %d " % status)
            assert b"connection: close\r\n" in answer

    run(scenario)


def test_a_handshake_that_stops_has_as_long_as_a_head(run: Run) -> None:
    async def scenario() -> None:
        async with serving(echo, Limits(head_seconds=0.05)) as engine:
            assert b" 101 " not in await engine.ask(HANDSHAKE[:-2])
            assert engine.told.of == ["lost"]

    run(scenario)


def test_an_application_that_does_not_decide_is_answered_for_with_500(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    async def fails(scope: Any, receive: Any, send: Any) -> None:
        raise ValueError("no")

    async def begins(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.http.response.start", "status": 401, "headers": []})

    async def forges(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept", "headers": [(b"x", b"a\r\nb: c")]})

    async def returns(scope: Any, receive: Any, send: Any) -> None:
        return

    async def scenario() -> None:
        for app in (fails, begins, forges, returns):
            async with serving(app) as engine:
                answer = await engine.ask(HANDSHAKE)
                assert answer.startswith(b"HTTP/1.1 500 ")
                assert b"connection: close\r\n" in answer
                assert engine.told.of == ["began websocket", "answered 500", "lost"]

    run(scenario)
    texts = [record.getMessage().strip() for record in caplog.records if record.levelno == logging.ERROR]
    undecided = "ASGI callable returned without completing handshake."
    assert texts == ["Exception in ASGI application", undecided, "Exception in ASGI application", undecided]


@pytest.mark.parametrize("then", ["raises", "accepts", "returns"])
def test_a_handshake_without_decision_is_answered_503_when_the_server_ends(run: Run, then: str) -> None:
    async def scenario() -> None:
        called, go_on = asyncio.Event(), asyncio.Event()
        heard: list[Any] = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            called.set()
            await go_on.wait()
            heard.append(await receive())
            if then == "raises":
                raise ValueError
            if then == "accepts":
                with pytest.raises(ClientDisconnected):
                    await send({"type": "websocket.accept"})

        async with serving(app) as engine:
            reader, writer = await engine.connect()
            writer.write(HANDSHAKE)
            await called.wait()
            engine.shutdown()
            answer = await reader.read()
            go_on.set()
            while engine.state.tasks:
                await asyncio.sleep(0)
            writer.close()
            assert answer.startswith(b"HTTP/1.1 503 ")
            assert b"connection: close\r\n" in answer
            assert heard == [{"type": "websocket.disconnect", "code": 1006}]
            assert engine.told.of == ["began websocket", "answered 503", "lost"]

    run(scenario)


def test_a_client_that_leaves_during_the_handshake_is_told_of(run: Run) -> None:
    async def scenario() -> None:
        called = asyncio.Event()
        heard: list[Any] = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            called.set()
            heard.append(await receive())
            await asyncio.sleep(0)
            await send({"type": "websocket.accept"})

        async with serving(app) as engine:
            _, writer = await engine.connect()
            writer.write(HANDSHAKE)
            await called.wait()
            writer.transport.abort()
            while engine.state.tasks or engine.state.connections:
                await asyncio.sleep(0)
            assert heard == [{"type": "websocket.disconnect", "code": 1006}]
            assert engine.told.of[0] == "began websocket"
            assert engine.told.of[1:] in (["answered 0", "lost"], ["answered 101", "closed", "lost"])

    run(scenario)


def test_a_client_that_has_closed_its_half_is_answered(run: Run) -> None:
    async def scenario() -> None:
        async with serving(denying({"type": "websocket.close"})) as engine:
            assert (await engine.ask(HANDSHAKE, half_close=True)).startswith(b"HTTP/1.1 403 ")
        app = Hearing()
        async with serving(app) as engine:
            answer = await engine.ask(HANDSHAKE + frame(TEXT, b"a"), half_close=True)
            assert answer.startswith(b"HTTP/1.1 101 ")
            await app.ended.wait()

    run(scenario)


def test_messages_out_of_order_raise_as_under_uvicorn(run: Run) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        with pytest.raises(RuntimeError, match=r"Expected ASGI message 'websocket.accept', "):
            await send({"type": "websocket.send", "text": "a"})
        with pytest.raises(RuntimeError, match=r"Invalid HTTP status code '700' in response"):
            await send({"type": "websocket.http.response.start", "status": 700})
        await send({"type": "websocket.accept"})
        with pytest.raises(RuntimeError, match=r"Expected ASGI message 'websocket.send' or 'websocket.close', but got"):
            await send({"type": "websocket.accept"})
        await send({"type": "websocket.close", "code": 4000, "reason": "enough"})
        with pytest.raises(RuntimeError, match=r"Unexpected ASGI message 'websocket.send', after sending"):
            await send({"type": "websocket.send", "text": "a"})
        done.append(await receive())
        done.append(await receive())
        done.append(await receive())

    done: list[Any] = []

    async def scenario() -> None:
        async with serving(app) as engine:
            client = await connect(engine.url, **CLIENT)
            with pytest.raises(ConnectionClosed) as closed:
                await client.recv()
            assert closed.value.rcvd is not None
            assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (4000, "enough")
            while engine.state.tasks:
                await asyncio.sleep(0)
        end = {"type": "websocket.disconnect", "code": 4000, "reason": "enough"}
        assert done == [{"type": "websocket.connect"}, end, end]

    run(scenario)


def test_a_denied_handshake_takes_no_further_message(run: Run) -> None:
    caught: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.close"})
        try:
            await send({"type": "websocket.accept"})
        except RuntimeError as error:
            caught.append(str(error))

    async def scenario() -> None:
        async with serving(app) as engine:
            with pytest.raises(InvalidStatus):
                await connect(engine.url, **CLIENT)
        assert caught == ["Unexpected ASGI message 'websocket.accept', after sending 'websocket.close'."]

    run(scenario)


# What a peer must not do.


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (frame(TEXT, b"\xff"), 1007),
        (frame(TEXT, b"\xc3", fin=False) + frame(CONT, b""), 1007),
        (frame(BINARY, b"x" * 2000), 1009),
        (frame(BINARY, b"x" * 600, fin=False) + frame(CONT, b"x" * 600), 1009),
        (frame(CONT, b"x"), 1002),
        (frame(TEXT, b"x", fin=False) + frame(TEXT, b"y"), 1002),
        (frame(3), 1002),
        (b"\x81\x01x", 1002),
        (frame(PING, b"x" * 126), 1002),
        (frame(PING, b"x", fin=False), 1002),
        (frame(CLOSE, b"x"), 1002),
        (frame(TEXT, b"x", rsv1=True), 1002),
        (frame(TEXT, b"x", fin=False) + frame(CONT, b"", fin=False) * (MAX_FRAGMENTS + 10), 1008),
        (frame(TEXT, b"", fin=False) + frame(CONT, b"", fin=False) * (MAX_FRAGMENTS + 10), 1008),
    ],
)
def test_a_peer_that_breaks_the_rules_is_told_why_even_while_it_sends(run: Run, data: bytes, code: int) -> None:
    async def scenario() -> None:
        app = Hearing()
        async with serving(app, max_size=1000) as engine:
            reader, writer = await engine.open_raw()
            writer.write(data + frame(BINARY, b"more") * 10_000)
            assert await read_close(reader) == code
            assert await reader.read() == b""  # an end, and no reset
            writer.close()
            await app.ended.wait()
            assert app.end["code"] == code

    run(scenario)


def test_a_message_of_as_many_fragments_as_are_allowed_is_whole(run: Run) -> None:
    fragments = frame(TEXT, b"a", fin=False) + frame(CONT, b"b", fin=False) * (MAX_FRAGMENTS - 2) + frame(CONT, b"c")

    async def scenario() -> None:
        async with serving(echo) as engine:
            reader, writer = await engine.open_raw()
            writer.write(fragments + fragments)
            for _ in range(2):
                assert await read_frame(reader) == (TEXT, b"a" + b"b" * (MAX_FRAGMENTS - 2) + b"c")
            writer.close()

    run(scenario)


def test_a_bomb_is_not_inflated_beyond_the_limit_on_messages(run: Run) -> None:
    size = 1 << 20
    bomb = frame(BINARY, deflated(b"\0" * (100 * size)), rsv1=True)

    async def scenario() -> None:
        app = Hearing()
        async with serving(app, max_size=size) as engine:
            sockets = [await engine.open_raw(COMPRESSED) for _ in range(4)]
            tracemalloc.start()
            for _, writer in sockets:
                writer.write(bomb)
            for reader, writer in sockets:
                assert await read_close(reader) == 1009
                writer.close()
            _, peak = tracemalloc.get_traced_memory()
            tracemalloc.stop()
            assert peak < 8 * size

    run(scenario)


def test_many_messages_that_inflate_are_read_one_at_a_time(run: Run) -> None:
    size = 1 << 20
    message = frame(BINARY, deflated(b"\0" * size), rsv1=True)

    async def scenario() -> None:
        go_on = asyncio.Event()
        sizes: list[int] = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            await send({"type": "websocket.accept"})
            await go_on.wait()
            while "bytes" in (message := await receive()):
                sizes.append(len(message["bytes"]))

        async with serving(app, max_size=size) as engine:
            no_context = COMPRESSED.replace(b"deflate\r\n", b"deflate; client_no_context_takeover\r\n")
            _, writer = await engine.open_raw(no_context)
            tracemalloc.start()
            writer.write(message * 50 + frame(CLOSE))
            await writer.drain()
            for _ in range(200):
                await asyncio.sleep(0)
            _, peak = tracemalloc.get_traced_memory()
            tracemalloc.stop()
            assert peak < 8 * size
            go_on.set()
            while engine.state.tasks:
                await asyncio.sleep(0)
            assert sizes == [size] * 50
            writer.close()

    run(scenario)


def test_no_more_messages_wait_than_are_allowed_and_none_is_lost(run: Run) -> None:
    async def scenario() -> None:
        go_on = asyncio.Event()
        texts: list[str] = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            await send({"type": "websocket.accept"})
            await go_on.wait()
            while "text" in (message := await receive()):
                texts.append(message["text"])

        async with serving(app, max_queue=8) as engine:
            _, writer = await engine.open_raw()
            writer.write(b"".join(frame(TEXT, b"%d" % number) * 2 for number in range(5000)) + frame(CLOSE))
            await writer.drain()
            for _ in range(100):
                await asyncio.sleep(0)
            (protocol,) = engine.open
            assert protocol.websocket.is_full
            go_on.set()
            while engine.state.tasks:
                await asyncio.sleep(0)
            assert texts == [str(number) for number in range(5000) for _ in range(2)]
            writer.close()

    run(scenario)


@pytest.mark.parametrize("data", [frame(PONG), frame(PING), frame(CONT, fin=False)])
def test_a_flood_of_empty_frames_leaves_the_others_their_turns(run: Run, data: bytes) -> None:
    async def scenario() -> None:
        app = Hearing()
        async with serving(app) as engine:
            reader, writer = await engine.open_raw()
            (protocol,) = engine.open
            if data == frame(CONT, fin=False):
                flood = (frame(TEXT, fin=False) + data * 4000 + frame(CONT)) * 10 + frame(CLOSE)
            else:
                flood = data * 40_000 + frame(CLOSE)
            protocol.data_received(flood)
            turns = 0
            while not app.ended.is_set():
                await asyncio.sleep(0)
                turns += 1
            assert turns > len(flood) / (PIECE + 256 * 6)
            await reader.read()
            writer.close()

    run(scenario)


@pytest.mark.parametrize("size", [1, 5, 1000, 1 << 20])
def test_what_was_read_is_cut_at_the_ends_of_frames(size: int) -> None:
    lengths = [0, 1, 125, 126, 200, 65535, 65536, 70_000, 0, 0, 0, 3000] + [0] * 1000
    frames = [frame(BINARY, b"x" * length) for length in lengths]
    ends: set[int] = set()
    for one in frames:
        ends.add((max(ends) if ends else 0) + len(one))
    data = b"".join(frames)
    cut = FrameCutter().cut
    passed, rest, longest = 0, b"", 0
    for at in range(0, len(data), size):
        rest += data[at : at + size]
        begin = 0
        while begin < len(rest):
            end = cut(rest, begin)
            if end == begin:
                assert len(rest) - begin < 14
                break
            passed += end - begin
            if end < len(rest):
                assert passed in ends
            longest = max(longest, end - begin)
            begin = end
        rest = rest[begin:]
    assert passed == len(data)
    assert longest < PIECE + 70_014


# Pings, and time.


def test_a_peer_that_pings_and_does_not_read_is_not_answered_without_end(run: Run) -> None:
    async def scenario() -> None:
        async with serving(Hearing()) as engine:
            reader, writer = await engine.open_raw(receive_buffer=4096)
            (protocol,) = engine.open
            for number in range(2000):
                writer.write(frame(PING, b"%0124d" % number) * 40)
                await writer.drain()
                assert protocol.transport.get_write_buffer_size() < 1 << 18
            writer.write(frame(PING, b"last") + frame(CLOSE))
            answers: list[tuple[int, bytes]] = []
            while not answers or answers[-1][0] != CLOSE:
                answers.append(await read_frame(reader))
            assert (PONG, b"last") in answers[-3:]
            assert len(answers) < 80_000
            writer.close()

    run(scenario)


def test_a_peer_that_does_not_answer_pings_is_closed_with_1011(run: Run) -> None:
    async def scenario() -> None:
        app = Hearing()
        limits = Limits(head_seconds=0.2)
        async with serving(app, limits, ping_interval=0.05, ping_timeout=0.05) as engine:
            reader, writer = await engine.open_raw()
            opcode, data = await read_frame(reader)
            assert (opcode, len(data)) == (PING, 4)
            writer.write(frame(PONG, data))
            assert (await read_frame(reader))[0] == PING
            writer.write(frame(PONG, b"other"))
            assert await read_close(reader) == 1011
            await app.ended.wait()
            assert app.end == {"type": "websocket.disconnect", "code": 1005}
            writer.close()

    run(scenario)


def test_pings_go_on_where_answers_are_not_waited_for(run: Run) -> None:
    async def scenario() -> None:
        limits = Limits(head_seconds=0.2)
        async with serving(echo, limits, ping_interval=0.02, ping_timeout=None) as engine:
            reader, writer = await engine.open_raw()
            assert [(await read_frame(reader))[0] for _ in range(3)] == [PING] * 3
            writer.close()

    run(scenario)


def test_there_are_no_pings_where_none_are_wanted(run: Run) -> None:
    async def scenario() -> None:
        async with serving(echo, Limits(head_seconds=0.2), ping_interval=None, ping_timeout=0.02) as engine:
            await engine.open_raw()
            (protocol,) = engine.open
            assert protocol.deadline == float("inf")

    run(scenario)


def test_a_peer_that_takes_nothing_is_given_up(run: Run) -> None:
    async def scenario() -> None:
        messages = [{"type": "websocket.send", "bytes": b"x" * 1_000_000}] * 30
        app = Hearing(*messages)
        async with serving(app, Limits(send_seconds=0.1)) as engine:
            _, writer = await engine.open_raw(receive_buffer=4096)
            await app.ended.wait()
            assert isinstance(app.error, ClientDisconnected)
            writer.close()

    run(scenario)


# The end.


def test_sending_to_a_client_that_has_left_raises_an_oserror(run: Run) -> None:
    async def scenario() -> None:
        closed, done = asyncio.Event(), asyncio.Event()
        caught: list[Any] = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "websocket.accept"})
            await closed.wait()
            try:
                while True:
                    await send({"type": "websocket.send", "text": "a"})
                    await asyncio.sleep(0)
            except OSError as error:
                caught.append(error)
                raise
            finally:
                done.set()

        async with serving(app) as engine:
            _, writer = await engine.open_raw()
            writer.write(frame(CLOSE, b"\x03\xe8"))
            while engine.open:
                await asyncio.sleep(0)
            closed.set()
            await done.wait()
            assert isinstance(caught[0], ClientDisconnected)
            writer.close()

    run(scenario)


@pytest.mark.parametrize(("payload", "code", "reason"), [(b"", 1005, ""), (b"\x0f\xa1why", 4001, "why")])
def test_the_application_is_told_how_the_client_has_closed(run: Run, payload: bytes, code: int, reason: str) -> None:
    async def scenario() -> None:
        app = Hearing()
        async with serving(app) as engine:
            reader, writer = await engine.open_raw()
            writer.write(frame(CLOSE, payload))
            assert await read_frame(reader) == (CLOSE, payload)
            assert await reader.read() == b""
            await app.ended.wait()
            assert app.end == {"type": "websocket.disconnect", "code": code, "reason": reason}
            writer.close()
            while engine.state.connections:
                await asyncio.sleep(0)
            assert engine.told.of == ["began websocket", "answered 101", "closed", "lost"]

    run(scenario)


@pytest.mark.parametrize("how", ["half", "reset"])
def test_a_client_that_leaves_without_a_close_is_told_of_as_1005(run: Run, how: str) -> None:
    async def scenario() -> None:
        app = Hearing()
        async with serving(app) as engine:
            reader, writer = await engine.open_raw()
            if how == "half":
                writer.write_eof()
                assert await reader.read() == b""
            else:
                writer.transport.abort()
            await app.ended.wait()
            assert app.end == {"type": "websocket.disconnect", "code": 1005}
            writer.close()
            while engine.state.connections:
                await asyncio.sleep(0)
            assert engine.told.of == ["began websocket", "answered 101", "closed", "lost"]

    run(scenario)


def test_clients_and_applications_are_told_1012_when_the_server_ends(run: Run) -> None:
    async def scenario() -> None:
        app = Hearing()
        async with serving(app) as engine:
            client = await connect(engine.url, **CLIENT)
            engine.shutdown()
            engine.shutdown()
            with pytest.raises(ConnectionClosed) as closed:
                await client.recv()
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1012
            await app.ended.wait()
            assert app.end == {"type": "websocket.disconnect", "code": 1012}
            while engine.state.connections:
                await asyncio.sleep(0)

    run(scenario)


@pytest.mark.parametrize("says_close", [False, True])
def test_a_slow_client_is_given_up_when_the_server_ends_and_nothing_else_is_touched(run: Run, says_close: bool) -> None:
    async def scenario() -> None:
        go_on = asyncio.Event()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] == "http":
                await go_on.wait()
                await echo(scope, receive, send)
                return
            await send({"type": "websocket.accept"})
            while True:
                await send({"type": "websocket.send", "bytes": b"x" * 1_000_000})

        async with serving(app, Limits(send_seconds=0.2)) as engine:
            reader, request = await engine.connect()
            request.write(b"GET /in-hand HTTP/1.1\r\nHost: x\r\n\r\n")
            _, slow = await engine.open_raw(receive_buffer=4096)
            (protocol,) = engine.open
            while not protocol.is_write_paused:
                await asyncio.sleep(0)
            if says_close:
                slow.write(frame(CLOSE, b"\x03\xe8"))
            engine.shutdown()
            while engine.open:
                await asyncio.sleep(0.01)
            go_on.set()
            answer = await reader.read()
            assert answer.startswith(b"HTTP/1.1 200 ")
            assert answer.endswith(b"/in-hand")
            assert b"connection: close\r\n" in answer
            slow.close()

    run(scenario)


def test_an_application_that_returns_or_fails_ends_the_connection(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    def app_that(fails: bool) -> Any:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "websocket.accept"})
            await send({"type": "websocket.send", "text": "bye"})
            if fails:
                raise ValueError

        return app

    async def scenario() -> None:
        for fails in (False, True):
            async with serving(app_that(fails)) as engine:
                reader, writer = await engine.open_raw()
                assert await read_frame(reader) == (TEXT, b"bye")
                assert await reader.read() == b""
                writer.close()

    run(scenario)
    errors = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert [record.getMessage() for record in errors] == ["Exception in ASGI application\n"]


def test_what_was_sent_is_counted(run: Run) -> None:
    async def scenario() -> None:
        async with serving(echo) as engine:
            reader, writer = await engine.connect()
            writer.write(HANDSHAKE)
            head = await reader.readuntil(b"\r\n\r\n")
            websocket = engine.told.websocket
            assert (websocket.sent, websocket.complete) == (len(head), True)
            assert 0 < websocket.began <= websocket.ended
            writer.write(frame(BINARY, os.urandom(1000)))
            assert len((await read_frame(reader))[1]) == 1000
            assert websocket.connection.sent == len(head) + 1004
            writer.close()

    run(scenario)
