"""How connections end: nothing that was accepted is lost."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from duallisten.config import config
from duallisten.sides import Side
from tests.support.applications import Observed
from tests.support.running import DEADLINE, ObservedServer, eventually, serving

HEAD = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"

HANDSHAKE = (
    b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


class Gated(Observed):
    """Its `/slow` waits for a lock that the test's thread holds."""

    def __init__(self) -> None:
        super().__init__()
        self.inside = threading.Event()
        self.open = threading.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and scope["path"] == "/slow":
            self.inside.set()
            await asyncio.to_thread(self.open.wait, DEADLINE)
        await super().__call__(scope, receive, send)


@contextmanager
def stopped(app: Any, **options: Any) -> Iterator[tuple[ObservedServer, threading.Thread]]:
    """A server that the test stops itself, and its thread."""
    with serving(app, **options) as server:
        try:
            yield server, server.thread
        finally:
            server.force_exit = True


def refused(address: tuple[str, int]) -> bool:
    try:
        socket.create_connection(address, timeout=DEADLINE).close()
    except OSError:
        return True
    return False


def is_open(server: ObservedServer, side: Side) -> bool:
    """Whether a listening socket of this side is open; a client hears of it late, for its SYN is dropped."""
    return any(one.bound.side == side and one.bound.socket.fileno() >= 0 for one in server.listeners.listening)


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("side", ["public", "private"])
def test_a_request_in_hand_is_answered_before_the_application_ends(side: Side, loop: str) -> None:
    app = Gated()
    with stopped(app, loop=loop) as (server, thread), httpx.Client(timeout=DEADLINE) as client:
        answers: list[httpx.Response] = []
        asking = threading.Thread(target=lambda: answers.append(client.get(server.url(side) + "/slow")))
        asking.start()
        assert app.inside.wait(DEADLINE)
        server.should_exit = True
        assert eventually(lambda: not is_open(server, side))
        assert refused(server.addresses[side])
        assert app.stopped == 0
        app.open.set()
        asking.join(DEADLINE)
        thread.join(DEADLINE)
        assert answers[0].text == side
        assert app.stopped == 1


@pytest.mark.parametrize("http", ["h11", "httptools"])
def test_a_request_in_flight_on_an_accepted_connection_is_answered(http: str) -> None:
    """Accepted, nothing read yet: uvicorn itself would close it."""
    app = Observed()
    with stopped(app, http=http) as (server, _):
        connections = [socket.create_connection(server.addresses["public"], timeout=DEADLINE) for _ in range(10)]
        assert eventually(lambda: sum(len(state.connections) for state in server.states) == 10)
        server.should_exit = True
        assert eventually(lambda: not is_open(server, "public"))
        for connection in connections:
            connection.sendall(HEAD)
        for connection in connections:
            answer = b""
            while data := connection.recv(1000):
                answer += data
            assert answer.startswith(b"HTTP/1.1 200 OK")
            assert b"connection: close\r\n" in answer
            connection.close()


def test_an_idle_connection_does_not_hold_up_the_end() -> None:
    with stopped(Observed()) as (server, thread), httpx.Client() as client:
        assert client.get(server.url("public")).text == "public"
        server.should_exit = True
        thread.join(DEADLINE)
        assert not thread.is_alive()


def test_a_websocket_is_closed_for_a_restart() -> None:
    with stopped(Observed()) as (server, _), connect(server.url("private").replace("http", "ws")) as websocket:
        assert websocket.recv() == "private"
        server.should_exit = True
        with pytest.raises(ConnectionClosed) as caught:
            websocket.recv(timeout=DEADLINE)
        assert caught.value.rcvd is not None and caught.value.rcvd.code == 1012


@pytest.mark.parametrize("ws", ["websockets", "websockets-sansio"])
@pytest.mark.parametrize("side", ["public", "private"])
def test_a_handshake_that_is_not_decided_at_the_end_is_sent_elsewhere(side: Side, ws: str) -> None:
    class Undecided(Observed):
        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] == "websocket":
                await receive()
                inside.set()
                await receive()
                return
            await super().__call__(scope, receive, send)

    inside = threading.Event()
    with (
        stopped(Undecided(), ws=ws) as (server, thread),
        socket.create_connection(server.addresses[side], timeout=DEADLINE) as client,
    ):
        client.sendall(HANDSHAKE)
        assert inside.wait(DEADLINE)
        server.should_exit = True
        answer = b""
        while data := client.recv(1000):
            answer += data
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"connection: close\r\n" in answer
        assert answer.count(b"HTTP/1.1") == 1
        thread.join(DEADLINE)
        assert not thread.is_alive()


