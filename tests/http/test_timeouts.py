"""How long a peer may take: by a clock that the test moves, and once each on the wire with short times."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from duallisten.http import Connection, Exchange, Limits, Observer, hooks_of
from tests.http.engine import (
    LOOPS,
    PARSERS,
    Hand,
    Recorder,
    answer,
    by_hand,
    clock_of,
    read_all,
    read_responses,
    statuses,
    wire,
)
from tests.http.streams import GET_A, GET_B, post

LIMITS = Limits(head_seconds=30, body_seconds=60, send_seconds=60)
SHORT = Limits(head_seconds=0.2, body_seconds=0.2, send_seconds=0.2)

BODIES = {
    "a length": (post(b"Content-Length: 10"), b"x"),
    "chunks": (post(b"Transfer-Encoding: chunked"), b"1\r\nx\r\n"),
    "an upgrade and a length": (post(b"Connection: Upgrade", b"Upgrade: h2c", b"Content-Length: 10"), b"x"),
}

with_bodies = pytest.mark.parametrize(("head", "part"), BODIES.values(), ids=BODIES)
with_parsers = pytest.mark.parametrize("parser", PARSERS)


# --- The body ---


@with_parsers
@with_bodies
async def test_a_body_that_does_not_come_is_answered_with_408(parser: str, head: bytes, part: bytes) -> None:
    for sent in (head, head + part):
        app = Recorder()
        hand = by_hand(app, parser, limits=LIMITS)
        await hand.send(sent)
        clock_of(hand).advance(59)
        await hand.settle()
        assert not hand.written
        clock_of(hand).advance(2)
        await hand.settle()
        assert hand.statuses == [408]
        assert b"connection: close" in hand.written
        assert hand.is_eof
        assert (app.seen, app.gone) == ([], ["/a"])
        assert not hand.faults


@with_parsers
@with_bodies
async def test_a_body_that_comes_slowly_has_all_the_time(parser: str, head: bytes, part: bytes) -> None:
    app = Recorder()
    hand = by_hand(app, parser, limits=LIMITS)
    await hand.send(head)
    for _ in range(9):
        clock_of(hand).advance(50)
        await hand.send(part)
    assert not hand.has_ended
    await hand.send(b"0\r\n\r\n" if b"chunked" in head else part)
    await hand.settle()
    assert hand.statuses == [200]


@with_parsers
async def test_a_body_that_the_application_does_not_want_yet_is_not_timed(parser: str) -> None:
    want = asyncio.Event()
    recorder = Recorder()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await want.wait()
        await recorder(scope, receive, send)

    hand = by_hand(app, parser, limits=LIMITS)
    await hand.send(post(b"Content-Length: 200000", body=b"x" * 100_000))
    assert hand.is_paused
    clock_of(hand).advance(600)
    await hand.settle()
    assert not hand.written
    want.set()
    await hand.settle()
    assert not hand.is_paused
    await hand.send(b"x" * 100_000)
    await hand.settle()
    assert hand.statuses == [200]
    assert len(recorder.seen[0].body) == 200_000


@with_parsers
async def test_the_rest_of_a_body_that_nobody_reads_has_its_time_too(parser: str) -> None:
    """The application has answered; the client sends no more of its body."""
    hand = by_hand(Recorder(), parser, limits=LIMITS)
    await hand.send(post(b"Content-Length: 10", body=b"x", path=b"/early"))
    assert hand.statuses == [200]
    clock_of(hand).advance(61)
    await hand.settle()
    assert hand.statuses == [200], "one request, one answer"
    assert hand.has_ended
    assert not hand.faults


@with_parsers
async def test_an_answer_that_has_begun_is_cut_short_when_the_body_does_not_come(parser: str) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"9")]})
        await send({"type": "http.response.body", "body": b"part", "more_body": True})
        while (await receive())["type"] != "http.disconnect":
            pass

    hand = by_hand(app, parser, limits=LIMITS)
    await hand.send(post(b"Content-Length: 10", body=b"x"))
    clock_of(hand).advance(61)
    await hand.settle()
    (response,) = read_responses(bytes(hand.written))
    assert (response.status, response.body, response.is_whole) == (200, b"part", False)
    assert hand.has_ended
    assert not hand.connection.context.tasks


# --- The head ---


@with_parsers
async def test_a_head_has_its_time_as_a_whole(parser: str) -> None:
    """Slowloris: a byte at a time keeps nothing open."""
    for before in (b"", GET_A):
        app = Recorder()
        hand = by_hand(app, parser, limits=LIMITS, keep_alive=600)
        if before:
            await hand.send(before)
            clock_of(hand).advance(100)
        for byte in GET_B[:-4]:
            if hand.has_ended:
                break
            await hand.send(bytes([byte]))
            clock_of(hand).advance(5)
        await hand.settle()
        assert hand.has_ended
        assert app.paths == (["/a"] if before else [])
        assert hand.statuses in ([200] * len(app.paths), [200] * len(app.paths) + [408])


@with_parsers
async def test_empty_lines_keep_no_new_connection_open(parser: str) -> None:
    hand = by_hand(Recorder(), parser, limits=LIMITS)
    for _ in range(8):
        await hand.send(b"\r\n")
        clock_of(hand).advance(5)
        await hand.settle()
    assert hand.has_ended


@with_parsers
async def test_empty_lines_keep_no_idle_connection_open(parser: str) -> None:
    hand = by_hand(Recorder(), parser, limits=LIMITS, keep_alive=5)
    await hand.send(GET_A)
    for _ in range(20):
        await hand.send(b"\r\n")
        clock_of(hand).advance(4)
        await hand.settle()
    assert hand.has_ended
    assert hand.statuses == [200]


@with_parsers
async def test_an_idle_connection_is_closed_in_silence_after_keep_alive(parser: str) -> None:
    hand = by_hand(Recorder(), parser, limits=LIMITS, keep_alive=5)
    await hand.send(GET_A)
    clock_of(hand).advance(4)
    await hand.send(GET_B)
    clock_of(hand).advance(4)
    assert not hand.has_ended
    clock_of(hand).advance(2)
    await hand.settle()
    assert hand.is_lost
    assert hand.statuses == [200, 200]


@with_parsers
async def test_an_application_has_all_the_time(parser: str) -> None:
    go_on = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await go_on.wait()
        await answer(send, b"done")

    hand = by_hand(app, parser, limits=LIMITS)
    await hand.send(GET_A + GET_B[:10])
    clock_of(hand).advance(100_000)
    await hand.settle()
    assert not hand.has_ended
    go_on.set()
    await hand.send(GET_B[10:])
    await hand.settle()
    assert hand.statuses == [200, 200]


@with_parsers
async def test_without_limits_nothing_is_timed_but_what_must_be(parser: str) -> None:
    hand = by_hand(Recorder(), parser, limits=Limits(head_seconds=None, body_seconds=None, send_seconds=None))
    clock_of(hand).advance(1e6)
    await hand.send(post(b"Content-Length: 2"))
    clock_of(hand).advance(1e6)
    await hand.send(b"a")
    clock_of(hand).advance(1e6)
    await hand.send(b"b")
    await hand.settle()
    assert hand.statuses == [200]


# --- Sending ---


class Large:
    """Answers with more than any buffer holds, and notes how it ended."""

    def __init__(self) -> None:
        self.ended = False

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(200):
            await send({"type": "http.response.body", "body": b"x" * 65536, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})
        self.ended = True


async def stuck(parser: str) -> Hand:
    """Ask for what the application answers when the peer has begun to take nothing."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        hand.unsent = 100_000
        hand.connection.pause_writing()
        await answer(send, b"late")

    hand = by_hand(app, parser, limits=LIMITS)
    await hand.send(GET_A)
    return hand


