"""The engine alone, in two ways: on a real socket in a thread, or driven by hand on a transport that is none.

The first shows what a client gets. The second takes a fraction of a millisecond, so that a stream can be cut at each of
its bytes, and its clock is moved by the test.
"""

from __future__ import annotations

import asyncio
import re
import socket
import threading
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import uvloop
from uvicorn.server import ServerState

from duallisten.http import Clock, Connection, Context, Hooks, Limits, Settings
from duallisten.http.settings import ParserName

LOOPS = ("asyncio", "uvloop")
PARSERS: tuple[ParserName, ...] = ("httptools", "h11")

DEADLINE = 30.0
"""Seconds after which something that should have happened has not."""

LAST = b"GET /last HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
"""A request behind the others: its answer says that they have been understood, and ends the connection."""

Application = Callable[[Any, Any, Any], Awaitable[None]]
Run = Callable[[], Any]


class Seen(NamedTuple):
    """A request as an application has seen it, with its whole body."""

    method: str
    path: str
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes


class Response(NamedTuple):
    """A response as a client has got it.

    is_whole: whether its end is there
    """

    status: int
    headers: dict[bytes, bytes]
    body: bytes
    is_whole: bool


async def answer(send: Any, body: bytes, status: int = 200) -> None:
    """Answer with a text of known length."""
    headers = [(b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


class Recorder:
    """Notes each request when its body is there, and answers with its path; `/early` is answered without its body.

    seen: the requests, whole
    gone: the paths of those whose client was gone before
    """

    def __init__(self) -> None:
        self.seen: list[Seen] = []
        self.gone: list[str] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http"
        path = scope["path"]
        parts: list[bytes] = []
        while path != "/early":
            message = await receive()
            if message["type"] == "http.disconnect":
                self.gone.append(path)
                return
            parts.append(message["body"])
            if not message["more_body"]:
                break
        headers = tuple((bytes(name), bytes(value)) for name, value in scope["headers"])
        self.seen.append(Seen(scope["method"], path, headers, b"".join(parts)))
        await answer(send, path.encode())

    @property
    def requests(self) -> list[tuple[str, str, bytes]]:
        """Method, path and body of each."""
        return [(one.method, one.path, one.body) for one in self.seen]

    @property
    def paths(self) -> list[str]:
        return [one.path for one in self.seen]


def read_responses(data: bytes, *, heads: Iterable[int] = ()) -> list[Response]:
    """Read what a server has sent; the last response may be incomplete.

    heads: which of the responses answer HEAD, interim ones not counted
    """
    found: list[Response] = []
    final = 0
    while data:
        match = re.match(rb"HTTP/1\.1 (\d{3}) [^\r\n]*\r\n", data)
        end = data.find(b"\r\n\r\n")
        assert match is not None and end >= 0, data
        status = int(match[1])
        pairs = [line.split(b": ", 1) for line in data[match.end() : end].split(b"\r\n")] if end > match.end() else []
        headers = {name.lower(): value for name, value in pairs}
        assert len(headers) == len(pairs), data
        is_bodyless = status in (204, 304) or status < 200 or final in heads
        body, data, is_whole = _read_body(b"" if is_bodyless else None, headers, data[end + 4 :])
        found.append(Response(status, headers, body, is_whole))
        final += status >= 200
    return found


def _read_body(known: bytes | None, headers: dict[bytes, bytes], data: bytes) -> tuple[bytes, bytes, bool]:
    """Give the body, what follows, and whether the body is all there."""
    if known is not None:
        return known, data, True
    if b"content-length" in headers:
        length = int(headers[b"content-length"])
        return data[:length], data[length:], len(data) >= length
    if headers.get(b"transfer-encoding") != b"chunked":
        return data, b"", True  # until the end of the connection
    body = b""
    while match := re.match(rb"([0-9a-f]+)\r\n", data):
        size, start = int(match[1], 16), match.end()
        if size == 0:
            end = data.find(b"\r\n\r\n", start - 2)
            return body, data[end + 4 :], end >= 0
        body += data[start : start + size]
        data = data[start + size + 2 :]
    return body, b"", False


def statuses(data: bytes, *, heads: Iterable[int] = ()) -> list[int]:
    return [response.status for response in read_responses(data, heads=heads)]


# --- On a real socket ---


class Wire:
    """The engine on a port of its own, in a thread.

    context: what the connections share
    errors: what the event loop was told that went wrong
    """

    def __init__(self, app: Application, loop: str, settings: Settings, hooks: Hooks) -> None:
        self.app = app
        self.errors: list[dict[str, Any]] = []
        self.address = ("", 0)
        self.context: Context
        self._hooks = hooks
        self._settings = settings
        self._news = threading.Condition()
        self._received: dict[int, int] = {}  # bytes, by the client's port
        self._paused: set[int] = set()
        self._lost: set[int] = set()
        self._runner = asyncio.Runner(loop_factory=uvloop.new_event_loop if loop == "uvloop" else None)
        self.loop: asyncio.AbstractEventLoop
        self._is_ready, self._end = threading.Event(), asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="engine")

    def _run(self) -> None:
        with self._runner as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        loop = self.loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, error: self.errors.append(error))
        clock = Clock(loop)
        self.context = Context(loop, self._settings, self.app, ServerState(), clock=clock, hooks=self._hooks)
        server = await loop.create_server(lambda: _Told(self), "127.0.0.1", 0)
        self.address = server.sockets[0].getsockname()
        self._is_ready.set()
        await self._end.wait()
        server.close()
        for connection in list(self.context.connections):
            connection.transport.abort()
        clock.stop()
        for task in list(self.context.tasks):
            task.cancel()

    @contextmanager
    def serving(self) -> Iterator[Wire]:
        self._thread.start()
        assert self._is_ready.wait(DEADLINE)
        try:
            yield self
        finally:
            self.loop.call_soon_threadsafe(self._end.set)
            self._thread.join(DEADLINE)
        assert not self._thread.is_alive()
        assert not self.errors, self.errors

    def call(self, function: Callable[[], Any]) -> Any:
        """Call a function in the engine's thread."""

        async def run() -> Any:
            return function()

        return asyncio.run_coroutine_threadsafe(run(), self.loop).result(DEADLINE)

    # What the connections tell.

    def note(self, connection: Connection, *, received: int = 0, lost: bool = False) -> None:
        port = connection.client[1] if connection.client else 0
        with self._news:
            self._received[port] = self._received.get(port, 0) + received
            (self._paused.add if connection.is_read_paused else self._paused.discard)(port)
            if lost:
                self._lost.add(port)
            self._news.notify_all()

    def wait_until(self, is_so: Callable[[], bool]) -> bool:
        """Wait for something to be so; asked whenever a connection has received something, or has ended."""
        with self._news:
            return self._news.wait_for(is_so, DEADLINE)

    def wait_until_lost(self, client: socket.socket) -> bool:
        """Wait until the connection of this client has ended on our side, and is forgotten."""
        port = client.getsockname()[1]
        return self.wait_until(lambda: port in self._lost)

    # What a client does.

    def connect(self, *, receive_buffer: int = 0) -> socket.socket:
        client = socket.socket()
        client.settimeout(DEADLINE)
        if receive_buffer:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        client.connect(self.address)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with self._news:  # the port may have been another client's before
            for known in (self._lost, self._paused):
                known.discard(client.getsockname()[1])
        return client

    def send(self, client: socket.socket, *segments: bytes) -> None:
        """Send segments that are read apart: each when the one before it was read, or nothing is read any more."""
        port = client.getsockname()[1]
        for segment in segments:
            before = self._received.get(port, 0)
            client.sendall(segment)
            due = before + len(segment)

            def is_read(due: int = due) -> bool:
                return self._received.get(port, 0) >= due or port in self._paused or port in self._lost

            if len(segments) > 1:
                assert self.wait_until(is_read)

    def ask(self, *segments: bytes, half_close: bool = False) -> bytes:
        """Send segments over one connection, and give all that comes back until the server closes it."""
        with self.connect() as client:
            self.send(client, *segments)
            if half_close:
                client.shutdown(socket.SHUT_WR)
            return read_all(client)


