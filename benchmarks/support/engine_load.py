"""The clients of `engine.py`, each in a process of its own: `engine_load.py KIND PORT SECONDS`; prints what was done.

KIND: `websocket` (messages echoed), `up` and `down` (1 GiB one way, a few times), `chunks` and `pongs` (a flood on one
connection, for SECONDS), `latency` (the longest of many short requests, in milliseconds).
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import time

from websockets.asyncio.client import connect

CLIENTS = 64
SIZE = 32
GIB = 1 << 30
TRANSFERS = 4
PIECE = bytes(1 << 20)
HEAD = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
HANDSHAKE = (
    b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


def main() -> None:
    kind, port, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
    if kind == "websocket":
        print(asyncio.run(echo_many(port, seconds)))
    elif kind in ("up", "down"):
        print(transfer(kind, port))
    elif kind == "latency":
        print(latency(port, seconds))
    else:
        print(flood(kind, port, seconds))


async def echo_many(port: int, seconds: float) -> int:
    """Send a message, wait for it, and so on, with many clients."""
    until = time.monotonic() + seconds

    async def one() -> int:
        done = 0
        async with connect(f"ws://127.0.0.1:{port}", compression=None) as websocket:
            while time.monotonic() < until:
                await websocket.send(bytes(SIZE))
                await websocket.recv()
                done += 1
        return done

    return sum(await asyncio.gather(*(one() for _ in range(CLIENTS))))


def transfer(kind: str, port: int) -> int:
    """Move 1 GiB a few times, for CPU time is told in steps of 10 ms, and give the bytes that were moved."""
    return sum(transfer_once(kind, port) for _ in range(TRANSFERS))


def transfer_once(kind: str, port: int) -> int:
    with socket.create_connection(("127.0.0.1", port)) as connection:
        if kind == "up":
            connection.sendall(b"POST /up HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % GIB)
            for _ in range(GIB // len(PIECE)):
                connection.sendall(PIECE)
        else:
            connection.sendall(b"GET /down HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        moved, last = 0, b""
        buffer = bytearray(1 << 20)
        while size := connection.recv_into(buffer):
            moved += size
            last = (last + buffer[:size])[-20:]
    return moved if kind == "down" else int(last.rpartition(b"\n")[2])


def flood(kind: str, port: int, seconds: float) -> int:
    """Send as much as is taken, without a break; connect again when refused."""
    begin, piece = (
        (b"POST /up HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n" * 8192)
        if kind == "chunks"
        else (HANDSHAKE, b"\x8a\x80\x00\x00\x00\x00" * 8192)
    )
    until, sent = time.monotonic() + seconds, 0
    while time.monotonic() < until:
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.settimeout(1.0)
            try:
                connection.sendall(begin)
                while time.monotonic() < until:
                    connection.sendall(piece)
                    sent += len(piece)
            except OSError:
                continue
    return sent


def latency(port: int, seconds: float) -> float:
    """Ask again and again, each time on a new connection, and give the longest time in milliseconds."""
    longest, until = 0.0, time.monotonic() + seconds
    while time.monotonic() < until:
        begin = time.monotonic()
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.sendall(HEAD)
            if not connection.recv(4096).startswith(b"HTTP/1.1 200"):
                os._exit(1)
        longest = max(longest, time.monotonic() - begin)
        time.sleep(0.005)
    return longest * 1e3


if __name__ == "__main__":
    main()
