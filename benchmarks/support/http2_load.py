"""Floods of HTTP/2 on one connection for `http2.py`: `http2_load.py KIND PORT SECONDS`; prints the bytes sent.

A flood that is ended by the server begins again at once, on a new connection, as an attacker's would.
"""

from __future__ import annotations

import socket
import sys
import time
from collections.abc import Callable

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEAD = b"\x82\x86\x84\x41\x01x"
"""GET / of the host x, over http; nothing of it is kept by the decompression."""

PIECE = 1 << 16


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


def settings(window: int) -> bytes:
    return frame(4, 0, 0, b"\x00\x04" + window.to_bytes(4, "big"))


def ask(stream: int, *, ends: bool = True, block: bytes = HEAD) -> bytes:
    return frame(1, 5 if ends else 4, stream, block)


def resets(stream: int) -> bytes:
    return ask(stream) + frame(3, 0, stream, bytes(4))


def windows(stream: int) -> bytes:
    begin = ask(1) if stream == 1 else b""
    return begin + frame(8, 0, 1, b"\x00\x00\x00\x01")


def in_body(payload: bytes) -> bytes:
    return b"".join(frame(0, 0, 1, payload) for _ in range(64))


LARGE = b"\x82\x86\x84" + b"\x40\x01a\x7f\x81\x1e" + b"x" * 4000 + b"\xbe" * 12_000
MANY = b"\x82\x86\x84\x41\x01x" + b"\x10\x01a\x01b" * 3000

FLOODS: dict[str, Callable[[int], bytes]] = {
    "PING": lambda stream: frame(6, 0, 0, b"12345678"),
    "SETTINGS": settings,
    "PRIORITY": lambda stream: frame(2, 0, stream, b"\x00\x00\x00\x00\x10"),
    "WINDOW_UPDATE": lambda stream: frame(8, 0, 0, b"\x00\x00\x00\x01"),
    "empty DATA": lambda stream: (ask(1, ends=False) if stream == 1 else b"") + in_body(b""),
    "DATA of 16 bytes": lambda stream: (ask(1, ends=False) if stream == 1 else b"") + in_body(bytes(16)),
    "streams reset at once": resets,
    "streams without end": ask,
    "windows opened byte by byte": windows,
    "CONTINUATION": lambda stream: frame(1, 0, 1, HEAD) if stream == 1 else frame(9, 0, 1),
    "a small block that is large": lambda stream: ask(stream, block=LARGE),
    "a block of 3,000 fields": lambda stream: ask(stream, block=MANY),
}


def flood(kind: str, port: int, seconds: float) -> int:
    until = time.monotonic() + seconds
    sent = 0
    while time.monotonic() < until:
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.settimeout(0.2)
            window = 0 if "window" in kind else 65535
            try:
                connection.sendall(PREFACE + settings(window))
                stream = 1
                while time.monotonic() < until:
                    piece = b""
                    while len(piece) < PIECE:
                        piece += FLOODS[kind](stream)
                        stream += 2
                    connection.sendall(piece)
                    sent += len(piece)
            except OSError:  # the server has ended it, or does not read
                continue
    return sent


def zero_windows(port: int, seconds: float) -> int:
    """Ask for 1 GiB on each of 100 streams, without a window (row 50)."""
    asked = b"".join(ask(2 * number + 1, block=b"\x82\x86\x44\x05/down\x41\x01x") for number in range(100))
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(PREFACE + settings(0) + asked)
        time.sleep(seconds)
    return len(asked)


if __name__ == "__main__":
    kind, port, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
    print(zero_windows(port, seconds) if kind == "zero windows" else flood(kind, port, seconds))
