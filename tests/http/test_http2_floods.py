"""HTTP/2: what one connection may ask for that leads to nothing, and how long a peer may take."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    PriorityFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

from duallisten.http import Hooks, Limits
from tests.http.engine import Recorder, Wire, answer, wire
from tests.http.http2_client import ENHANCE_YOUR_CALM, GET, Http2Client, asking, http2
from tests.support.running import eventually


class Endless:
    """Sends one part of a body after the other, and counts how many are on their way; notes how often it was called."""

    def __init__(self) -> None:
        self.calls = 0
        self.most = self.running = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.calls += 1
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            while scope["path"] == "/endless":
                await send({"type": "http.response.body", "body": bytes(65536), "more_body": True})
                await asyncio.sleep(0)  # the client may be gone
            await receive()
            await asyncio.sleep(0.01)
            await send({"type": "http.response.body", "body": b"end"})
        finally:
            self.running -= 1


def reset_at_once(client: Http2Client, number: int) -> bytes:
    stream = 2 * number + 1
    return client.head(stream).serialize() + RstStreamFrame(stream, error_code=8).serialize()


def malformed(client: Http2Client, number: int) -> bytes:
    return HeadersFrame(2 * number + 1, data=b"\x82", flags=["END_HEADERS", "END_STREAM"]).serialize()


def dribble(client: Http2Client, number: int) -> bytes:
    """Open the window of an endless response by a byte each time (CVE-2019-9511)."""
    asked = client.head(1, asking("/endless")).serialize() if number == 0 else b""
    return asked + WindowUpdateFrame(1, window_increment=1).serialize()


def in_body(data: bytes) -> Callable[[Http2Client, int], bytes]:
    def make(client: Http2Client, number: int) -> bytes:
        asked = client.head(1, asking("/", "POST"), "END_HEADERS").serialize() if number == 0 else b""
        return asked + DataFrame(1, data=data).serialize()

    return make


FLOODS: dict[str, Callable[[Http2Client, int], bytes]] = {
    "PING": lambda client, number: PingFrame(0, opaque_data=b"12345678").serialize(),
    "SETTINGS": lambda client, number: SettingsFrame(0, settings={4: number}).serialize(),
    "acknowledged SETTINGS": lambda client, number: SettingsFrame(0, flags=["ACK"]).serialize(),
    "PRIORITY": lambda client, number: PriorityFrame(2 * number + 1, depends_on=0).serialize(),
    "WINDOW_UPDATE": lambda client, number: WindowUpdateFrame(0, window_increment=1).serialize(),
    "frames nobody knows": lambda client, number: b"\x00\x00\x00\xfa\x00\x00\x00\x00\x00",
    "empty DATA": in_body(b""),
    "DATA of one byte": in_body(b"x"),
    "a window opened byte by byte": dribble,
    "streams reset at once": reset_at_once,
    "malformed heads": malformed,
}


@pytest.mark.parametrize("name", FLOODS)
def test_a_flood_is_told_to_calm_down(name: str) -> None:
    app = Endless()
    with wire(app, http2=True) as engine, http2(engine, initial_window_size=0) as client:
        try:
            for start in range(0, 50_000, 100):
                client.socket.sendall(b"".join(FLOODS[name](client, number) for number in range(start, start + 100)))
        except ConnectionError:
            pass  # the engine has had enough, and does not read on
        last = client.goaway()
        assert last.error_code == ENHANCE_YOUR_CALM
        assert app.calls < 400 and app.most <= 100


def test_a_stream_that_was_reset_counts_until_its_application_ends() -> None:
    """Else a client has as many of them run as it likes."""
    go_on = threading.Event()
    running = most = 0

    async def app(scope: Any, receive: Any, send: Any) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.to_thread(go_on.wait)
        running -= 1
        await answer(send, b"")

    with wire(app, http2=True) as engine, http2(engine) as client:
        for number in range(150):
            stream = 2 * number + 1
            client.send(client.head(stream), RstStreamFrame(stream, error_code=8))
        client.ping()
        assert most == 100
        assert len(client.of(RstStreamFrame)) == 50
        go_on.set()
        assert eventually(lambda: not running)
        client.send(client.head(999))
        assert client.response(999).status == 200


HEADS: dict[str, list[Any]] = {
    "CONTINUATION without end": [HeadersFrame(1, data=b"\x82"), *[ContinuationFrame(1, data=bytes(1000))] * 70],
    "empty CONTINUATION": [HeadersFrame(1, data=b"\x82"), *[ContinuationFrame(1)] * 70],
    "a small block that is large when it is read": [
        HeadersFrame(
            1,
            data=b"\x40\x01a\x7f\xe1\x1e" + bytes(4000).replace(b"\0", b"x") + b"\xbe" * 12_000,
            flags=["END_HEADERS", "END_STREAM"],
        )
    ],
    "a large block of many fields": [HeadersFrame(1, data=b"\x00\x01a\x01b" * 3000, flags=["END_HEADERS"])],
}


@pytest.mark.parametrize("name", HEADS)
def test_a_head_that_is_too_large_is_refused_before_it_is_read(name: str) -> None:
    app = Recorder()
    with wire(app, http2=True, limits=Limits(head_bytes=32768)) as engine, http2(engine) as client:
        client.send(*HEADS[name])
        assert client.goaway().error_code == ENHANCE_YOUR_CALM
        assert client.response(1).status == 431
    assert not app.seen


def test_answers_that_a_peer_does_not_read_do_not_pile_up() -> None:
    """Row 51: what is asked for by PING and SETTINGS is not asked on while nothing is read."""
    app = Endless()
    with wire(app, http2=True) as engine:
        connection = engine.connect(receive_buffer=4096)
        with connection:
            client = Http2Client(connection)
            client.start(initial_window_size=1 << 30)
            client.open(0, 1 << 30)
            client.send(client.head(1, asking("/endless")))
            assert eventually(lambda: engine.call(lambda: len(engine.context.tasks)))
            (served,) = engine.call(lambda: list(engine.context.connections))
            assert eventually(lambda: engine.call(lambda: served.is_write_paused))
            connection.setblocking(False)
            sent = 0
            ping = PingFrame(0, opaque_data=b"12345678").serialize() * 16
            try:
                for _ in range(100_000):
                    sent += connection.send(ping)
            except BlockingIOError:
                pass
            waiting = engine.call(served.transport.get_write_buffer_size)
            assert waiting < 1 << 18
            assert engine.call(lambda: served.is_read_paused)


# --- Time ---


class Times:
    """An engine with short time-outs, and what it has refused."""

    def __init__(self) -> None:
        self.refused: list[tuple[int, str]] = []
        self.hooks = Hooks(refused=lambda connection, status, reason: self.refused.append((status, reason)))

    def wire(self, app: Any, **limits: float) -> Any:
        return wire(app, http2=True, hooks=self.hooks, limits=Limits(**limits))  # type: ignore[arg-type]


def test_a_head_has_its_time() -> None:
    times = Times()
    with times.wire(Recorder(), head_seconds=0.2) as engine:
        with engine.connect() as silent:
            assert silent.recv(100) == b""
        with http2(engine) as client:
            client.send(HeadersFrame(1, data=b"\x82"))
            client.goaway()
        with engine.connect() as connection:
            client = Http2Client(connection)
            connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
            client.goaway()
    assert len(times.refused) >= 3


def test_a_body_has_its_time_on_each_stream() -> None:
    times = Times()
    with times.wire(Recorder(), body_seconds=0.3) as engine, http2(engine) as client:
        client.send(client.head(1, asking("/slow", "POST"), "END_HEADERS"))
        got = client.response(1)
        client.until(lambda: client.of(RstStreamFrame, 1))
        assert got.status == 408
        client.ask(3, "/good")
        assert client.response(3).body == b"/good"
    assert (408, "request body timed out (--timeout-request-body)") in times.refused


def test_a_window_has_its_time() -> None:
    times = Times()
    app = Endless()
    with times.wire(app, send_seconds=0.3) as engine:
        with http2(engine, initial_window_size=0) as client:
            client.send(client.head(1, asking("/endless")))
            assert client.response(1).reset == 8
        with http2(engine) as client:  # the connection's window alone
            client.send(SettingsFrame(0, settings={4: 1 << 20}), client.head(1, asking("/endless")))
            while client.read():
                pass
    assert {reason for _, reason in times.refused} >= {
        "timed out waiting for the stream's WINDOW_UPDATE (--timeout-send)",
        "timed out waiting for WINDOW_UPDATE (--timeout-send)",
    }


def test_a_connection_without_a_request_is_ended() -> None:
    with wire(Recorder(), http2=True, keep_alive=0.2) as engine, http2(engine) as client:
        client.send(client.head(1))
        client.response(1)
        last = client.goaway()
        assert (last.error_code, last.last_stream_id) == (0, 1)


# --- The end of the server ---


def end(engine: Wire) -> None:
    engine.call(lambda: [connection.shutdown() for connection in list(engine.context.connections)])


def test_the_end_is_announced_and_nothing_is_lost() -> None:
    go_on = threading.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.to_thread(go_on.wait)
        await answer(send, scope["path"].encode())

    with wire(app, http2=True) as engine, http2(engine) as client:
        client.send(client.head(1, asking("/a")))
        client.ping()
        end(engine)
        client.until(lambda: client.of(GoAwayFrame))
        client.send(client.head(3, asking("/on-its-way")))
        (asked,) = [one for one in client.of(PingFrame) if "ACK" not in one.flags]
        client.send(PingFrame(0, opaque_data=asked.opaque_data, flags=["ACK"]), client.head(5, GET))
        client.until(lambda: client.of(RstStreamFrame, 5))
        assert [one.last_stream_id for one in client.of(GoAwayFrame)] == [(1 << 31) - 1, 3]
        assert client.of(RstStreamFrame, 5)[0].error_code == 7
        go_on.set()
        assert [client.response(stream).body for stream in (1, 3)] == [b"/a", b"/on-its-way"]
        assert not client.read() or client.is_over


def test_a_peer_that_says_nothing_does_not_hold_up_the_end() -> None:
    with wire(Recorder(), http2=True) as engine, http2(engine) as client:
        client.ask(1)
        client.response(1)
        end(engine)
        assert client.goaway().last_stream_id == 1
