"""What one peer may have done for it: work in one turn of the event loop, memory, fields, bytes. Nothing is timed here."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from duallisten.http import Limits
from duallisten.http.chunks import MAX_OVERHEAD
from duallisten.http.connection import HIGH_WATER
from duallisten.http.request import MAX_LINES
from tests.http.engine import (
    LAST,
    LOOPS,
    PARSERS,
    Hand,
    Recorder,
    Wire,
    answer,
    by_hand,
    clock_of,
    read_all,
    statuses,
    wire,
)
from tests.http.streams import GET_A, GET_B, get, head, in_chunks, post, with_length
from tests.support.bad_requests import HIDDEN

with_parsers = pytest.mark.parametrize("parser", PARSERS)

IN_CHUNKS = post(b"Transfer-Encoding: chunked")
EARLY_IN_CHUNKS = post(b"Transfer-Encoding: chunked", path=b"/early")
TINY = b"1\r\nx\r\n"
FAIR = b"14\r\n" + b"x" * 20 + b"\r\n"
"""A chunk whose framing does not outweigh its data, by little."""


class Pieces:
    """Notes how many bytes each `receive` gives."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            self.sizes.append(len(message["body"]))
            if not message["more_body"]:
                break
        await answer(send, b"read")


class Turns:
    """Notes in which turn of the event loop an application was called."""

    def __init__(self) -> None:
        self.turn = 0
        self.calls: list[int] = []
        self._loop = asyncio.get_running_loop()
        self._tick()

    def _tick(self) -> None:
        self.turn += 1
        self._handle = self._loop.call_soon(self._tick)

    def stop(self) -> None:
        self._handle.cancel()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.calls.append(self.turn)
        await answer(send, b"")


# --- Row 20: framing ---


@with_parsers
async def test_a_read_full_of_chunks_is_used_a_part_at_a_time(parser: str) -> None:
    """So the other connections have their turn in between, and reading is paused until then."""
    app = Pieces()
    hand = by_hand(app, parser)
    await hand.send(IN_CHUNKS)
    count = 10 * MAX_LINES
    hand.connection.data_received(FAIR * count)
    exchange = hand.connection.exchange
    assert exchange is not None
    assert exchange.body_bytes <= 20 * MAX_LINES
    assert hand.is_paused
    await hand.settle()
    assert sum(app.sizes) == 20 * count
    assert max(app.sizes) <= 20 * MAX_LINES
    assert not hand.is_paused
    await hand.send(b"0\r\n\r\n")
    assert hand.statuses == [200]


@with_parsers
async def test_chunks_that_nobody_reads_are_thrown_away_a_part_at_a_time(parser: str) -> None:
    hand = by_hand(Recorder(), parser)
    await hand.send(EARLY_IN_CHUNKS)
    assert hand.statuses == [200]
    hand.connection.data_received(FAIR * (10 * MAX_LINES) + b"0\r\n\r\n" + GET_B)
    assert hand.is_paused
    assert hand.statuses == [200]
    await hand.settle()
    assert hand.statuses == [200, 200]
    assert not hand.is_paused


@with_parsers
@pytest.mark.parametrize("opening", [IN_CHUNKS, EARLY_IN_CHUNKS], ids=["read", "thrown away"])
@pytest.mark.parametrize(
    "chunk",
    [
        TINY,
        b"1;" + b"a" * 50 + b"\r\nx\r\n",
        b"0000001\r\nx\r\n",
        b"3;a=b;c=d\r\nxyz\r\n",
        b"a;" + b"b" * 4000 + b"\r\n0123456789\r\n",
    ],
    ids=["tiny", "an extension", "zeros", "two extensions", "a long extension"],
)
async def test_framing_that_outweighs_the_data_is_refused(parser: str, opening: bytes, chunk: bytes) -> None:
    for batch in (1, 50, 5000):  # chunks in a read
        app = Recorder()
        hand = by_hand(app, parser)
        await hand.send(opening)
        sent = 0
        while not hand.has_ended and sent < 100 * MAX_OVERHEAD:
            sent += batch * len(chunk)
            await hand.send(chunk * batch, turns=1)
        if batch == 1:
            assert sent <= 4 * MAX_OVERHEAD
        await hand.settle()
        assert hand.statuses == ([400] if opening == IN_CHUNKS else [200])
        assert hand.has_ended
        assert not hand.faults
        assert app.gone == (["/a"] if opening == IN_CHUNKS else [])


@with_parsers
async def test_small_chunks_that_carry_their_weight_are_served(parser: str) -> None:
    """Lines of text, as a program writes them that streams its log."""
    app = Recorder()
    hand = by_hand(app, parser)
    await hand.send(IN_CHUNKS + (b"1e\r\n" + b"l" * 29 + b"\n\r\n") * 5000 + b"0\r\n\r\n" + LAST)
    await hand.settle()
    assert hand.statuses == [200, 200]
    assert len(app.seen[0].body) == 150_000


