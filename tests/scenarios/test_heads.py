"""How large a request's head may be, and how long it may take: with both parsers and both loops, on each side."""

from __future__ import annotations

import contextlib
import re
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from websockets.sync.client import connect

from tests.scenarios.test_bad_requests import Reader
from tests.support.applications import Observed
from tests.support.running import DEADLINE, ObservedServer, ask, eventually, serving

LIMIT = 8192


@pytest.fixture(params=["h11", "httptools"])
def http(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=["asyncio", "uvloop"])
def loop(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module", params=["h11", "httptools"])
def limited(request: pytest.FixtureRequest) -> Iterator[ObservedServer]:
    with serving(Reader(), http=request.param, max_head_size=LIMIT) as made:
        yield made


def head(size: int, *, close: bool = True, path: str = "/") -> bytes:
    """A head of so many bytes."""
    before = b"GET %s HTTP/1.1\r\nHost: x\r\n%sX: " % (path.encode(), b"Connection: close\r\n" if close else b"")
    return before + b"x" * (size - len(before) - 4) + b"\r\n\r\n"


def status(answer: bytes) -> int:
    found = re.match(rb"HTTP/1\.1 (\d+)", answer)
    assert found, answer
    return int(found[1])


def test_a_head_may_be_as_large_as_the_limit_and_not_larger(limited: ObservedServer) -> None:
    url = limited.url("public")
    assert status(ask(url, head(LIMIT))) == 200
    assert status(ask(url, head(LIMIT + 1))) == 431
    assert status(ask(url, head(200_000))) == 431
    assert status(ask(url, head(200_000)[:-4])) == 431
    assert status(ask(url, b"GET /" + b"x" * LIMIT)) == 431
    assert status(ask(url, b"GET / HTTP/1.1\r\n" + b"X" * LIMIT)) == 431
    assert status(ask(url, b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * LIMIT)) == 431
    assert not limited.config.app.scopes[1:]  # type: ignore[union-attr]


@pytest.mark.parametrize("first", [20, 600])
def test_a_head_in_parts_on_a_kept_connection_is_counted_too(limited: ObservedServer, first: int) -> None:
    with socket.create_connection(limited.addresses["public"], timeout=DEADLINE) as connection:
        connection.sendall(head(100, close=False))
        assert status(connection.recv(65536)) == 200
        connection.sendall(head(LIMIT * 2)[:first])
        with contextlib.suppress(OSError):
            for _ in range(100):
                connection.sendall(b"x" * 1000)
        assert status(connection.recv(65536)) == 431


def test_a_body_is_no_head(limited: ObservedServer) -> None:
    app: Any = limited.config.app
    size = LIMIT * 40
    request = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % size + b"x" * size + head(100)
    app.bodies.clear()
    assert ask(limited.url("public"), request).count(b"served") == 2
    assert app.bodies == [b"x" * size, b""]


def test_a_pipelined_head_without_end_does_not_lose_the_request_before_it(limited: ObservedServer) -> None:
    answer = ask(limited.url("public"), head(100, close=False) + head(400_000)[:-4])
    assert status(answer) == 200
    assert b"served" in answer


def test_trailers_without_end_end_the_connection(limited: ObservedServer) -> None:
    app: Any = limited.config.app
    for trailer in (b"X: y\r\n" * 100_000, b"X: " + b"y" * 400_000):
        app.bodies.clear()
        chunks = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n"
        assert status(ask(limited.url("public"), chunks + trailer)) == 400
        assert not app.bodies


def test_each_side_has_its_own_limit(http: str) -> None:
    with serving(Observed(), http=http, max_head_size=1000, private_max_head_size="2000") as server:
        answers = {side: status(ask(server.url(side), head(1500))) for side in server.addresses}
        assert answers == {"public": 431, "private": 200}
    with serving(Observed(), http=http, max_head_size=0) as server:
        assert status(ask(server.url("public"), head(15_000))) == 200


def silent(server: ObservedServer, sent: bytes = b"") -> socket.socket:
    connection = socket.create_connection(server.addresses["public"], timeout=DEADLINE)
    connection.sendall(sent)
    return connection


def test_a_connection_without_a_whole_head_is_closed(loop: str, http: str) -> None:
    with serving(Observed(), loop=loop, http=http, timeout_request_header=0.3) as server:
        for sent in (b"", b"GET", b"GET / HTTP/1.1\r\nHost: x\r\n", b"\r\n" if http == "httptools" else b"G"):
            with silent(server, sent) as connection:
                assert connection.recv(1) == b""


def test_the_clock_of_a_later_head_starts_with_its_first_byte(http: str) -> None:
    app = Observed()
    options = {"timeout_request_header": 0.3, "timeout_keep_alive": 60}
    with serving(app, http=http, **options) as server, silent(server, head(100, close=False)) as connection:
        with silent(server) as other:
            assert status(connection.recv(65536)) == 200
            assert other.recv(1) == b""  # it came later, and had nothing to say: the idle one was there all the time
        connection.sendall(head(100, close=False))
        assert status(connection.recv(65536)) == 200
        connection.sendall(b"G")
        assert connection.recv(1) == b""
    assert len(app.scopes) == 2


def test_a_peer_that_sends_a_byte_at_a_time_gains_no_time(http: str) -> None:
    with serving(Observed(), http=http, timeout_request_header=0.3) as server, silent(server) as connection:
        connection.settimeout(0.05)
        request = iter(head(10_000))

        def is_closed() -> bool:
            try:
                connection.send(bytes([next(request)]))
                return connection.recv(1) == b""
            except TimeoutError:
                return False
            except ConnectionError:
                return True

        assert eventually(is_closed)


def test_requests_in_hand_and_websockets_have_all_the_time(http: str) -> None:
    app = Reader()
    with serving(app, http=http, timeout_request_header=0.3) as server:
        post = b"POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 2\r\n\r\n"
        with (
            connect(server.url("public").replace("http", "ws")) as websocket,
            silent(server, post) as uploading,
            silent(server) as other,
        ):
            assert websocket.recv() == "public"
            assert other.recv(1) == b""
            with silent(server) as another:
                assert another.recv(1) == b""
            websocket.send("still here")
            assert websocket.recv() == "still here"
            uploading.sendall(b"ab")
            assert status(uploading.recv(65536)) == 200
    assert app.bodies == [b"ab"]


def test_each_side_has_its_own_time() -> None:
    options = {"timeout_request_header": 0.2, "private_timeout_request_header": 0}
    with (
        serving(Observed(), **options) as server,
        socket.create_connection(server.addresses["private"], timeout=DEADLINE) as private,
    ):
        for _ in range(2):
            with silent(server) as public:
                assert public.recv(1) == b""
        private.sendall(head(100))
        assert status(private.recv(65536)) == 200
