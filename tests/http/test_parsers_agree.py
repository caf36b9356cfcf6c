"""httptools and h11 make the same of the same bytes: what one of them serves, the other serves alike, or neither does.

Where they disagreed, one of them would read a stream otherwise than a proxy in front that uses the other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from duallisten.http.head import METHODS, BadRequest
from duallisten.http.parsers import parser_class
from duallisten.http.request import RequestReader
from duallisten.http.settings import Limits
from tests.http import fuzz
from tests.http.engine import PARSERS, Recorder, Seen, by_hand
from tests.support.bad_requests import HIDDEN

fixed = settings(max_examples=150, derandomize=True, deadline=None, database=None)

Outcome = tuple[list[Seen], list[int], bool]
"""What the application sees, the statuses of the answers, and whether the connection has ended."""


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


async def outcomes(stream: bytes, cuts: list[int]) -> list[Outcome]:
    found = []
    for parser in PARSERS:
        app = Recorder()
        hand = by_hand(app, parser, websocket=None)
        await hand.send(*fuzz.segments(stream, cuts), turns=1)
        await hand.settle(6)
        assert not hand.faults
        found.append((fuzz.alike(app.seen), fuzz.final_statuses(hand, app), hand.has_ended))
    return found


def assert_agreed(runner: asyncio.Runner, stream: bytes, cuts: list[int]) -> None:
    first, second = runner.run(outcomes(stream, cuts))
    assert first == second
    (whole, _) = runner.run(outcomes(stream, []))
    assert whole[0] == first[0], "it makes a difference where it is cut"


# --- By the grammar ---

bits = st.sampled_from(fuzz.BITS)
fields = st.lists(st.sampled_from(fuzz.FIELDS), max_size=4).map(lambda found: [b"Host: x", *found])
bodies = st.one_of(
    st.just(b""),
    st.just(HIDDEN),
    st.lists(st.sampled_from(fuzz.CHUNKS), max_size=4).map(b"".join),
)
lines = st.one_of(
    st.sampled_from([b"GET /a HTTP/1.1", b"POST /a HTTP/1.1"]),
    st.tuples(*map(st.sampled_from, (fuzz.METHODS, fuzz.TARGETS, fuzz.VERSIONS))).map(b" ".join),
)
requests = st.builds(lambda line, found, body: b"\r\n".join((line, *found, b"", b"")) + body, lines, fields, bodies)
streams = st.lists(requests, min_size=1, max_size=3).map(b"".join)
cuts = st.lists(st.integers(1, 300), max_size=3)


@fixed
@given(streams, cuts)
def test_they_agree_on_what_the_grammar_can_make(runner: asyncio.Runner, stream: bytes, cuts: list[int]) -> None:
    assert_agreed(runner, stream, cuts)


# --- By bytes ---

samples = st.sampled_from(fuzz.SAMPLES)
edits = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 3), st.one_of(bits, st.binary(max_size=2))), max_size=4)


def edited(stream: bytes, edits: list[tuple[float, int, bytes]]) -> bytes:
    for place, length, new in edits:
        at = int(place * len(stream))
        stream = stream[:at] + new + stream[at + length :]
    return stream


@fixed
@given(st.builds(edited, samples, edits), cuts)
def test_they_agree_on_what_is_nearly_a_request(runner: asyncio.Runner, stream: bytes, cuts: list[int]) -> None:
    assert_agreed(runner, stream, cuts)


# --- Byte for byte ---

PLACES = {
    "in front of the method": b"%bGET /a HTTP/1.1\r\nHost: x\r\n\r\n",
    "in the method": b"GE%bT /a HTTP/1.1\r\nHost: x\r\n\r\n",
    "in the path": b"GET /a%bb HTTP/1.1\r\nHost: x\r\n\r\n",
    "in the query": b"GET /a?b%bc HTTP/1.1\r\nHost: x\r\n\r\n",
    "in the version": b"GET /a HTTP/1%b1\r\nHost: x\r\n\r\n",
    "behind the version": b"GET /a HTTP/1.1%b\r\nHost: x\r\n\r\n",
    "in a name": b"GET /a HTTP/1.1\r\nHost: x\r\nX%bA: b\r\n\r\n",
    "behind a name": b"GET /a HTTP/1.1\r\nHost: x\r\nX-A%b: b\r\n\r\n",
    "in front of a value": b"GET /a HTTP/1.1\r\nHost: x\r\nX-A:%bb\r\n\r\n",
    "in a value": b"GET /a HTTP/1.1\r\nHost: x\r\nX-A: b%bc\r\n\r\n",
    "behind a value": b"GET /a HTTP/1.1\r\nHost: x\r\nX-A: b%b\r\n\r\n",
    "in the host": b"GET /a HTTP/1.1\r\nHost: x%by\r\n\r\n",
    "behind a length": b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 1%b\r\n\r\n0123456789",
    "behind a coding": b"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked%b\r\n\r\n0\r\n\r\n",
    "behind a chunk's size": b"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1%b\r\nx\r\n0\r\n\r\n",
    "in a chunk's extension": b"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1;a%b\r\nx\r\n0\r\n\r\n",
    "in a chunk's quotes": b'POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1;a="%b"\r\nx\r\n0\r\n\r\n',
    "behind a chunk": b"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx%b\r\n0\r\n\r\n",
    "in a trailer's name": b"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX%b: y\r\n\r\n",
    "in a trailer's value": b"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: y%b\r\n\r\n",
}


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
async def test_they_agree_on_every_byte(place: bytes) -> None:
    errors = fuzz.Errors()
    for byte in range(256):
        stream = place.replace(b"%b", bytes([byte])) + HIDDEN
        fault = await fuzz.check(stream, (), errors)
        assert fault is None, str(fault)


# --- Heads alone ---

values: Any = st.binary(max_size=20).filter(lambda value: not set(value) & {*range(9), *range(10, 32), 127})


@pytest.mark.parametrize("method", sorted(METHODS))
def test_both_know_each_method_that_is_served(method: bytes) -> None:
    for name in PARSERS:
        reader = RequestReader(parser_class(name)(), Limits())
        line, _, _ = reader.read_head(method + b" /a HTTP/1.1\r\nHost: x\r\n\r\n")
        assert line.method == method.decode()


@fixed
@given(st.lists(st.tuples(st.from_regex(rb"\A[!#$%&'*+.^_`|~0-9A-Za-z-]{1,12}\Z"), values), max_size=6))
def test_they_find_the_same_fields(pairs: list[tuple[bytes, bytes]]) -> None:
    head = b"GET /a HTTP/1.1\r\nHost: x\r\n" + b"".join(b"%b:%b\r\n" % pair for pair in pairs) + b"\r\n"
    found: list[Any] = []
    for name in PARSERS:
        reader = RequestReader(parser_class(name)(), Limits())
        try:
            line, read, framing = reader.read_head(head)
        except BadRequest as bad:
            found.append(bad.status)
        else:
            found.append((line, sorted(read), framing))
    assert found[0] == found[1]
