"""Slow requests in the log: when they have been in hand for so long, with where they wait, and when they end."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import struct
import threading
import time
import types
from collections.abc import Generator
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.sync.client import connect

from duallisten.observability.slow_requests import describe_wait
from duallisten.sides import Side
from tests.support.applications import Observed
from tests.support.gated import SHOP
from tests.support.running import DEADLINE, FREE, eventually, launched, serving
from tests.support.running import connect as connect_to

SECONDS = 0.2


class Warehouse(Observed):
    """`/stock` waits in a function of its own until the test opens it, and `/block` blocks the event loop."""

    def __init__(self) -> None:
        super().__init__()
        self.open = threading.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and scope["path"] == "/stock":
            await self.count_apples()
        elif scope["type"] == "http" and scope["path"] == "/block":
            time.sleep(2 * SECONDS)
        await super().__call__(scope, receive, send)

    async def count_apples(self) -> None:
        await asyncio.to_thread(self.open.wait, DEADLINE)


def slow_lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.getMessage().startswith("Slow request")]


@pytest.mark.parametrize("http", ["h11", "httptools"])
@pytest.mark.parametrize("side", ["public", "private"])
def test_a_slow_request_has_a_line_while_it_waits_and_one_when_it_ends(
    side: Side, http: str, caplog: pytest.LogCaptureFixture
) -> None:
    app = Warehouse()
    with serving(app, http=http, log_slow_requests=SECONDS) as server:
        assert httpx.get(server.url(side)).text == side
        url = server.url(side) + "/stock?of=apples"
        asking = threading.Thread(target=lambda: httpx.get(url, timeout=DEADLINE))
        asking.start()
        try:
            assert eventually(lambda: bool(slow_lines(caplog)))
        finally:
            app.open.set()
        asking.join(DEADLINE)
        assert eventually(lambda: len(slow_lines(caplog)) == 2)
        assert [slow._told for slow in server.slow_requests] == [set(), set()]
    first, last = slow_lines(caplog)
    begin = f"Slow request on the {side} side: 127.0.0.1:"
    assert first.startswith(begin) and last.startswith(begin)
    assert '- "GET /stock?of=apples" in flight for ' in first and "not answered yet; waits at " in first
    assert "threads.py:" in first and "(to_thread), called from " in first
    line = Warehouse.count_apples.__code__.co_firstlineno + 1
    assert first.endswith(f", called from {__file__}:{line} (count_apples)")
    assert '- "GET /stock?of=apples" answered with 200 after ' in last


def test_a_request_that_blocks_the_event_loop_has_the_line_of_its_end(caplog: pytest.LogCaptureFixture) -> None:
    with serving(Warehouse(), log_slow_requests=SECONDS) as server:
        httpx.get(server.url("public") + "/block")
    (line,) = slow_lines(caplog)
    assert '- "GET /block" answered with 200 after 0.' in line


def test_a_slow_request_whose_client_leaves_is_aborted(caplog: pytest.LogCaptureFixture) -> None:
    app = Warehouse()
    with serving(app, log_slow_requests=SECONDS) as server:
        with socket.create_connection(server.addresses["public"]) as client:
            client.sendall(b"GET /stock HTTP/1.1\r\nHost: x\r\n\r\n")
            assert eventually(lambda: bool(slow_lines(caplog)))
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a reset, at once
        assert eventually(lambda: len(slow_lines(caplog)) == 2)
        app.open.set()
    assert '"GET /stock" aborted after ' in slow_lines(caplog)[1]


def test_a_websocket_is_no_slow_request(caplog: pytest.LogCaptureFixture) -> None:
    app = Warehouse()
    with serving(app, log_slow_requests=SECONDS) as server, connect(server.url("public").replace("http", "ws")) as one:
        one.recv()
        with socket.create_connection(server.addresses["public"]) as client:  # it is slow later than the WebSocket
            client.sendall(b"GET /stock HTTP/1.1\r\nHost: x\r\n\r\n")
            assert eventually(lambda: bool(slow_lines(caplog)))
            app.open.set()
    assert all('"GET /stock" ' in line for line in slow_lines(caplog))


def test_lines_of_json_say_which_request_was_slow(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(SHOP)
    arguments = ("shop:app", "--log-format", "json", "--log-slow-requests", str(SECONDS), *FREE)
    with launched(*arguments, cwd=tmp_path) as server:
        private = server.wait_for(r"Serving the private side on (http://[\d.:]+)")[1]
        with connect_to(private) as client:
            client.sendall(b"GET /wait?a=b HTTP/1.1\r\nHost: x\r\nX-Request-ID: of-a-neighbour\r\n\r\n")
            server.wait_for("Slow request")
            (tmp_path / "released").touch()
            server.wait_for("Slow request", count=2)
        server.send(signal.SIGTERM)
        server.wait()
    lines = [line for line in map(json.loads, server.lines) if line.get("message", "").startswith("Slow request")]
    for line in lines:
        found = (line["side"], line["method"], line["path"], line["request_id"], line["level"])
        assert found == ("private", "GET", "/wait?a=b", "of-a-neighbour", "WARNING")
        assert "(id of-a-neighbour)" in line["message"]
    assert len(lines) == 2


def test_nothing_looks_for_slow_requests_unless_asked_to() -> None:
    with serving(Observed(), access_log=False) as server:
        httpx.get(server.url("public"))
        assert server.slow_requests == []
        assert all(one.context.on_end is None for one in server.listeners.services.values())


async def test_where_a_task_waits_is_found_through_generators() -> None:
    @types.coroutine
    def generator() -> Generator[Any, Any, None]:
        yield from eternity.wait()

    async def outer() -> None:
        await generator()

    eternity = asyncio.Event()
    task = asyncio.ensure_future(outer())
    await asyncio.sleep(0)
    told = describe_wait(task)
    assert told.startswith("waits at ") and "locks.py:" in told
    assert told.endswith(f"{__file__}:{generator.__code__.co_firstlineno + 2} (generator)")
    eternity.set()
    await task
    assert describe_wait(task) == "its task has ended"


def test_slow_requests_are_logged_during_the_shutdown_too(caplog: pytest.LogCaptureFixture) -> None:
    app = Warehouse()
    with serving(app, log_slow_requests=SECONDS) as server, connect_to(server.url("public")) as client:
        client.sendall(b"GET /stock HTTP/1.1\r\nHost: x\r\n\r\n")
        assert eventually(lambda: bool(server.server_state.tasks))
        server.should_exit = True
        assert eventually(lambda: bool(slow_lines(caplog)))
        app.open.set()
        assert client.recv(100).startswith(b"HTTP/1.1 200")
    assert len(slow_lines(caplog)) == 2
