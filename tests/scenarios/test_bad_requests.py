"""What is sent that is no request, or two in one: on the wire, with both parsers, and a byte at a time."""

from __future__ import annotations

import logging
import re
import socket
from collections.abc import Iterator

import pytest

from duallisten.sides import Receive, Scope, Send
from tests.support.applications import Observed, answer
from tests.support.bad_requests import CHUNKED, EMPTY, HIDDEN, ODD, REFUSED, Bad, post
from tests.support.running import DEADLINE, ObservedServer, serving


class Reader(Observed):
    """Reads the body of each request before it answers; `/early` is answered first, `/streamed` in two parts."""

    def __init__(self) -> None:
        super().__init__()
        self.bodies: list[bytes] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await super().__call__(scope, receive, send)
            return
        self.scopes.append(scope)
        if scope["path"] == "/early":
            await answer(send, b"early")
        if scope["path"] == "/streamed":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"first", "more_body": True})
        body, more = b"", True
        while more:
            message = await receive()
            if message["type"] != "http.request":
                return
            body, more = body + message["body"], message["more_body"]
        self.bodies.append(body)
        if scope["path"] == "/streamed":
            await send({"type": "http.response.body", "body": b"last"})
        elif scope["path"] != "/early":
            await answer(send, b"served")

    @property
    def paths(self) -> list[str]:
        return [scope["path"] for scope in self.scopes]


@pytest.fixture(scope="module", params=["h11", "httptools"])
def server(request: pytest.FixtureRequest) -> Iterator[ObservedServer]:
    with serving(Reader(), http=request.param) as made:
        yield made


@pytest.fixture
def app(server: ObservedServer) -> Reader:
    app: Reader = server.config.app  # type: ignore[assignment]
    app.scopes.clear()
    app.bodies.clear()
    return app


def exchange(server: ObservedServer, *sent: bytes, done: bool = False) -> bytes:
    """Send bytes over one connection, each part when something has been answered, and give all that comes back.

    done: whether to say that nothing more will come
    """
    with socket.create_connection(server.addresses["public"], timeout=DEADLINE) as connection:
        got = b""
        for number, part in enumerate(sent):
            if number:
                got += connection.recv(65536)
            connection.sendall(part)
        if done:
            connection.shutdown(socket.SHUT_WR)
        while data := connection.recv(65536):
            got += data
        return got


def statuses(answers: bytes) -> list[int]:
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", answers)]


def complaints(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]


@pytest.mark.parametrize("bad", REFUSED, ids=lambda bad: bad.name)
def test_what_can_be_read_in_two_ways_is_refused(
    server: ObservedServer, app: Reader, bad: Bad, caplog: pytest.LogCaptureFixture
) -> None:
    answers = exchange(server, bad.sent, done=server.config.http in bad.waits)
    assert "/hidden" not in app.paths
    assert len(statuses(answers)) <= 1  # a connection that one could still read as that of a HTTP/1.0 client is closed
    assert not complaints(caplog)


@pytest.mark.parametrize("odd", ODD, ids=lambda odd: odd.name)
def test_what_is_merely_odd_leaves_no_traceback(
    server: ObservedServer, app: Reader, odd: Bad, caplog: pytest.LogCaptureFixture
) -> None:
    exchange(server, odd.sent, done=True)
    assert not complaints(caplog)


def test_the_answer_arrives_though_more_is_sent_than_anyone_reads(server: ObservedServer, app: Reader) -> None:
    """A close on top of unread bytes would be a reset, which overtakes the answer."""
    with socket.create_connection(server.addresses["public"], timeout=DEADLINE) as connection:
        connection.sendall(b"\x00" * 2_000_000)
        assert statuses(connection.recv(65536)) in ([400], [431])
    assert not app.paths


GET = b"GET /%s HTTP/1.1\r\nHost: x\r\n\r\n"


def test_requests_in_hand_are_answered_before_what_cannot_be_read(server: ObservedServer, app: Reader) -> None:
    answers = exchange(server, GET % b"one" + GET % b"two" + b"\x00\r\n\r\n" + GET % b"three")
    assert app.paths == ["/one", "/two"]
    assert answers.count(b"served") == 2
    assert statuses(answers) in ([200, 200], [200, 200, 400])


def test_a_broken_body_behind_another_request_is_answered_in_its_place(server: ObservedServer, app: Reader) -> None:
    answers = exchange(server, GET % b"one" + post(CHUNKED, b"x\r\n" + HIDDEN))
    assert answers.index(b"served") < answers.index(b"400 Bad Request")
    assert "/hidden" not in app.paths


def test_a_body_that_breaks_within_its_answer_ends_the_connection(
    server: ObservedServer, app: Reader, caplog: pytest.LogCaptureFixture
) -> None:
    head = b"POST /streamed HTTP/1.1\r\nHost: x\r\n" + CHUNKED + b"\r\n"
    answers = exchange(server, head, b"no size\r\n" + HIDDEN)
    assert statuses(answers) == [200]
    assert b"last" not in answers
    assert not app.bodies
    assert not complaints(caplog)


def test_a_body_that_breaks_after_its_answer_is_not_answered_again(
    server: ObservedServer, app: Reader, caplog: pytest.LogCaptureFixture
) -> None:
    head = b"POST /early HTTP/1.1\r\nHost: x\r\n" + CHUNKED + b"\r\n"
    assert statuses(exchange(server, head, b"no size\r\n" + HIDDEN)) == [200]
    assert app.paths == ["/early"]
    assert not complaints(caplog)


def test_trailers_are_no_headers(server: ObservedServer, app: Reader) -> None:
    request = post(
        CHUNKED + b"Connection: close\r\n", b"2\r\nab\r\n0\r\nX-Forwarded-For: 10.240.0.9\r\nHost: y\r\n\r\n"
    )
    assert statuses(exchange(server, request)) == [200]
    assert app.bodies == [b"ab"]
    assert [name for name, _ in app.scopes[0]["headers"]] == [b"host", b"transfer-encoding", b"connection"]


def test_a_body_in_chunks_arrives_whole(server: ObservedServer, app: Reader) -> None:
    parts = [b"%x\r\n%s\r\n" % (size, b"x" * size) for size in (1, 70_000, 15, 200_000)]
    request = (
        post(CHUNKED, b"".join([*parts, EMPTY])) + GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n") % b"next"
    )
    assert statuses(exchange(server, request)) == [200, 200]
    assert app.bodies == [b"x" * 270_016, b""]
    assert app.paths == ["/outer", "/next"]