class _Told(Connection):
    """A connection that tells of each read, when it has dealt with it."""

    def __init__(self, wire: Wire) -> None:
        super().__init__(wire.context)
        self._wire = wire

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._wire.note(self)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._wire.note(self, received=len(data))

    def pause_reading(self) -> None:
        super().pause_reading()
        self._wire.note(self)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._wire.note(self, lost=True)


def read_all(client: socket.socket) -> bytes:
    """Read until the server has closed its half."""
    parts = []
    while data := client.recv(65536):
        parts.append(data)
    return b"".join(parts)


def read_until(client: socket.socket, end: bytes) -> bytes:
    """Read until something has come."""
    got = b""
    while end not in got:
        data = client.recv(65536)
        assert data, got
        got += data
    return got


@contextmanager
def wire(
    app: Application,
    loop: str = "asyncio",
    parser: Any = "httptools",
    *,
    limits: Limits = Limits(),
    hooks: Hooks = Hooks(),
    **settings: Any,
) -> Iterator[Wire]:
    """Run the engine in a thread, on 127.0.0.1."""
    made = Settings(parser=parser, limits=limits, **settings)
    with Wire(app, loop, made, hooks).serving() as serving:
        yield serving


# --- By hand ---


class HandClock(Clock):
    """A clock that the test moves."""

    def watch(self, connections: Any, time_outs: Any) -> None:
        self.connections = connections
        self.now, self.interval = 0.0, 0.0

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds
        for connection in [one for one in self.connections if one.deadline <= self.now]:
            connection.expire()