def test_what_takes_longer_than_its_time_is_cancelled(caplog: pytest.LogCaptureFixture) -> None:
    class Endless(Observed):
        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] == "http":
                inside.set()
                await asyncio.Event().wait()
            await super().__call__(scope, receive, send)

    inside = threading.Event()
    app = Endless()
    with stopped(app, timeout_graceful_shutdown=1) as (server, thread):
        connection = socket.create_connection(server.addresses["private"], timeout=DEADLINE)
        connection.sendall(HEAD)
        assert inside.wait(DEADLINE)
        server.should_exit = True
        thread.join(DEADLINE)
        assert not thread.is_alive()
        connection.close()
    assert "Cancel 1 running task(s), timeout graceful shutdown exceeded" in caplog.text
    assert app.stopped == 1


def test_a_second_signal_ends_at_once() -> None:
    app = Gated()
    with stopped(app) as (server, thread):
        connection = socket.create_connection(server.addresses["public"], timeout=DEADLINE)
        connection.sendall(HEAD.replace(b"/ ", b"/slow "))
        assert app.inside.wait(DEADLINE)
        server.should_exit = True
        server.force_exit = True
        app.open.set()
        thread.join(DEADLINE)
        assert not thread.is_alive()
        assert app.stopped == 0
        connection.close()


def test_a_server_leaves_no_descriptor_open() -> None:
    import os

    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))  # noqa: PTH208

    with serving(Observed()) as server:
        httpx.get(server.url("public"))
    before = descriptors()
    for _ in range(3):
        with serving(Observed()) as server:
            httpx.get(server.url("public"))
            httpx.get(server.url("private"))
    assert descriptors() == before


class Large(Observed):
    """Reads the whole of a body, and answers with more than a socket takes."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await super().__call__(scope, receive, send)
            return
        while (await receive()).get("more_body", False):
            pass
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(100):
            await send({"type": "http.response.body", "body": b"x" * 1_000_000, "more_body": True})


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize(
    ("sent", "asked"),
    [
        (b"POST /part HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhe", "POST /part"),
        (b"GET /unread HTTP/1.1\r\nHost: x\r\n\r\n", "GET /unread"),
    ],
    ids=["does not send its body", "does not read its answer"],
)
def test_a_client_that_does_nothing_does_not_hold_up_the_end_for_ever(
    sent: bytes, asked: str, loop: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(config, "GRACEFUL_SECONDS", 0.5)
    app = Large()
    with serving(app, loop=loop) as server, socket.create_connection(server.addresses["public"]) as client:
        client.sendall(sent)
        assert eventually(lambda: bool(server.server_state.tasks))
        server.should_exit = True
        server.thread.join(DEADLINE)
        assert not server.thread.is_alive() and server.error is None
        name = "{}:{}".format(*client.getsockname())
    assert f"Graceful shutdown timed out after 0.5 s; cutting 1 request: {name} ({asked})" in caplog.text
    assert app.stopped == 1


def test_the_log_says_how_many_of_what_were_cut(caplog: pytest.LogCaptureFixture) -> None:
    class Lasting(Observed):
        """Its requests do not end, and neither do its WebSockets, nor what `/after` does when it has answered."""

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] == "websocket":
                await receive()
                await send({"type": "websocket.accept"})
            elif scope["type"] == "lifespan" or scope["path"] == "/after":
                await super().__call__(scope, receive, send)
            if scope["type"] != "lifespan":
                inside.release()
                await asyncio.Event().wait()

    inside = threading.Semaphore(0)
    with stopped(Lasting(), timeout_graceful_shutdown=1) as (server, thread):
        clients = [socket.create_connection(server.addresses["public"], timeout=DEADLINE) for _ in range(4)]
        for client, sent in zip(clients, (HEAD, HEAD, HANDSHAKE, HEAD.replace(b"/ ", b"/after ")), strict=True):
            client.sendall(sent)
            assert inside.acquire(timeout=DEADLINE)
        server.should_exit = True
        thread.join(DEADLINE)
        assert not thread.is_alive()
        for client in clients:
            client.close()
    line = next(line for line in caplog.messages if "timed out" in line)
    counts = line.partition(" cutting ")[2].partition(":")[0]
    assert sorted(counts.split(", ")) == ["1 WebSocket", "1 background task", "2 requests"]


def test_from_the_signal_on_each_answer_says_that_its_connection_ends() -> None:
    """At once, and not when the main loop looks the next time."""
    with stopped(Observed()) as (server, _), socket.create_connection(server.addresses["public"]) as client:
        server.should_exit = True
        client.sendall(HEAD)
        answer = b""
        while data := client.recv(1000):
            answer += data
        assert answer.startswith(b"HTTP/1.1 200 OK")
        assert b"connection: close\r\n" in answer
