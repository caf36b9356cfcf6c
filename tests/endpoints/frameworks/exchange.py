"""Exchanges over a real socket, byte by byte, to compare what a server says of two paths."""

from __future__ import annotations

import re

from tests.support.running import ask

HANDSHAKE = (
    "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)


def exchange(url: str, method: str, path: str) -> bytes:
    """Ask for `path`, and give the whole answer without its date and the path that it may repeat."""
    request = f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    return _comparable(ask(url, request.encode()), path)


def handshake(url: str, path: str) -> bytes:
    """Ask for a WebSocket at `path`, and give the whole answer."""
    return _comparable(ask(url, f"GET {path} HTTP/1.1\r\nHost: x\r\n{HANDSHAKE}\r\n".encode()), path)


def _comparable(answer: bytes, path: str) -> bytes:
    return re.sub(rb"(?i)\r\ndate: [^\r]*", b"", answer).replace(path.encode(), b"PATH")


METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND")
