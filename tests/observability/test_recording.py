"""What is counted of connections and requests, as clients make them."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from websockets.sync.client import connect as connect_websocket

from duallisten.observability.scoreboard import View
from duallisten.observability.scoreboard_layout import BUCKETS, METHODS, STATUSES, Cell
from duallisten.server import heartbeat
from duallisten.sides import Receive, Scope, Send, Side
from tests.support.applications import Observed, answer
from tests.support.running import ObservedServer, ask, connect, eventually, serving


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with the status that stands in the path; never answer, fail amid an answer, or echo."""
    if scope["type"] != "http":
        await Observed()(scope, receive, send)
    elif scope["path"] == "/never":
        while (await receive())["type"] != "http.disconnect":
            pass
    elif scope["path"] == "/cut":
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"100")]})
        await send({"type": "http.response.body", "body": b"some", "more_body": True})
        raise RuntimeError("amid an answer")
    elif scope["path"] == "/imposter":
        await send({"type": "http.response.start", "status": 201, "headers": [(b"content-length", b"15")]})
        await asyncio.sleep(0)  # the head has gone out by then
        await asyncio.sleep(0)
        await send({"type": "http.response.body", "body": b"HTTP/1.1 999 NO"})
    else:
        while (await receive()).get("more_body"):
            pass
        await answer(send, b"told", int(scope["path"].strip("/") or 200))