class Hand(asyncio.Transport):
    """A transport without a socket, and the peer at its other end.

    written: all that the engine has sent
    unsent: how much of it waits to be taken by the peer, as the test says
    is_eof: whether the engine has closed its half
    is_lost: whether the engine was told that the connection has ended
    faults: what no transport should be asked to do
    """

    def __init__(self, context: Context) -> None:
        super().__init__()
        self.written = bytearray()
        self.unsent = 0
        self.is_eof = self.is_paused = self.is_aborted = self.is_lost = False
        self.faults: list[str] = []
        self._is_closing = False
        self.loop = context.loop
        self.connection: Any = Connection(context)
        self.connection.connection_made(self)

    # What the engine calls.

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return {"sockname": ("127.0.0.1", 80), "peername": ("127.0.0.1", 50000)}.get(name, default)

    def write(self, data: Any) -> None:
        if self.is_eof or self.is_lost:
            self.faults.append(f"written after the end: {bytes(data)!r}")
        self.written += data

    def write_eof(self) -> None:
        self.is_eof = True

    def can_write_eof(self) -> bool:
        return True

    def close(self) -> None:
        if not self._is_closing:
            self._is_closing = True
            self.loop.call_soon(self._lose)

    def abort(self) -> None:
        self.is_aborted = True
        self.close()

    def is_closing(self) -> bool:
        return self._is_closing

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.connection = protocol

    def pause_reading(self) -> None:
        self.is_paused = True

    def resume_reading(self) -> None:
        self.is_paused = False

    def _lose(self) -> None:
        if not self.is_lost:
            self.is_lost = True
            self.connection.connection_lost(None)

    # What the peer does.

    async def send(self, *segments: bytes, turns: int = 2) -> None:
        """Send segments, each when the engine reads, and some turns of the event loop later."""
        for segment in segments:
            waited = 0
            while self.is_paused and not self._is_closing:
                waited += 1
                if waited > 20_000:
                    self.faults.append("reading is paused for ever")
                    return
                await asyncio.sleep(0)
            if self._is_closing:
                return
            self.connection.data_received(segment)
            for _ in range(turns):
                await asyncio.sleep(0)

    async def half_close(self) -> None:
        """Say that nothing more will be sent."""
        if not self._is_closing and not self.connection.eof_received():
            self.close()
        await self.settle(8)

    async def reset(self) -> None:
        """End the connection at once."""
        self.close()
        await self.settle()

    async def settle(self, turns: int = 64) -> None:
        """Let the event loop turn until nothing happens any more.

        turns: how many of them in a row are enough; a large body is read in many of which nothing is to be seen
        """
        calm = 0
        while calm < turns:
            before = len(self.written), self._is_closing, self.is_lost, self.is_paused, self.connection.exchange
            await asyncio.sleep(0)
            after = len(self.written), self._is_closing, self.is_lost, self.is_paused, self.connection.exchange
            calm = calm + 1 if before == after else 0

    @property
    def statuses(self) -> list[int]:
        return statuses(bytes(self.written))

    @property
    def has_ended(self) -> bool:
        """Whether the engine sends nothing more."""
        return self.is_eof or self._is_closing


def by_hand(
    app: Application, parser: Any = "httptools", *, limits: Limits = Limits(), hooks: Hooks = Hooks(), **settings: Any
) -> Hand:
    """Make a connection to be driven by hand; in a running event loop."""
    loop = asyncio.get_running_loop()
    made = Settings(parser=parser, limits=limits, **settings)
    return Hand(Context(loop, made, app, ServerState(), clock=HandClock(loop), hooks=hooks))


def clock_of(hand: Hand) -> HandClock:
    clock = hand.connection.context.clock
    assert isinstance(clock, HandClock)
    return clock
