"""The head of an answer leaves with the first of its body, and nothing is held longer than a turn of the event loop."""

from __future__ import annotations

import asyncio
import socket
import struct
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from duallisten.corking import HEAD, MOST_COPIED, Corked, Corks, corking
from duallisten.endpoints import Receive, Scope, Send
from duallisten.records import Noting
from tests.applications import answer
from tests.running import DEADLINE, connect, serving

PARSERS = ["h11", "httptools"]
LOOPS = ["asyncio", "uvloop"]

DATA_SEGMENTS_IN = 152
"""Where `tcpi_data_segs_in` stands in `struct tcp_info` (linux/tcp.h)."""


class Recording(asyncio.Transport):
    """A transport that notes what it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[Any] = []
        self.closing = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.told.append(bytes(data))

    def writelines(self, pieces: Any) -> None:
        self.told.append([bytes(piece) for piece in pieces])

    def write_eof(self) -> None:
        self.told.append("eof")

    def close(self) -> None:
        self.told.append("closed")

    def abort(self) -> None:
        self.closing = True
        self.told.append("aborted")

    def is_closing(self) -> bool:
        return self.closing

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return f"the {name}"

    @property
    def sent(self) -> bytes:
        """All bytes, in their order."""
        pieces = (piece for told in self.told for piece in (told if isinstance(told, list) else [told]))
        return b"".join(piece for piece in pieces if isinstance(piece, bytes))


Made = Callable[[Recording], Corked]


@pytest.fixture
async def recording() -> Recording:
    return Recording()


@pytest.fixture(params=[Corked, Noting])
def corked(request: pytest.FixtureRequest) -> Made:
    """What makes a corked transport, of each kind."""

    def make(recording: Recording) -> Corked:
        made: Corked = request.param(recording, Corks(asyncio.get_running_loop()))
        return made

    return make


async def test_a_head_goes_out_with_the_body_and_what_comes_later_at_once(recording: Recording, corked: Made) -> None:
    transport = corked(recording)
    transport.write(b"HTTP/1.1 200 OK\r\n\r\n")
    assert recording.told == []
    transport.write(memoryview(b"hello"))
    transport.write(b"more")
    assert recording.told == [b"HTTP/1.1 200 OK\r\n\r\nhello", b"more"]
    await asyncio.sleep(0)
    assert len(recording.told) == 2


async def test_a_head_without_a_body_goes_out_when_the_turn_is_over(recording: Recording, corked: Made) -> None:
    transport = corked(recording)
    for head in (b"HTTP/1.1 304 Not Modified\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n"):
        transport.write(head)
        await asyncio.sleep(0)
        assert recording.told[-1] == head


async def test_a_large_body_is_not_copied(recording: Recording, corked: Made) -> None:
    transport = corked(recording)
    body = b"x" * (MOST_COPIED + 1)
    transport.write(b"HTTP/1.1 200 OK\r\n\r\n")
    transport.write(body)
    assert recording.told == [[b"HTTP/1.1 200 OK\r\n\r\n", body]]


async def test_all_that_ends_a_connection_comes_after_what_is_held(recording: Recording, corked: Made) -> None:
    transport = corked(recording)
    transport.write(b"HTTP/1.1 200 A\r\n\r\n")
    transport.write_eof()
    transport.write(b"HTTP/1.1 200 B\r\n\r\n")
    transport.writelines([b"a", b"b"])
    transport.write(b"HTTP/1.1 200 C\r\n\r\n")
    transport.close()
    assert recording.told == [
        b"HTTP/1.1 200 A\r\n\r\n",
        "eof",
        b"HTTP/1.1 200 B\r\n\r\n",
        [b"a", b"b"],
        b"HTTP/1.1 200 C\r\n\r\n",
        "closed",
    ]


async def test_nothing_is_written_to_a_connection_that_was_aborted(recording: Recording, corked: Made) -> None:
    transport = corked(recording)
    transport.write(b"HTTP/1.1 200 OK\r\n\r\n")
    transport.abort()
    await asyncio.sleep(0)
    assert recording.told == ["aborted"]
    assert transport.is_closing()


async def test_everything_else_is_the_transport_s_own(recording: Recording, corked: Made) -> None:
    assert corked(recording).get_extra_info("peername") == "the peername"


def test_it_has_all_that_a_transport_has() -> None:
    assert {name for name in dir(asyncio.Transport) if not name.startswith("_")} <= set(dir(Corked))
    assert not hasattr(Corked, "__getattr__"), "each attribute that is there would cost twice as much"


@given(
    st.sampled_from([Corked, Noting]),
    st.lists(st.sampled_from([b"", HEAD, b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP", b"x", b"y" * 70000, None]), max_size=8),
)
def test_no_byte_is_lost_changed_or_moved(make: type[Corked], writes: list[bytes | None]) -> None:
    async def write() -> bytes:
        recording = Recording()
        transport = make(recording, Corks(asyncio.get_running_loop()))
        for data in writes:
            if data is None:
                await asyncio.sleep(0)
            else:
                transport.write(data)
        await asyncio.sleep(0)
        assert getattr(transport, "written", len(recording.sent)) == len(recording.sent)
        return recording.sent

    assert asyncio.run(write()) == b"".join(data for data in writes if data is not None)


def test_what_is_no_class_stays_as_it_is() -> None:
    def make() -> None: ...

    assert corking(make, Corks(asyncio.new_event_loop())) is make


# --- On the wire ---


def receive(connection: socket.socket, until: bytes) -> bytes:
    received = b""
    while until not in received:
        data = connection.recv(65536)
        assert data, received
        received += data
    return received


async def hello(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "http":
        await answer(send, b"hello")


@pytest.mark.skipif(sys.platform != "linux", reason="tcp_info is Linux's")
@pytest.mark.parametrize("http", PARSERS)
@pytest.mark.parametrize("loop", LOOPS)
def test_an_answer_is_one_segment(loop: str, http: str) -> None:
    with serving(hello, loop=loop, http=http) as server, connect(server.url("private")) as connection:
        for count in (1, 2, 3):
            connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            receive(connection, b"hello")
            info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, DATA_SEGMENTS_IN + 4)
            assert struct.unpack_from("=I", info, DATA_SEGMENTS_IN) == (count,)


@pytest.mark.parametrize("http", PARSERS)
@pytest.mark.parametrize("loop", LOOPS)
def test_the_head_of_a_slow_body_does_not_wait_for_it(loop: str, http: str) -> None:
    seen = threading.Event()

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"4")]})
            await asyncio.get_running_loop().run_in_executor(None, seen.wait, DEADLINE)
            await send({"type": "http.response.body", "body": b"late"})

    with serving(slow, loop=loop, http=http) as server, connect(server.url("public")) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"late" not in receive(connection, b"\r\n\r\n")
        assert not seen.is_set()
        seen.set()
        receive(connection, b"late")


@pytest.mark.parametrize("http", PARSERS)
def test_a_client_that_waits_for_a_continue_gets_it(http: str) -> None:
    async def echo(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await answer(send, (await receive())["body"])

    with serving(echo, http=http) as server, connect(server.url("public")) as connection:
        connection.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n")
        assert receive(connection, b"\r\n\r\n").startswith(b"HTTP/1.1 100 Continue")
        connection.sendall(b"body")
        assert receive(connection, b"body").startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("http", PARSERS)
@pytest.mark.parametrize("loop", LOOPS)
def test_pipelined_requests_are_answered_in_their_order(loop: str, http: str) -> None:
    async def path(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await answer(send, scope["path"].encode() + b";")

    with serving(path, loop=loop, http=http) as server, connect(server.url("public")) as connection:
        heads = (f"{'HEAD' if number == 2 else 'GET'} /{number} HTTP/1.1\r\nHost: x\r\n\r\n" for number in range(5))
        connection.sendall("".join(heads).encode())
        received = receive(connection, b"/4;")
    assert received.count(b"HTTP/1.1 200 OK") == 5
    assert [received.find(b"/%d;" % number) >= 0 for number in range(5)] == [True, True, False, True, True]
    assert received.find(b"/0;") < received.find(b"/1;") < received.find(b"/3;") < received.find(b"/4;")
