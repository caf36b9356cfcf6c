"""uvicorn's zttp parser, for HTTP/1.1 and HTTP/2: its own limits, ours below them, and what has two readings."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from tests.applications import Observed
from tests.bad_requests import ODD, REFUSED, Bad
from tests.running import DEADLINE, ObservedServer, ask, serving
from tests.test_bad_requests import Reader, complaints, exchange, statuses
from tests.test_heads import LIMIT, head, status

zttp = pytest.importorskip("zttp")
pytest.importorskip("uvicorn.protocols.http.zttp_impl", reason="this uvicorn has no zttp")


@pytest.fixture(scope="module", params=[False, True], ids=["http1", "http2"])
def server(request: pytest.FixtureRequest) -> Iterator[ObservedServer]:
    """One that takes both where HTTP/2 is on."""
    with serving(Reader(), http="zttp", http2=request.param, max_head_size=LIMIT) as made:
        yield made


def test_a_lower_limit_is_kept(server: ObservedServer) -> None:
    url = server.url("public")
    server.config.app.scopes.clear()  # type: ignore[union-attr]
    assert status(ask(url, head(LIMIT))) == 200
    assert status(ask(url, head(LIMIT + 1))) == 431
    assert status(ask(url, b"GET /%s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" % (b"x" * LIMIT))) == 431
    assert not server.config.app.scopes[1:]  # type: ignore[union-attr]


def test_a_handshake_with_a_head_above_the_limit_is_refused(server: ObservedServer) -> None:
    url = server.url("public").replace("http", "ws")
    with connect(url, additional_headers={"X": "x" * (LIMIT // 2)}) as websocket:
        assert websocket.recv() == "public"
    with pytest.raises(InvalidStatus, match="431"):
        connect(url, additional_headers={"X": "x" * (LIMIT // 2), "Y": "y" * (LIMIT // 2)})


@pytest.mark.parametrize("head_size", [65536, 0])
def test_it_has_limits_of_its_own_which_nothing_raises(head_size: int) -> None:
    with serving(Observed(), http="zttp", http2=True, max_head_size=head_size) as server:
        url = server.url("public")
        assert status(ask(url, head(15_000))) == 200
        for large in (head(100_000), b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * 100_000):
            with suppress(ConnectionError):  # uvicorn closes it with bytes unread
                assert status(ask(url, large)) == 400
        assert len(server.config.app.scopes) == 1  # type: ignore[union-attr]
        assert ask_http2(server, 50_000) == 200
        assert ask_http2(server, 100_000) is None
        assert ask_http2(server, 100_000, fields=4_000) is None


def test_a_lower_limit_is_kept_for_http2() -> None:
    options: dict[str, Any] = {"http": "zttp", "http2": True, "max_head_size": 1_000, "private_max_head_size": "2000"}
    with serving(Observed(), **options) as server:
        assert [ask_http2(server, size) for size in (500, 1_500)] == [200, 431]
        assert [ask_http2(server, size, side="private") for size in (500, 1_500, 2_500)] == [200, 200, 431]


def ask_http2(server: ObservedServer, size: int, *, fields: int = 1, side: str = "public") -> int | None:
    """Ask over HTTP/2, with so many bytes in so many header fields; None where the connection ends."""
    client = zttp.Connection(zttp.CLIENT, zttp.HTTP2)
    client.initiate_connection()
    headers = [(b"x-%d" % number, b"x" * (size // fields)) for number in range(fields)]
    client.send_request(b"GET", b"/", b"2", [(b"host", b"x"), *headers]).end_message()
    with socket.create_connection(server.addresses[side], timeout=DEADLINE) as connection:  # type: ignore[index]
        try:
            connection.sendall(client.data_to_send())
            while data := connection.recv(65536):
                client.receive_data(data)
                while (event := client.next_event()) is not zttp.NEED_DATA:
                    if isinstance(event, zttp.Response):
                        return int(event.status_code)
        except ConnectionError:
            pass
    return None


@pytest.mark.parametrize("bad", REFUSED, ids=lambda bad: bad.name)
def test_what_can_be_read_in_two_ways_is_refused(server: ObservedServer, bad: Bad) -> None:
    app: Any = server.config.app
    app.scopes.clear()
    answers = exchange(server, bad.sent, done=True)
    assert "/hidden" not in app.paths
    assert len(statuses(answers)) <= 1


@pytest.mark.parametrize("odd", ODD, ids=lambda odd: odd.name)
def test_what_is_merely_odd_leaves_no_traceback(
    server: ObservedServer, odd: Bad, caplog: pytest.LogCaptureFixture
) -> None:
    exchange(server, odd.sent, done=True)
    assert not complaints(caplog)


def test_a_peer_that_does_not_end_its_head_is_closed() -> None:
    with serving(Observed(), http="zttp", timeout_request_header=0.3) as server:
        for sent in (b"", b"GET", b"GET / HTTP/1.1\r\nHost: x\r\n"):
            with socket.create_connection(server.addresses["public"], timeout=DEADLINE) as connection:
                connection.sendall(sent)
                assert connection.recv(1) == b""
