"""Frames of HTTP/2 in any order, cut anywhere, while the peer reads or does not: nothing breaks, and all that begins ends.

The same seeds each time; `python -m tests.http.test_http2_fuzz FIRST LAST` runs others.
"""

from __future__ import annotations

import asyncio
import random
import sys
from collections import Counter
from contextlib import suppress
from typing import Any

from hpack import Encoder
from hyperframe.frame import DataFrame, Frame, HeadersFrame, RstStreamFrame
from uvicorn.server import ServerState

from duallisten.http import Context, Exchange, Hooks, Limits, Settings
from duallisten.http.websocket import WebSocket
from tests.http.engine import Hand, HandClock, clock_of
from tests.http.http2_client import PREFACE, asking

SEEDS = range(400)


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Reads its body or does not, and sends much or nothing."""
    size, count = map(int, scope["query_string"].split(b"-"))
    if scope["type"] == "websocket":
        await talk(scope, receive, send, size, count)
        return
    if scope["path"] == "/read":
        while (await receive()).get("more_body"):
            pass
    await send({"type": "http.response.start", "status": 204 if size == 1 else 200, "headers": []})
    for _ in range(count):
        await send({"type": "http.response.body", "body": bytes(size), "more_body": True})
    await send({"type": "http.response.body", "body": b"end"})


async def talk(scope: Any, receive: Any, send: Any, size: int, count: int) -> None:
    """Denies, or accepts and sends, and may read what comes, until the end."""
    await receive()
    if size == 1:
        await send({"type": "websocket.close"})
        return
    await send({"type": "websocket.accept"})
    with suppress(OSError):
        for _ in range(count):
            await send({"type": "websocket.send", "bytes": bytes(size)})
    while scope["path"] == "/read" and (await receive())["type"] == "websocket.receive":
        pass


class Peer:
    """Makes frames that are nearly right."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.encoder = Encoder()
        self.next = 1

    def stream(self) -> int:
        """Choose one: the latest, an earlier one, or rarely any."""
        what = self.chance.random()
        if what < 0.02:
            return self.chance.randrange(60)
        return max(1, self.next - 2) if what < 0.6 else self.chance.randrange(1, max(2, self.next), 2)

    def frame(self) -> bytes:
        chance, stream = self.chance, self.stream()
        kind = chance.choice([1, 0] * 20 + [3, 4, 6, 8, 8] * 4 + [2, 9, 99])
        if self.next == 1:
            kind = 1
        if kind == 1:
            stream, self.next = self.next, self.next + 2
            query = f"{chance.choice([0, 1, 20_000, 200_000])}-{chance.randrange(4)}"
            fields = asking(f"{chance.choice(['/read', '/'])}?{query}", chance.choice(["GET", "POST", "HEAD"]))
            if chance.random() < 0.3:
                more = ((":protocol", "websocket"), ("sec-websocket-version", "13"))
                fields = [*fields[:4], *more]
                fields[0] = (":method", "CONNECT")
            return raw(1, chance.choice([4] * 10 + [5] * 10 + [0]), stream, self.encoder.encode(fields))
        payloads: dict[int, Any] = {
            0: lambda: (
                chance.choice([b"", b"\x82\x84\0\0\0\0data", b"\x89\x80\0\0\0\0", b"\x88\x80\0\0\0\0"])
                + chance.randbytes(chance.choice([0, 0, 1, 100, 16384]))
            ),
            2: lambda: bytes(5),
            3: lambda: b"\0\0\0\x08",
            4: lambda: b"\0\x04" + chance.choice([0, 1, 100, 65535, 1 << 20]).to_bytes(4, "big"),
            6: lambda: b"12345678",
            8: lambda: chance.choice([1, 100, 65535, 1 << 20]).to_bytes(4, "big"),
        }
        flags = chance.choice([0] * 20 + [1] * 10 + [4, 8, 9])
        on = 0 if kind in (4, 6) else stream
        return raw(kind, flags if kind in (0, 9, 99) else 0, on, payloads.get(kind, lambda: chance.randbytes(9))())


def raw(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


async def play(seed: int) -> int:
    """Play one connection; return how many exchanges there were."""
    chance = random.Random(seed)
    began: list[Exchange] = []
    ended: Counter[Exchange] = Counter()
    closed: Counter[WebSocket] = Counter()

    def end(exchange: Exchange) -> None:
        ended[exchange] += 1

    def close(websocket: WebSocket) -> None:
        closed[websocket] += 1

    hooks = Hooks(exchange_began=began.append, exchange_ended=end, handshake_ended=end, websocket_closed=close)
    made = Settings(http2=True, limits=Limits(body_bytes=300_000))
    loop = asyncio.get_running_loop()
    context = Context(loop, made, app, ServerState(), clock=HandClock(loop), hooks=hooks)
    hand, peer = Hand(context), Peer(chance)
    data = PREFACE + raw(4, 0, 0, b"") + b"".join(peer.frame() for _ in range(chance.randrange(3, 80)))
    await feed(hand, data, chance)
    for turn in range(150):
        await asyncio.sleep(0)
        if turn == 50:
            hand.close()
    assert not (context.connections or context.tasks or hand.faults), (seed, hand.faults)
    assert sorted(map(id, ended)) == sorted(map(id, began)) and set(ended.values()) <= {1}, seed
    opened = [one for one in ended if isinstance(one, WebSocket) and one.is_accepted]
    assert closed == Counter(opened), seed
    check(bytes(hand.written), seed)
    return len(began)


async def feed(hand: Hand, data: bytes, chance: random.Random) -> None:
    """Give a connection what its peer sends, in pieces, while other things happen."""
    while data and not hand.is_closing():
        if not hand.is_paused:
            size = chance.choice([9, 50, 1000, 70_000])
            hand.connection.data_received(data[:size])
            data = data[size:]
        if not hand.is_closing():
            happen(hand, chance.random())
        for _ in range(chance.randrange(3)):
            await asyncio.sleep(0)
    if not hand.is_closing():
        hand.connection.resume_writing()


def happen(hand: Hand, what: float) -> None:
    """Let something happen beside what the peer sends."""
    if what < 0.05:
        hand.connection.pause_writing()
    elif what < 0.2 or hand.is_paused:
        hand.connection.resume_writing()
    elif what < 0.22:
        hand.connection.shutdown()
    elif what < 0.24:
        clock_of(hand).advance(40)


def check(written: bytes, seed: int) -> None:
    """See that whole frames were written, and behind the end of a stream nothing of it but RST_STREAM."""
    over: set[int] = set()
    while written and not written.startswith(b"HTTP"):
        frame, length = Frame.parse_frame_header(memoryview(written[:9]))
        frame.parse_body(memoryview(written[9 : 9 + length]))
        written = written[9 + length :]
        if isinstance(frame, DataFrame | HeadersFrame):
            assert frame.stream_id not in over, (seed, frame)
        if isinstance(frame, RstStreamFrame) or "END_STREAM" in frame.flags:
            over.add(frame.stream_id)


async def test_nothing_breaks_and_all_that_begins_ends() -> None:
    broken: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, error: broken.append(error))
    count = sum([await play(seed) for seed in SEEDS])
    assert not broken
    assert count > 2 * len(SEEDS)


if __name__ == "__main__":
    SEEDS = range(*map(int, sys.argv[1:3]))
    asyncio.run(test_nothing_breaks_and_all_that_begins_ends())
