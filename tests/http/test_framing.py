"""Where a request ends, and whether it is one: on the wire, with both parsers and event loops, and cut everywhere."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from tests.http.engine import LAST, LOOPS, PARSERS, Hand, Recorder, Wire, by_hand, statuses, wire
from tests.http.streams import ENDED_BY_VERSION, GET_A, GET_B, LARGE_ONES, REFUSED, SERVED, Refused, Served, get
from tests.support.bad_requests import HIDDEN

LAST_SEEN = ("GET", "/last", b"")


@pytest.fixture(scope="module", params=[f"{loop}-{parser}" for loop in LOOPS for parser in PARSERS])
def engine(request: pytest.FixtureRequest) -> Iterator[Wire]:
    """The engine with an event loop and a parser, without WebSockets."""
    loop, parser = request.param.split("-")
    with wire(Recorder(), loop, parser, websocket=None) as made:
        yield made


def cuts(stream: bytes) -> list[tuple[bytes, ...]]:
    """The stream whole, cut behind its first head, and cut in three."""
    end = stream.find(b"\r\n\r\n") + 4
    third = max(1, len(stream) // 3)
    return [
        (stream,),
        tuple(part for part in (stream[:end], stream[end:]) if part),
        (stream[: end - 3], stream[end - 3 : end + 2], stream[end + 2 :] or b"\r\n"),
        (stream[:third], stream[third : 2 * third], stream[2 * third :]),
    ]


@pytest.mark.parametrize("cases", [*SERVED.values(), LARGE_ONES], ids=[*SERVED, "large ones"])
def test_what_is_well_formed_is_served_with_its_own_body(engine: Wire, app: Recorder, cases: list[Served]) -> None:
    for case in cases:
        for segments in cuts(case.sent + LAST):
            app.seen.clear()
            assert statuses(engine.ask(*segments)) == [200] * (len(case.seen) + 1), case.name
            assert app.requests == [*case.seen, LAST_SEEN], case.name


def test_what_is_behind_the_last_request_is_not_served(engine: Wire, app: Recorder) -> None:
    for case in ENDED_BY_VERSION:
        for at in (0, 5, case.sent.find(b"\r\n\r\n")):
            app.seen.clear()
            assert statuses(engine.ask(case.sent[:at], case.sent[at:])) == [200] * len(case.seen), case.name
            assert app.requests == list(case.seen), case.name


@pytest.mark.parametrize("cases", REFUSED.values(), ids=REFUSED)
def test_what_can_be_read_in_two_ways_is_refused_and_ends_the_connection(
    engine: Wire, app: Recorder, cases: list[Refused]
) -> None:
    for case in cases:
        for segments in cuts(case.sent)[:3]:
            answers = statuses(engine.ask(*segments))
            assert len(answers) == 1, case.name
            assert answers[0] in case.statuses, case.name
            assert not app.seen, case.name


@pytest.mark.parametrize("cases", REFUSED.values(), ids=REFUSED)
def test_what_is_refused_is_so_behind_good_requests_too(engine: Wire, app: Recorder, cases: list[Refused]) -> None:
    goods = (GET_A + GET_B, b"\r\n" + GET_A + get(b"Connection: Upgrade", b"Upgrade: foo", path=b"/b"))
    for number, case in enumerate(cases):
        app.seen.clear()
        answers = statuses(engine.ask(goods[number % 2] + case.sent))
        assert answers[:2] == [200, 200], case.name
        assert len(answers) == 3, case.name
        assert answers[2] in case.statuses, case.name
        assert app.paths == ["/a", "/b"], case.name


# --- Cut everywhere, by hand ---

Feed = Callable[[Hand, bytes], Awaitable[None]]


async def byte_by_byte(hand: Hand, stream: bytes) -> None:
    await hand.send(*(stream[at : at + 1] for at in range(len(stream))), turns=1)
    await hand.settle(8)


def cut_at(at: int) -> Feed:
    async def feed(hand: Hand, stream: bytes) -> None:
        await hand.send(stream[:at], stream[at:], turns=3)
        await hand.settle(8)

    return feed


def ways(stream: bytes, number: int) -> list[Feed]:
    """Byte by byte, and in two at each place; of a long one at each sixth place, of which the next one has others."""
    step = 1 if len(stream) < 200 else 6
    return [byte_by_byte, *(cut_at(at) for at in range(1 + number % step, min(len(stream), 600), step))]


@pytest.mark.parametrize("parser", PARSERS)
@pytest.mark.parametrize("cases", SERVED.values(), ids=SERVED)
async def test_it_makes_no_difference_where_a_good_stream_is_cut(parser: str, cases: list[Served]) -> None:
    for number, case in enumerate(cases):
        stream = case.sent + LAST
        for feed in ways(stream, number):
            app = Recorder()
            hand = by_hand(app, parser, websocket=None)
            await feed(hand, stream)
            assert (hand.statuses, app.requests) == ([200] * (len(case.seen) + 1), [*case.seen, LAST_SEEN]), case.name
            assert hand.is_lost
            assert not hand.faults


@pytest.mark.parametrize("parser", PARSERS)
@pytest.mark.parametrize("cases", REFUSED.values(), ids=REFUSED)
async def test_it_makes_no_difference_where_a_bad_stream_is_cut(parser: str, cases: list[Refused]) -> None:
    for number, case in enumerate(cases):
        for feed in ways(case.sent, number):
            app = Recorder()
            hand = by_hand(app, parser, websocket=None)
            await feed(hand, case.sent)
            assert not app.seen, case.name
            assert len(hand.statuses) == 1, case.name
            assert hand.statuses[0] in case.statuses, case.name
            assert hand.has_ended, case.name
            assert not hand.faults, case.name
            await hand.half_close()
            assert hand.is_lost


@pytest.mark.parametrize("parser", PARSERS)
async def test_a_chunked_stream_of_any_read_size_gives_the_same_body(parser: str) -> None:
    for case in LARGE_ONES:
        for size in (1000, 4093, 65536):
            app = Recorder()
            hand = by_hand(app, parser, websocket=None)
            stream = case.sent + LAST
            await hand.send(*(stream[at : at + size] for at in range(0, len(stream), size)))
            await hand.settle()
            assert app.requests == [*case.seen, LAST_SEEN], case.name
            assert not hand.faults


@pytest.mark.parametrize("parser", PARSERS)
async def test_trailers_are_no_headers(parser: str) -> None:
    app = Recorder()
    hand = by_hand(app, parser)
    await hand.send(
        b"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTrailer: X-A\r\n\r\n"
        b"2\r\nab\r\n0\r\nX-A: b\r\nHost: y\r\nX-Forwarded-For: 10.0.0.1\r\n\r\n" + GET_B
    )
    await hand.settle()
    assert [name for name, _ in app.seen[0].headers] == [b"host", b"transfer-encoding", b"trailer"]
    assert app.seen[1].headers == ((b"host", b"x"),)


@pytest.mark.parametrize("parser", PARSERS)
async def test_a_later_request_needs_a_host_of_its_own(parser: str) -> None:
    for later in (b"GET /b HTTP/1.1\r\n\r\n", b"GET /b HTTP/1.1\r\nHost: x/y\r\n\r\n"):
        app = Recorder()
        hand = by_hand(app, parser)
        await hand.send(GET_A + later + HIDDEN)
        await hand.settle()
        assert hand.statuses == [200, 400], later
        assert app.paths == ["/a"]


@pytest.mark.parametrize("parser", PARSERS)
async def test_the_headers_of_an_ignored_upgrade_reach_the_application(parser: str) -> None:
    app = Recorder()
    hand = by_hand(app, parser)
    await hand.send(
        b"POST /a HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nX-A: b\r\nUpgrade: h2c\r\nContent-Length: 1\r\n\r\n1"
    )
    await hand.settle()
    assert dict(app.seen[0].headers) == {
        b"host": b"x",
        b"connection": b"Upgrade",
        b"x-a": b"b",
        b"upgrade": b"h2c",
        b"content-length": b"1",
    }
    assert app.seen[0].body == b"1"


@pytest.mark.parametrize("parser", PARSERS)
async def test_a_handshake_is_refused_in_its_turn_and_nothing_behind_it_is_lost_in_silence(parser: str) -> None:
    """The answer to the first request arrives; then the handshake's; then the next request's, or the end is said."""
    handshake = get(b"Connection: Upgrade", b"Upgrade: websocket", b"Sec-WebSocket-Version: 13", path=b"/ws")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await recorder(scope, receive, send)

    recorder = Recorder()
    hand = by_hand(app, parser)
    await hand.send(GET_A + handshake + GET_B)
    await hand.settle()
    assert hand.statuses[0] == 200
    assert 400 <= hand.statuses[1] < 500  # it has no key
    assert recorder.paths in (["/a"], ["/a", "/b"])
    assert ("/b" in recorder.paths) == (len(hand.statuses) == 3)
    assert ("/b" in recorder.paths) != (b"connection: close" in bytes(hand.written).lower())