@with_parsers
async def test_some_tiny_chunks_are_served(parser: str) -> None:
    app = Recorder()
    hand = by_hand(app, parser)
    await hand.send(IN_CHUNKS + TINY * 2000 + b"0\r\n\r\n" + LAST)
    await hand.settle()
    assert hand.statuses == [200, 200]
    assert app.seen[0].body == b"x" * 2000


@with_parsers
@pytest.mark.parametrize(
    "trailers", [b"X-A: b\r\n" * 20_000, b"X-A: " + b"b" * 200_000, b"x" * 200_000], ids=["many", "large", "nameless"]
)
async def test_a_trailer_section_without_end_is_refused(parser: str, trailers: bytes) -> None:
    for size in (1000, 65536):
        hand = by_hand(Recorder(), parser)
        await hand.send(IN_CHUNKS + b"0\r\n")
        await hand.send(*(trailers[at : at + size] for at in range(0, len(trailers), size)))
        await hand.settle()
        assert len(hand.statuses) == 1
        assert hand.statuses[0] in (400, 431)
        assert hand.has_ended


@with_parsers
async def test_a_chunk_size_without_end_is_refused(parser: str) -> None:
    for line in (b"1" * 100_000, b"5;" + b"a" * 100_000, b"0" * 100_000):
        hand = by_hand(Recorder(), parser)
        await hand.send(IN_CHUNKS)
        await hand.send(*(line[at : at + 1000] for at in range(0, 10_000, 1000)))
        await hand.settle()
        assert hand.statuses == [400]


# --- Requests in one packet ---


@with_parsers
async def test_of_many_requests_in_one_packet_each_has_a_turn_of_its_own(parser: str) -> None:
    app = Turns()
    hand = by_hand(app, parser)
    await hand.send(GET_A * 1000 + LAST)
    while not hand.has_ended:
        await hand.settle()
    app.stop()
    assert hand.statuses == [200] * 1001
    assert max(app.calls.count(turn) for turn in set(app.calls)) <= 2


@with_parsers
async def test_requests_that_come_faster_than_they_are_answered_are_not_read(parser: str) -> None:
    go_on = asyncio.Event()
    count = 0

    async def app(scope: Any, receive: Any, send: Any) -> None:
        nonlocal count
        count += 1
        await go_on.wait()
        await answer(send, b"")

    hand = by_hand(app, parser)
    sent = 0
    while not hand.is_paused:
        hand.connection.data_received(GET_A * 100)
        sent += 100
        assert sent * len(GET_A) < 4 * HIGH_WATER
        await asyncio.sleep(0)
    assert count == 1
    go_on.set()
    await hand.send(LAST)
    while not hand.has_ended:
        await hand.settle()
    assert hand.statuses == [200] * (sent + 1)
    assert not hand.faults


@with_parsers
@pytest.mark.parametrize("make", [with_length, in_chunks], ids=["a length", "chunks"])
async def test_a_body_that_comes_faster_than_it_is_wanted_is_not_read(parser: str, make: Any) -> None:
    want = asyncio.Event()
    recorder = Recorder()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await want.wait()
        await recorder(scope, receive, send)

    hand = by_hand(app, parser)
    stream = make(body=HIDDEN * 20_000) + LAST
    sent = 0
    while not hand.is_paused:
        hand.connection.data_received(stream[sent : sent + 10_000])
        sent += 10_000
        assert sent < 2 * HIGH_WATER
        await asyncio.sleep(0)
    want.set()
    await hand.send(*(stream[at : at + 50_000] for at in range(sent, len(stream), 50_000)))
    await hand.settle()
    assert hand.statuses == [200, 200]
    assert recorder.seen[0].body == HIDDEN * 20_000


# --- Rows 36 and 39: what a peer may send ---


@pytest.fixture(scope="module", params=[f"{loop}-{parser}" for loop in LOOPS for parser in PARSERS])
def engine(request: pytest.FixtureRequest) -> Iterator[Wire]:
    loop, parser = request.param.split("-")
    with wire(Recorder(), loop, parser, limits=Limits(body_bytes=1000)) as made:
        yield made


def fields(count: int) -> bytes:
    """A request with as many fields, Host included."""
    return get(*(b"X-%d: y" % number for number in range(count - 1)))


def test_a_head_has_at_most_a_hundred_fields(engine: Wire, app: Recorder) -> None:
    assert statuses(engine.ask(fields(100) + LAST)) == [200, 200]
    for count in (101, 102, 1000, 5000):
        assert statuses(engine.ask(fields(count) + HIDDEN)) == [431], count
        assert statuses(engine.ask(GET_A + fields(count) + HIDDEN)) == [200, 431], count
    many = b"GET /a HTTP/1.1\r\nHost: x\r\n" + b"a:\r\n" * 15_999 + b"\r\n"
    assert len(many) < 65536
    assert statuses(engine.ask(many + HIDDEN)) == [431]
    assert statuses(engine.ask(get(*(b"X-A: y",) * 100) + HIDDEN)) == [431]  # they have one name
    assert "/hidden" not in app.paths


