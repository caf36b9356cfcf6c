"""How responses leave: a head and its body in one segment, in order, and nothing later than it is sent."""

from __future__ import annotations

import asyncio
import socket
import struct
import sys
import threading

import pytest

from duallisten.sides import Receive, Scope, Send
from tests.http.engine import read_until
from tests.support.applications import answer
from tests.support.running import DEADLINE, connect, serving

LOOPS = ["asyncio", "uvloop"]
PARSERS = ["h11", "httptools"]

DATA_SEGMENTS_IN = 152
"""Where `tcp_info` has the segments with data that came in (linux/tcp.h)."""


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
            read_until(connection, b"hello")
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
        assert b"late" not in read_until(connection, b"\r\n\r\n")
        assert not seen.is_set()
        seen.set()
        read_until(connection, b"late")


@pytest.mark.parametrize("http", PARSERS)
def test_a_client_that_waits_for_a_continue_gets_it(http: str) -> None:
    async def echo(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await answer(send, (await receive())["body"])

    with serving(echo, http=http) as server, connect(server.url("public")) as connection:
        connection.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n")
        assert read_until(connection, b"\r\n\r\n").startswith(b"HTTP/1.1 100 Continue")
        connection.sendall(b"body")
        assert read_until(connection, b"body").startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("http", PARSERS)
@pytest.mark.parametrize("loop", LOOPS)
def test_pipelined_requests_are_answered_in_their_order(loop: str, http: str) -> None:
    async def path(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await answer(send, scope["path"].encode() + b";")

    with serving(path, loop=loop, http=http) as server, connect(server.url("public")) as connection:
        heads = (f"{'HEAD' if number == 2 else 'GET'} /{number} HTTP/1.1\r\nHost: x\r\n\r\n" for number in range(5))
        connection.sendall("".join(heads).encode())
        received = read_until(connection, b"/4;")
    assert received.count(b"HTTP/1.1 200 OK") == 5
    assert [received.find(b"/%d;" % number) >= 0 for number in range(5)] == [True, True, False, True, True]
    assert received.find(b"/0;") < received.find(b"/1;") < received.find(b"/3;") < received.find(b"/4;")
