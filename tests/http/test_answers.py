"""How the engine answers: in order, whole, and with an end that is said; whoever leaves is let go."""

from __future__ import annotations

import asyncio
import logging
import re
import socket
import struct
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from duallisten.http import Connection, Exchange, Observer, hooks_of
from duallisten.http.answers import Answer
from tests.http.engine import (
    DEADLINE,
    LAST,
    LOOPS,
    PARSERS,
    Recorder,
    Wire,
    answer,
    by_hand,
    read_all,
    read_responses,
    read_until,
    statuses,
    wire,
)
from tests.http.streams import GET_A, GET_B, get, in_chunks, post, with_length


class Answers(Recorder):
    """Answers `/204`, `/304` and the like with that status and a body that should not be there; others as usual."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if not scope["path"][1:].isdigit():
            await super().__call__(scope, receive, send)
            return
        fields = [(b"content-length", b"4")] if scope["query_string"] == b"length" else []
        await send({"type": "http.response.start", "status": int(scope["path"][1:]), "headers": fields})
        await send({"type": "http.response.body", "body": b"nu", "more_body": True})
        await send({"type": "http.response.body", "body": b"ll"})


@pytest.fixture(scope="module", params=[f"{loop}-{parser}" for loop in LOOPS for parser in PARSERS])
def engine(request: pytest.FixtureRequest) -> Iterator[Wire]:
    loop, parser = request.param.split("-")
    with wire(Answers(), loop, parser) as made:
        yield made


# --- Responses without a body ---


@pytest.mark.parametrize("query", [b"", b"?length"])
def test_no_body_follows_an_answer_that_has_none(engine: Wire, app: Recorder, query: bytes) -> None:
    for status in (204, 304):
        got = engine.ask(get(path=b"/%d%s" % (status, query)) + GET_A + LAST)
        answers = read_responses(got)
        assert [one.status for one in answers] == [status, 200, 200]
        assert b"null" not in got
        assert b"transfer-encoding" not in answers[0].headers
        assert status != 204 or b"content-length" not in answers[0].headers


@pytest.mark.parametrize("query", [b"", b"?length"])
def test_an_answer_to_head_has_no_body(engine: Wire, app: Recorder, query: bytes) -> None:
    head = b"HEAD /200%s HTTP/1.1\r\nHost: x\r\n\r\n" % query
    got = engine.ask(head + b"HEAD /a HTTP/1.1\r\nHost: x\r\n\r\n" + LAST)
    answers = read_responses(got, heads=(0, 1))
    assert [(one.status, one.body) for one in answers] == [(200, b""), (200, b""), (200, b"/last")]
    assert answers[1].headers[b"content-length"] == b"2"
    assert b"null" not in got


async def test_a_body_that_is_dropped_is_warned_of_once(caplog: pytest.LogCaptureFixture) -> None:
    hand = by_hand(Answers())
    with caplog.at_level(logging.WARNING):
        await hand.send(get(path=b"/304") + get(path=b"/304") + LAST)
        await hand.settle()
    assert hand.statuses == [304, 304, 200]
    assert sum("304 has no body" in record.getMessage() for record in caplog.records) <= 1


# --- Expect: 100-continue ---

EXPECT = b"Expect: 100-continue"


def test_who_waits_for_100_gets_it_when_the_application_wants_the_body(engine: Wire, app: Recorder) -> None:
    for fields, body in (((b"Content-Length: 2",), b"ab"), ((b"Transfer-Encoding: chunked",), b"2\r\nab\r\n0\r\n\r\n")):
        for expect in (EXPECT, b"expect: 100-Continue"):
            with engine.connect() as client:
                client.sendall(post(expect, *fields))
                assert read_until(client, b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
                client.sendall(body + LAST)
                assert statuses(read_all(client)) == [200, 200]
    assert app.requests[0] == ("POST", "/a", b"ab")


def test_who_waits_for_100_and_is_answered_is_told_that_the_connection_ends(engine: Wire, app: Recorder) -> None:
    """The client may send the body or not: nobody knows what comes next."""
    for fields in ((b"Content-Length: 33",), (b"Transfer-Encoding: chunked",)):
        got = engine.ask(post(EXPECT, *fields, path=b"/early"))
        (response,) = read_responses(got)
        assert response.status == 200
        assert response.headers[b"connection"] == b"close"
        got = engine.ask(post(EXPECT, *fields, path=b"/early"), GET_B)
        assert statuses(got) == [200]
    assert app.paths == ["/early"] * 4


def test_who_sends_the_body_at_once_gets_no_100(engine: Wire, app: Recorder) -> None:
    for request in (
        with_length(EXPECT, body=b"ab"),
        in_chunks(EXPECT, body=b"ab"),
        post(EXPECT, b"Content-Length: 0"),
        get(EXPECT),
        with_length(b"Expect: 200-ok", body=b"ab"),
    ):
        assert statuses(engine.ask(request + LAST)) == [200, 200]
    got = engine.ask(b"POST /a HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n", b"ab")
    assert statuses(got) == [200]


# --- Order ---


def test_answers_come_in_the_order_of_their_requests(engine: Wire, app: Recorder) -> None:
    requests = b"".join(get(path=b"/%s" % name) for name in (b"a", b"b", b"c"))
    got = engine.ask(requests + with_length(body=b"d", path=b"/d") + b"BAD\r\n\r\n" + GET_A)
    assert [one.body for one in read_responses(got)][:4] == [b"/a", b"/b", b"/c", b"/d"]
    assert statuses(got) == [200, 200, 200, 200, 400]
    assert app.paths == ["/a", "/b", "/c", "/d"]


def test_an_application_never_has_two_requests_of_one_connection_at_a_time() -> None:
    at_once: list[int] = []
    running = 0

    async def app(scope: Any, receive: Any, send: Any) -> None:
        nonlocal running
        running += 1
        at_once.append(running)
        await asyncio.sleep(0)
        await answer(send, scope["path"].encode())
        running -= 1

    with wire(app) as engine:
        assert statuses(engine.ask(GET_A * 50 + LAST)) == [200] * 51
    assert at_once == [1] * 51


def test_a_good_request_then_one_that_is_cut_short_are_told_apart(engine: Wire, app: Recorder) -> None:
    got = engine.ask(GET_A + post(b"Content-Length: 10", body=b"12345"), half_close=True)
    assert statuses(got) == [200]
    assert app.paths == ["/a"]


# --- A client that has closed its half ---


def test_a_client_that_sends_nothing_more_is_answered(engine: Wire, app: Recorder) -> None:
    for stream, count in (
        (GET_A, 1),
        (GET_A + GET_B, 2),
        (GET_A * 20, 20),
        (with_length(body=b"ab"), 1),
        (in_chunks(body=b"ab"), 1),
        (with_length(body=b"x" * 200_000), 1),
        (GET_A + b"\r\n", 1),
        (GET_A + b"GET /b HTTP", 1),
        (b"GET /a HTTP/1.0\r\n\r\n", 1),
    ):
        assert statuses(engine.ask(stream, half_close=True)) == [200] * count, stream[:60]


def test_an_answer_that_takes_its_time_reaches_a_client_that_sends_nothing_more() -> None:
    for loop in LOOPS:
        go_on = threading.Event()

        async def app(scope: Any, receive: Any, send: Any, go_on: threading.Event = go_on) -> None:
            await asyncio.get_running_loop().run_in_executor(None, go_on.wait, DEADLINE)
            await answer(send, b"x" * 300_000)

        with wire(app, loop) as engine, engine.connect() as client:
            client.sendall(GET_A)
            client.shutdown(socket.SHUT_WR)
            engine.call(lambda: None)
            go_on.set()
            (response,) = read_responses(read_all(client))
            assert response.is_whole
            assert len(response.body) == 300_000


def test_a_client_that_leaves_in_its_head_gets_nothing(engine: Wire, app: Recorder) -> None:
    for stream in (b"", b"G", b"GET /a HTTP/1.1\r\nHost: x\r\n", b"\r\n", b"\r", b"GET /a HTTP/1.1\r\nHost: x\r\n\r"):
        assert engine.ask(stream, half_close=True) == b"", stream
    assert not app.seen


def test_an_application_hears_of_a_client_that_leaves_in_its_body(engine: Wire, app: Recorder) -> None:
    for stream in (post(b"Content-Length: 5", body=b"ab"), post(b"Transfer-Encoding: chunked", body=b"5\r\nab")):
        assert engine.ask(stream, half_close=True) == b""
    assert app.gone == ["/a", "/a"]


# --- Clients that reset ---


def reset(client: socket.socket) -> None:
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"GET /a HT",
        GET_A,
        post(b"Content-Length: 100", body=b"ab"),
        post(b"Transfer-Encoding: chunked", body=b"5\r\nab"),
        b"BAD\r\n\r\n",
        get(path=b"/early") + GET_B,
    ],
    ids=["nothing", "half a head", "a request", "half a body", "half a chunk", "nonsense", "two requests"],
)
def test_clients_that_reset_are_forgotten_at_once(engine: Wire, app: Recorder, sent: bytes) -> None:
    clients = [engine.connect() for _ in range(20)]
    for client in clients:
        engine.send(client, sent, b"")
    assert engine.wait_until(lambda: len(engine.context.connections) == len(clients) or sent[:3] == b"BAD")
    for client in clients:
        reset(client)
    assert engine.wait_until(lambda: not engine.context.connections)
    engine.call(lambda: None)
    assert not engine.context.tasks


def test_whatever_has_begun_is_told_to_have_ended_when_a_client_resets() -> None:
    class Told(Observer):
        def __init__(self) -> None:
            self.of: list[str] = []
            self.began = threading.Event()

        def connection_made(self, connection: Connection) -> None:
            self.of.append("made")

        def connection_lost(self, connection: Connection) -> None:
            self.of.append("lost")

        def exchange_began(self, exchange: Exchange) -> None:
            self.of.append("began")

        def exchange_ended(self, exchange: Exchange) -> None:
            self.of.append(f"ended {exchange.complete}")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        told.began.set()
        while (await receive())["type"] != "http.disconnect":
            pass

    for loop in LOOPS:
        told = Told()
        with wire(app, loop, hooks=hooks_of([told])) as engine:
            client = engine.connect()
            client.sendall(GET_A)
            assert told.began.wait(DEADLINE)
            reset(client)
            assert engine.wait_until(lambda: "lost" in told.of)  # noqa: B023
        assert told.of == ["made", "began", "ended False", "lost"]


# --- The end of the server ---


@pytest.mark.parametrize("parser", PARSERS)
async def test_at_the_end_idle_connections_close_and_requests_in_hand_are_answered(parser: str) -> None:
    go_on = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await go_on.wait()
        await answer(send, b"done")

    idle, half, busy = (by_hand(app, parser) for _ in range(3))
    await half.send(b"GET /a HTTP/1.1\r\nHo")
    await busy.send(GET_A + GET_B)
    for hand in (idle, half, busy):
        hand.connection.context.is_ending = True
        hand.connection.shutdown()
        await hand.settle()
    assert (idle.is_lost, half.is_lost, busy.has_ended) == (True, True, False)
    go_on.set()
    await busy.settle()
    (response,) = read_responses(bytes(busy.written))
    assert response.headers[b"connection"] == b"close"
    assert busy.has_ended
    assert not busy.faults


@pytest.mark.parametrize("parser", PARSERS)
async def test_at_the_end_nobody_waits_for_a_body_longer_than_usual(parser: str) -> None:
    from duallisten.http import Limits
    from tests.http.engine import clock_of

    app = Recorder()
    hand = by_hand(app, parser, limits=Limits(body_seconds=60))
    await hand.send(post(b"Content-Length: 5", body=b"ab"))
    hand.connection.shutdown()
    assert not hand.has_ended
    clock_of(hand).advance(61)
    await hand.settle()
    assert hand.statuses == [408]
    assert app.gone == ["/a"]
    clock_of(hand).advance(2)
    await hand.settle()
    assert hand.is_lost


@pytest.mark.parametrize("parser", PARSERS)
async def test_what_is_written_is_counted_once_whatever_it_is(parser: str) -> None:
    early = b"POST /early HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n12"
    patient = b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n"
    for stream, expected in (
        (GET_A + GET_B, [200, 200]),
        (GET_A + early, [200, 200]),  # the peer leaves when its answer is complete, and its body is not
        (GET_A + b"GET / HTTP/1.1\r\n\r\n", [200, 400]),
        (patient, [100]),
    ):
        hand = by_hand(Recorder(), parser)
        await hand.send(stream)
        await hand.settle()
        assert [int(found) for found in re.findall(rb"HTTP/1\.1 (\d{3}) ", hand.written)] == expected
        await hand.reset()
        assert hand.connection.sent == len(hand.written), stream


def test_an_answer_of_ours_says_the_same_in_messages_and_on_the_wire() -> None:
    ours = Answer(405, b"Not Allowed", ((b"allow", b"GET"), (b"content-type", b"text/plain")))
    start, body = ours.messages("websocket.http.response")
    fields = [(b"allow", b"GET"), (b"content-type", b"text/plain"), (b"content-length", b"11")]
    assert start == {"type": "websocket.http.response.start", "status": 405, "headers": fields}
    assert body == {"type": "websocket.http.response.body", "body": b"Not Allowed"}
    (sent,) = read_responses(ours.encode(b"server: x\r\n"))
    assert (sent.status, sent.body) == (405, b"Not Allowed")
    assert sent.headers == {b"server": b"x", **dict(fields), b"connection": b"close"}
    (head,) = read_responses(ours.encode(with_body=False), heads=[0])
    assert (head.headers[b"content-length"], head.body) == (b"11", b"")
