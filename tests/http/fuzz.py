"""Fuzzing of the engine: streams that are nearly requests, cut anywhere, with both parsers.

    python -m tests.http.fuzz --seconds 30 --seed 1

Of each stream, the application must see exactly what `reference` reads in it, no more and no less; the answers must be
as many; nothing may be raised, nothing may hang, and every connection must end. So no request can be hidden in another.
A failure prints the stream; the same seed finds it again.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import random
import sys
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from duallisten.http import Limits
from tests.http import reference
from tests.http.engine import PARSERS, Hand, Recorder, Seen, by_hand, clock_of, read_responses
from tests.http.streams import ENDED_BY_VERSION, REFUSED, SERVED
from tests.support.bad_requests import HIDDEN

LIMITS = Limits(head_seconds=30, body_seconds=60, send_seconds=60)

KNOWN = [
    *(case.sent for cases in SERVED.values() for case in cases),
    *(case.sent for case in ENDED_BY_VERSION),
    *(case.sent for cases in REFUSED.values() for case in cases),
]

SAMPLES = [sent for sent in KNOWN if len(sent) < 2000 and b"/early" not in sent]
"""What is mutated."""

METHODS = (b"GET", b"POST", b"PUT", b"HEAD", b"OPTIONS", b"DELETE", b"CONNECT", b"PRI", b"get", b"M-SEARCH")
TARGETS = (
    b"/a",
    b"/",
    b"/b?c=d",
    b"*",
    b"http://x/a",
    b"http://y",
    b"http://:80/a",
    b"x:80",
    b"/a%20b",
    b"//",
    b"",
    b"/a#b",
    b"/\xe9",
    b'/<>"^`{|}\\',
    b"/%zz%",
    b"*?a",
    b"HTTPS://[::1]:80?b",
    b"http://u@x/a",
    b"http://x\\y/a",
    b"http:///a",
    b"ws://x/a",
    b"/" + b"a" * 300,
)
VERSIONS = (b"HTTP/1.1",) * 6 + (b"HTTP/1.0", b"HTTP/1.2", b"HTTP/2.0", b"RTSP/1.0", b"http/1.1", b"HTTP/01.1", b"")
FIELDS = (
    b"Host: x", b"Host: y", b"Host: x/y", b"Host:", b"Host: :80", b"Content-Length: 0", b"Content-Length: 5", b"Content-Length: 33", b"Content-Length: 5, 5",
    b"Content-Length: +5", b"Transfer-Encoding: chunked", b"Transfer-Encoding: gzip, chunked", b"Transfer-Encoding: Chunked", b"Transfer-Encoding : chunked",
    b"Connection: close", b"Connection: keep-alive", b"Connection: Upgrade", b"Connection: close, Upgrade", b"Upgrade: h2c", b"Upgrade: websocket",
    b"Expect: 100-continue", b"X-A: b", b"X-A:", b" folded", b"\tfolded", b"X-A: \x00", b"nothing", b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    b"content-length:\t05\t", b"Content_Length: 5", b"Content-Length: 0x5", b"Content-Length:", b"Content-Length: 18446744073709551621", b"Content-Length: 5 5",
    b"Transfer-Encoding: chunked;q=1", b"Transfer-Encoding:\tchunked ", b"Transfer-Encoding: chunked,", b"Transfer-Encoding: xchunked", b"Transfer-Encoding:",
    b"Host: [::1]:80", b"Host: a,b", b"Host: u@x", b"hOST:x ", b"Host: x\\y", b"Connection: ,Close;x, close", b"Connection: \"close\"", b"Connection: Content-Length",
    b"Expect: 100-continue, x", b"Upgrade: WebSocket, h2c", b": x", b"X A: b", b"X\x7f: b", b"X-\xc3\xa9: b", b"!#$%&'*+-.^_`|~: b", b"A" * 1500 + b": b",
    b"Trailer: X", b"X-A: \xff", b"Proxy-Connection: close", b"Keep-Alive: 5", b"TE: trailers", b"HTTP2-Settings: AAMAAABkAAQAAP__",
)  # fmt: skip
CHUNKS = (
    b"5\r\nabcde\r\n", b"21\r\n" + HIDDEN + b"\r\n", b"1;a=b\r\nx\r\n", b"A\r\n0123456789\r\n", b"0\r\n\r\n", b"0\r\nX: y\r\n\r\n", b"0\r\nConnection: close\r\n\r\n",
    b"0\r\nContent-Length: 5\r\n\r\n", b"5 \r\nabcde\r\n", b"5\nabcde\n", b"5\r\nabcdef\r\n", b"0\n\n", b"-1\r\n", b"1" * 16 + b"\r\n", b"\r\n",
    b"05\r\nabcde\r\n", b"0x5\r\nabcde\r\n", b"5;\r\nabcde\r\n", b'5;a="b\\"c;"\r\nabcde\r\n', b'5;a="\r\n0\r\n\r\n"\r\nabcde\r\n', b"5 ;a\r\nabcde\r\n", b"5;a =b\r\nabcde\r\n",
    b"5\r\r\nabcde\r\n", b"5\r\nabcde\n", b"5\r\nabcde", b"5_0\r\nabcde\r\n", b"00;a=b\r\n\r\n", b"0\r\n: x\r\n\r\n", b"0\r\nX : y\r\n\r\n", b"0\r\nX: y\r\n z\r\n\r\n", b"0\r\nX: y\n\r\n",
    b"0\r\n\r\r\n", b"0\r\nHost: y\r\nTransfer-Encoding: chunked\r\n\r\n", b"0\r\nX: \x01\r\n\r\n",
)  # fmt: skip
BITS = (
    b"\r", b"\n", b"\r\n", b"\r\n\r\n", b"\n\n", b" ", b"\t", b"\0", b"\x0b", b"\x7f", b"\x80", b"\xff", b":", b",", b";", b"0", b"5", b"0\r\n\r\n", b"%", b"#", b"?",
    b"@", b"[", b"]", b"close", b"chunked", b"HTTP/1.1", HIDDEN, HIDDEN[:-2], *(field + b"\r\n" for field in FIELDS),
)  # fmt: skip


class Fault(NamedTuple):
    """A stream that was not dealt with as it should be."""

    stream: bytes
    cuts: tuple[int, ...]
    parser: str
    what: str

    def __str__(self) -> str:
        return f"{self.parser}: {self.what}\n  stream = {self.stream!r}\n  cuts = {self.cuts}"


class Errors(logging.Handler):
    """Notes what the engine logs as an error, and what the event loop was told."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.of: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.of.append(record.getMessage() + (f": {record.exc_info[1]!r}" if record.exc_info else ""))

    def take(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self.of.append(f"{context['message']}: {context.get('exception')!r}")


def segments(stream: bytes, cuts: Sequence[int]) -> list[bytes]:
    places = [0, *sorted({cut for cut in cuts if 0 < cut < len(stream)}), len(stream)]
    return [stream[start:end] for start, end in pairwise(places) if end > start]


class Hasty(Recorder):
    """Answers each request without its body."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await super().__call__(dict(scope, path="/early"), receive, send)
        self.seen[-1] = self.seen[-1]._replace(path=scope["path"])


async def check(stream: bytes, cuts: Sequence[int], errors: Errors, *, is_hasty: bool = False) -> Fault | None:
    """Send a stream with both parsers, and compare all that comes of it with the reference.

    is_hasty: whether the application answers before it has the bodies
    """
    right = reference.read(stream)
    for parser in PARSERS:
        app = Hasty() if is_hasty else Recorder()
        hand = by_hand(app, parser, limits=LIMITS, websocket=None)
        what = await _run(hand, segments(stream, cuts))
        what = what or (_compare_heads if is_hasty else _compare)(hand, app, right)
        how_it_ended = await _end(hand)
        what = what or how_it_ended
        if errors.of:
            what = f"{what}; {errors.of}"
            errors.of.clear()
        if what:
            return Fault(stream, tuple(cuts), parser, what)
    return None


async def _run(hand: Hand, parts: list[bytes]) -> str:
    try:
        await hand.send(*parts, turns=1)
        await hand.settle(6)
    except Exception as error:
        return f"raised {error!r}"
    return ""


def alike(requests: Sequence[Seen]) -> list[Seen]:
    """The requests with their fields in the order of their names: h11 moves a length to the end."""
    return [one._replace(headers=tuple(sorted(one.headers, key=lambda field: field[0]))) for one in requests]


def final_statuses(hand: Hand, app: Recorder) -> list[int]:
    """The statuses of the answers, without 100."""
    heads = [number for number, request in enumerate(app.seen) if request.method == "HEAD"]
    return [one.status for one in read_responses(bytes(hand.written), heads=heads) if one.status >= 200]


def _compare(hand: Hand, app: Recorder, right: reference.Reading) -> str:
    if alike(app.seen) != alike(right.requests):
        return f"seen {app.seen}\n  right: {right}"
    found = final_statuses(hand, app)
    rest = found[len(app.seen) :]
    is_refused = len(rest) == 1 and rest[0] in (400, 413, 431, 501, 505)
    # What has come of a request that is not whole may say already that it is none.
    may_refuse = {"closed": [False], "refused": [True], "open": [False, True]}[right.end]
    if found[: len(app.seen)] != [200] * len(app.seen) or bool(rest) not in may_refuse or bool(rest) != is_refused:
        return f"answered {found}, right: {right}"
    if hand.has_ended != (right.end == "closed" or is_refused):
        return f"the connection {'has ended' if hand.has_ended else 'goes on'}, right: {right}"
    return ""


def _compare_heads(hand: Hand, app: Recorder, right: reference.Reading) -> str:
    """Compare where bodies are thrown away: after the requests that are whole, one more may be seen that is not."""
    seen = [one._replace(body=b"") for one in alike(app.seen)]
    whole = [one._replace(body=b"") for one in alike(right.requests)]
    if any(value.lower() == b"100-continue" for one in seen for _, value in one.headers):
        whole = whole[: len(seen)]  # answered before it came, a body ends the connection
    if seen[: len(whole)] != whole or len(seen) > len(whole) + (right.end != "closed"):
        return f"hasty: seen {app.seen}\n  right: {right}"
    found = final_statuses(hand, app)
    served, refused = found.count(200), [status for status in found if status != 200]
    # One that breaks before its application has run is refused, though the application is called.
    if found != [200] * served + refused or len(refused) > 1 or not len(whole) <= served <= len(seen):
        return f"hasty: answered {found}, right: {right}"
    return ""


async def _end(hand: Hand) -> str:
    """See that the connection ends, whoever leaves first."""
    context = hand.connection.context
    for _ in range(3):
        clock_of(hand).advance(1000)
        await hand.settle(6)
    if not hand.is_lost:
        return "the connection does not end"
    if context.tasks or context.connections:
        return f"something stays: {context.tasks}, {context.connections}"
    return "; ".join(hand.faults)


# --- Streams ---


def make_stream(chance: random.Random) -> bytes:
    """A stream of a few requests, some of them mutated."""
    kind = chance.random()
    if kind < 0.4:
        stream = b"".join(make_request(chance) for _ in range(chance.randint(1, 3)))
    else:
        stream = b"".join(chance.choice(SAMPLES) for _ in range(chance.randint(1, 2)))
    for _ in range(chance.choice((0, 1, 1, 1, 2, 3, 6))):
        stream = chance.choice(MUTATIONS)(stream, chance)
    return stream[:4000]


def make_request(chance: random.Random) -> bytes:
    """A request by the grammar, of parts that need not fit."""
    fields = [b"Host: x"] if chance.random() < 0.9 else []
    fields += chance.choices(FIELDS, k=chance.choice((0, 1, 1, 2, 3)))
    chance.shuffle(fields)
    line = b" ".join((chance.choice(METHODS), chance.choice(TARGETS), chance.choice(VERSIONS)))
    if chance.random() < 0.7:
        line = chance.choice((b"GET", b"POST")) + b" /a HTTP/1.1"
    body = b""
    if any(b"hunked" in field for field in fields):
        body = b"".join(chance.choices(CHUNKS, k=chance.randint(0, 3))) + chance.choice((b"", b"0\r\n\r\n"))
    elif any(b"Length" in field for field in fields):
        body = chance.choice((HIDDEN, b"abcde", b"", b"0\r\n\r\n"))
    return b"\r\n".join((line, *fields, b"", b"")) + body


def _place(stream: bytes, chance: random.Random) -> int:
    """A place in the stream, often at the end of a line."""
    if chance.random() < 0.5 and (lines := stream.count(b"\r\n")):
        at = -1
        for _ in range(chance.randint(1, lines)):
            at = stream.find(b"\r\n", at + 1)
        return at + chance.choice((0, 1, 2))
    return chance.randint(0, len(stream))


def _insert(stream: bytes, chance: random.Random) -> bytes:
    at = _place(stream, chance)
    return stream[:at] + chance.choice(BITS) + stream[at:]


def _replace(stream: bytes, chance: random.Random) -> bytes:
    at = _place(stream, chance)
    return stream[:at] + chance.choice(BITS) + stream[at + chance.randint(1, 3) :]


def _flip(stream: bytes, chance: random.Random) -> bytes:
    at = _place(stream, chance)
    return stream[:at] + bytes([chance.randrange(256)]) + stream[at + 1 :]


def _delete(stream: bytes, chance: random.Random) -> bytes:
    at = _place(stream, chance)
    return stream[:at] + stream[at + chance.choice((1, 1, 2, 4, 20)) :]


def _repeat(stream: bytes, chance: random.Random) -> bytes:
    start, end = sorted((_place(stream, chance), _place(stream, chance)))
    return stream[:end] + stream[start:]


def _truncate(stream: bytes, chance: random.Random) -> bytes:
    return stream[: _place(stream, chance)]


def _splice(stream: bytes, chance: random.Random) -> bytes:
    other = chance.choice(SAMPLES)
    return stream[: _place(stream, chance)] + other[_place(other, chance) :]


def _change_case(stream: bytes, chance: random.Random) -> bytes:
    start, end = sorted((_place(stream, chance), _place(stream, chance)))
    return stream[:start] + stream[start:end].swapcase() + stream[end:]


MUTATIONS: tuple[Callable[[bytes, random.Random], bytes], ...] = (
    _insert, _insert, _replace, _flip, _delete, _repeat, _truncate, _splice, _change_case,
)  # fmt: skip


def make_cuts(stream: bytes, chance: random.Random) -> tuple[int, ...]:
    kind = chance.random()
    if kind < 0.4 or len(stream) < 2:
        return ()
    if kind < 0.5 and len(stream) < 300:
        return tuple(range(1, len(stream)))
    return tuple(sorted(chance.randrange(1, len(stream)) for _ in range(chance.randint(1, 4))))


# --- The run ---


async def run(seed: int, *, seconds: float = 0.0, count: int = 0, most_faults: int = 10) -> tuple[int, list[Fault]]:
    """Run for so many seconds, or streams; give how many streams were sent, and what was wrong."""
    chance = random.Random(seed)
    errors = Errors()
    loop = asyncio.get_running_loop()
    before = loop.get_exception_handler()
    loop.set_exception_handler(errors.take)
    logger = logging.getLogger("uvicorn.error")
    level, propagate = logger.level, logger.propagate
    logger.setLevel(logging.ERROR)
    logger.propagate = False
    logger.addHandler(errors)
    end = time.monotonic() + seconds
    sent = 0
    faults: list[Fault] = []
    try:
        while len(faults) < most_faults and (sent < count if count else time.monotonic() < end):
            stream = make_stream(chance)
            fault = await check(stream, make_cuts(stream, chance), errors, is_hasty=chance.random() < 0.2)
            sent += 1
            if fault is not None:
                faults.append(fault)
    finally:
        logger.removeHandler(errors)
        logger.setLevel(level)
        logger.propagate = propagate
        loop.set_exception_handler(before)
    return sent, faults


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.http.fuzz", description="Fuzz the engine.")
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    began = time.monotonic()
    sent, faults = asyncio.run(run(options.seed, seconds=options.seconds))
    for fault in faults:
        print(fault)
    rate = sent / (time.monotonic() - began)
    print(f"{sent} streams, each with {' and '.join(PARSERS)}: {len(faults)} faults; {rate:.0f} streams/s")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