@pytest.fixture(autouse=True)
def counted_at_each_beat(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have what is open counted ten times a second."""
    monkeypatch.setattr(heartbeat, "SAMPLING", 1)


@pytest.fixture(params=["h11", "httptools"])
def server(request: pytest.FixtureRequest) -> Iterator[ObservedServer]:
    with serving(app, http=request.param, private_health="/-", private_paths=["/internal"]) as one:
        yield one


def view_of(server: ObservedServer) -> View:
    assert server.observation is not None
    return server.observation.board.read()


def requests(server: ObservedServer, side: Side = "public") -> dict[tuple[str, str], int]:
    """How many requests of each kind were counted."""
    counted = view_of(server).sides[side].requests
    kinds = [(method, status) for method in METHODS for status in STATUSES]
    sums = {kind: sum(counted[at * BUCKETS : (at + 1) * BUCKETS]) for at, kind in enumerate(kinds)}
    return {kind: number for kind, number in sums.items() if number}


def cell(server: ObservedServer, which: Cell, side: Side = "public") -> int:
    return view_of(server).sides[side].cells[which]


def test_requests_are_counted_by_side_method_and_status(server: ObservedServer) -> None:
    with httpx.Client() as client:
        for status in (200, 206, 404, 503):
            client.get(f"{server.url('public')}/{status}")
        client.post(f"{server.url('public')}/201", content=b"x" * 100_000)
        client.request("PROPFIND", f"{server.url('public')}/418")
        client.head(f"{server.url('private')}/200")
    expected = {
        ("GET", "2xx"): 2,
        ("GET", "4xx"): 1,
        ("GET", "5xx"): 1,
        ("POST", "2xx"): 1,
        ("other", "4xx"): 1,
    }
    assert eventually(lambda: requests(server) == expected), requests(server)
    assert eventually(lambda: requests(server, "private") == {("HEAD", "2xx"): 1})
    assert cell(server, Cell.SECONDS) > 0


def test_a_method_that_the_parsers_do_not_know_is_no_request() -> None:
    with serving(app, http="httptools", private_health="/-") as server:
        assert b" 400 " in ask(server.url("public"), b"NONSENSE / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert eventually(lambda: cell(server, Cell.BAD) == 1)
        assert requests(server) == {}


def test_requests_sent_ahead_are_each_counted(server: ObservedServer) -> None:
    ahead = b"".join(b"GET /%d HTTP/1.1\r\nHost: x\r\n\r\n" % status for status in (200, 404, 200))
    ask(server.url("public"), ahead + b"GET /503 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    expected = {("GET", "2xx"): 2, ("GET", "4xx"): 1, ("GET", "5xx"): 1}
    assert eventually(lambda: requests(server) == expected), requests(server)


def test_what_the_client_leaves_or_the_application_breaks_off_is_counted_as_aborted(server: ObservedServer) -> None:
    with connect(server.url("public")) as leaving:
        leaving.sendall(b"GET /never HTTP/1.1\r\nHost: x\r\n\r\n")
        assert eventually(lambda: cell(server, Cell.IN_FLIGHT) == 1)
    assert eventually(lambda: requests(server) == {("GET", "aborted"): 1})
    ask(server.url("public"), b"GET /cut HTTP/1.1\r\nHost: x\r\n\r\n")
    assert eventually(lambda: requests(server) == {("GET", "aborted"): 2})


def test_the_status_is_that_of_the_head_whatever_else_looks_like_one(server: ObservedServer) -> None:
    ask(server.url("public"), b"GET /imposter HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    patient = b"PUT /200 HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n"
    with connect(server.url("public")) as connection:
        connection.sendall(patient)
        assert b"100 Continue" in connection.recv(1000)
        connection.sendall(b"ok")
        assert b"200 OK" in connection.recv(1000)
    assert eventually(lambda: requests(server) == {("GET", "2xx"): 1, ("PUT", "2xx"): 1}), requests(server)


def test_bytes_are_counted_that_were_sent(server: ObservedServer) -> None:
    sent = sum(len(ask(server.url("public"))) for _ in range(3))
    assert eventually(lambda: cell(server, Cell.SENT) == sent)


def test_connections_are_counted_while_they_are_open(server: ObservedServer) -> None:
    with connect(server.url("public")), connect(server.url("public")), connect(server.url("private")):
        assert eventually(lambda: cell(server, Cell.OPEN) == 2)
        assert eventually(lambda: cell(server, Cell.OPEN, "private") == 1)
    assert eventually(lambda: cell(server, Cell.OPEN) == 0)
    assert eventually(lambda: (cell(server, Cell.ACCEPTED), cell(server, Cell.ACCEPTED, "private")) == (2, 1))


def test_hidden_requests_and_refused_peers_are_counted() -> None:
    options = {"private_health": "/-", "private_paths": ["/internal"], "private_allow": ["192.0.2.0/24"]}
    with serving(app, **options) as server:
        assert b" 404 " in ask(
            server.url("public"), b"GET /internal/x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        )
        assert eventually(lambda: cell(server, Cell.HIDDEN) == 1)
        with connect(server.url("private")) as refused:
            assert refused.recv(1) == b""
        assert eventually(lambda: cell(server, Cell.REFUSED_PEER, "private") == 1)
        assert cell(server, Cell.ACCEPTED, "private") == 0


@pytest.mark.parametrize("ws", ["websockets", "websockets-sansio"])
def test_websockets_are_counted_while_they_are_open(ws: str) -> None:
    with serving(app, ws=ws, private_health="/-") as server:
        url = server.url("public").replace("http", "ws")
        with connect_websocket(url) as one, connect_websocket(url):
            assert one.recv() == "public"
            assert eventually(lambda: cell(server, Cell.WEBSOCKETS) == 2)
        assert eventually(lambda: cell(server, Cell.WEBSOCKETS) == 0)
        assert eventually(lambda: requests(server) == {("websocket", "1xx"): 2})
        assert eventually(lambda: cell(server, Cell.SENT) > 200)


def test_what_uvicorn_answers_for_its_own_limit_is_counted_apart() -> None:
    with serving(app, limit_concurrency=1, private_health="/-") as server:
        assert b" 503 " in ask(server.url("public"))
        assert eventually(lambda: cell(server, Cell.BUSY) == 1)
        assert requests(server) == {}


def test_duallisten_s_own_pages_are_not_counted(server: ObservedServer) -> None:
    assert b" 200 " in ask(
        server.url("private"), b"GET /-/livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    )
    httpx.get(f"{server.url('private')}/404")
    assert eventually(lambda: requests(server, "private") == {("GET", "4xx"): 1})
    assert cell(server, Cell.BUSY, "private") == 0


def test_requests_are_recorded_while_messages_are_traced(caplog: pytest.LogCaptureFixture) -> None:
    own = b"GET /-/livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    with serving(app, private_health="/-", log_level="trace", private_paths=["/internal"]) as server:
        assert b" 200 " in ask(server.url("public"))
        assert b" 404 " in ask(server.url("public"), b"GET /internal HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert b" 200 " in ask(server.url("private"), own)
        assert eventually(lambda: requests(server) == {("GET", "2xx"): 1, ("GET", "4xx"): 1})
        assert requests(server, "private") == {}
    assert "Started scope=" in caplog.text


def test_without_anyone_to_tell_nothing_is_recorded() -> None:
    with serving(app) as server:
        assert server.observation is None
        assert all(service.counter is None for service in server.listeners.services.values())
        assert b" 200 " in ask(server.url("public"))


def test_a_broken_second_request_on_a_connection_does_no_harm(server: ObservedServer) -> None:
    broken: Any = b"GET /200 HTTP/1.1\r\nHost: x\r\n\r\nGET /\x00 HTTP/1.1\r\n\r\n"
    with connect(server.url("public")) as connection:
        connection.sendall(broken)
        connection.shutdown(socket.SHUT_WR)
        answered = b""
        while data := connection.recv(1000):
            answered += data
    assert b" 200 OK" in answered
    assert eventually(
        lambda: requests(server).get(("GET", "2xx"), 0) + requests(server).get(("GET", "aborted"), 0) == 1
    )