@with_parsers
async def test_a_peer_that_takes_nothing_is_given_up(parser: str) -> None:
    hand = await stuck(parser)
    clock_of(hand).advance(59)
    assert not hand.is_aborted
    clock_of(hand).advance(2)
    assert hand.is_aborted
    await hand.settle()
    assert not hand.connection.context.tasks
    assert b"late" not in hand.written


@with_parsers
async def test_a_peer_that_takes_a_little_at_a_time_is_not(parser: str) -> None:
    hand = await stuck(parser)
    for _ in range(10):
        hand.unsent -= 1000
        clock_of(hand).advance(61)
        assert not hand.is_aborted
    hand.connection.resume_writing()
    await hand.settle()
    assert hand.statuses == [200]
    assert not hand.has_ended


@with_parsers
async def test_a_closed_connection_whose_peer_takes_nothing_does_not_stay(parser: str) -> None:
    """A transport that is closed goes on sending for as long as the peer likes."""
    hand = by_hand(Recorder(), parser, limits=LIMITS)
    hand.close = lambda: None  # type: ignore[method-assign]
    hand.unsent = 1000
    await hand.send(b"GET /a HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    clock_of(hand).advance(61)
    assert hand.is_aborted


# --- On the wire ---


@pytest.fixture(params=[f"{loop}-{parser}" for loop in LOOPS for parser in PARSERS])
def kind(request: pytest.FixtureRequest) -> list[str]:
    kind: list[str] = request.param.split("-")
    return kind


class Reasons(Observer):
    def __init__(self) -> None:
        self.of: list[int] = []
        self.complete: list[bool] = []

    def refused(self, connection: Connection, status: int, reason: str) -> None:
        self.of.append(status)

    def exchange_ended(self, exchange: Exchange) -> None:
        self.complete.append(exchange.complete)


def test_slow_peers_are_answered_or_closed_in_time(kind: list[str]) -> None:
    told = Reasons()
    with wire(Recorder(), *kind, limits=SHORT, keep_alive=0.2, hooks=hooks_of([told])) as engine:
        assert engine.ask(b"") == b""
        assert statuses(engine.ask(b"GET /a HTTP/1.1\r\n")) in ([], [408])
        assert statuses(engine.ask(post(b"Content-Length: 5"))) == [408]
        assert statuses(engine.ask(post(b"Content-Length: 5", body=b"ab"))) == [408]
        assert statuses(engine.ask(post(b"Transfer-Encoding: chunked", body=b"5\r\nab"))) == [408]
        assert statuses(engine.ask(GET_A)) == [200]
        assert engine.wait_until(lambda: not engine.context.connections)
    assert told.of.count(408) >= 3
    assert told.complete == [False, False, False, True]


def test_who_does_not_read_is_aborted(kind: list[str]) -> None:
    app = Large()
    with wire(app, *kind, limits=SHORT) as engine:
        with engine.connect(receive_buffer=4096) as client:
            client.sendall(GET_A)
            assert engine.wait_until_lost(client)
        with engine.connect(
            receive_buffer=4096
        ) as client:  # nor does one stay that has its answer, and reads none of it
            client.sendall(b"GET /a HTTP/1.0\r\n\r\n")
            client.shutdown(socket.SHUT_WR)
            assert engine.wait_until_lost(client)
        assert not engine.context.connections
        engine.call(lambda: None)
        assert not engine.context.tasks
    assert app.ended  # `send` gives nothing to nobody, and does not wait


def test_who_reads_gets_all_of_it(kind: list[str]) -> None:
    with wire(Large(), *kind, limits=SHORT) as engine, engine.connect(receive_buffer=65536) as client:
        client.sendall(b"GET /a HTTP/1.0\r\n\r\n")
        (response,) = read_responses(read_all(client))
        assert len(response.body) == 200 * 65536


@pytest.mark.parametrize("loop", LOOPS)
def test_a_refused_peer_that_goes_on_sending_is_closed_all_the_same(loop: str) -> None:
    with wire(Recorder(), loop) as engine, engine.connect() as client:
        client.sendall(b"BAD\r\n\r\n" + b"x" * 2_000_000)
        assert statuses(read_all(client)) == [400]
        assert engine.wait_until_lost(client)