@with_parsers
async def test_without_a_limit_a_head_has_any_number_of_fields(parser: str) -> None:
    app = Recorder()
    hand = by_hand(app, parser, limits=Limits(head_fields=None))
    await hand.send(fields(2000))
    await hand.settle()
    assert hand.statuses == [200]
    assert len(app.seen[0].headers) == 2000


def test_a_head_has_at_most_so_many_bytes(engine: Wire, app: Recorder) -> None:
    room = 65536 - len(get(b"X-A: "))
    assert statuses(engine.ask(get(b"X-A: " + b"y" * room) + LAST)) == [200, 200]
    for request in (
        get(b"X-A: " + b"y" * (room + 1)),
        get(path=b"/" + b"y" * 65536),
        b"GET /a HTTP/1.1\r\nHost: x\r\nX-A: " + b"y" * 70_000,  # and no end
        b"G" * 70_000,
        b"GET /" + b"a" * 70_000,
        b"GET /a HTTP/1.1\r\n" + b"a:\r\n" * 20_000,
    ):
        for segments in ((request + HIDDEN,), (request[:100], request[100:40_000], request[40_000:])):
            assert statuses(engine.ask(*segments)) == [431], request[:20]
    assert app.paths == ["/a", "/last"]


@with_parsers
async def test_a_head_is_bounded_however_it_comes(parser: str) -> None:
    for limit in (200, 1000):
        for end in (0, 1):
            hand = by_hand(Recorder(), parser, limits=Limits(head_bytes=limit))
            stream = get(b"X-A: " + b"y" * (limit + end - len(get(b"X-A: "))))
            assert len(stream) == limit + end
            await hand.send(*(stream[at : at + 1] for at in range(len(stream))), turns=1)
            await hand.settle()
            assert hand.statuses == [431 if end else 200]


def test_a_body_has_at_most_so_many_bytes(engine: Wire, app: Recorder) -> None:
    for make in (with_length, in_chunks):
        for path in (b"/a", b"/early"):
            assert statuses(engine.ask(make(body=b"x" * 1000, path=path) + LAST)) == [200, 200]
    app.seen.clear()
    for size in (1001, 5000, 1 << 40):
        too_large = post(b"Content-Length: %d" % size, body=b"x" * 900)
        assert statuses(engine.ask(too_large)) == [413]
        assert statuses(engine.ask(GET_A + too_large)) == [200, 413]
        assert statuses(engine.ask(post(b"Expect: 100-continue", b"Content-Length: %d" % size))) == [413]
        assert statuses(engine.ask(get(b"Connection: Upgrade", b"Upgrade: foo", b"Content-Length: %d" % size))) == [413]
    assert app.paths == ["/a"] * 3
    for body in (
        b"3e9\r\n",
        b"3e8\r\n" + b"x" * 1000 + b"\r\n1\r\n",
        b"1\r\nx\r\n" * 1000 + b"1\r\n",
        b"fffffffffffffff\r\n",
    ):
        for segments in ((IN_CHUNKS + body,), (IN_CHUNKS, body)):
            assert statuses(engine.ask(*segments)) == [413], body[:8]
    assert app.paths == ["/a"] * 3
    assert set(app.gone) == {"/a"}, "an application that was called hears of it"


async def test_a_body_that_turns_out_too_large_ends_an_answer_that_has_begun() -> None:
    for parser in PARSERS:
        hand = by_hand(Recorder(), parser, limits=Limits(body_bytes=1000))
        await hand.send(EARLY_IN_CHUNKS)
        await hand.send(b"3e9\r\n" + HIDDEN)
        await hand.settle()
        assert hand.statuses == [200]
        assert hand.has_ended
        assert not hand.faults
        clock_of(hand).advance(2)
        await hand.settle()
        assert hand.is_lost


def test_a_client_that_does_not_stop_sending_reads_its_413(engine: Wire, app: Recorder) -> None:
    with engine.connect() as client:
        client.sendall(post(b"Content-Length: 5000000", body=b"x" * 3_000_000))
        assert statuses(read_all(client)) == [413]


# --- Row 30: a handshake is a head ---


@with_parsers
async def test_a_handshake_with_a_body_or_too_large_a_head_is_refused(parser: str) -> None:
    handshake = (
        b"Connection: Upgrade",
        b"Upgrade: websocket",
        b"Sec-WebSocket-Version: 13",
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    )
    for request, right in (
        (get(*handshake, b"Content-Length: 5") + b"abcde", 400),
        (get(*handshake, b"Content-Length: 33") + HIDDEN, 400),
        (get(*handshake, b"Transfer-Encoding: chunked") + b"0\r\n\r\n" + HIDDEN, 400),
        (get(*handshake, *(b"X-%d: y" % number for number in range(200))), 431),
        (get(*handshake, b"X-A: " + b"y" * 70_000), 431),
        (get(*handshake, path=b"/" + b"y" * 70_000), 431),
        (get(*handshake, b"Host: y"), 400),
        (head(b"GET /a HTTP/1.1", *handshake), 400),
    ):
        app = Recorder()
        hand: Hand = by_hand(app, parser)
        await hand.send(request)
        await hand.settle()
        assert hand.statuses == [right], request[:200]
        assert hand.has_ended
        assert not app.seen
