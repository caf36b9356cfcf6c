"""Headers of the PROXY protocol, as balancers write them (haproxy, doc/proxy-protocol.txt)."""

from __future__ import annotations

import socket
from ipaddress import ip_address

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"


def line(client: str, port: int, kind: str = "") -> bytes:
    """Version 1."""
    kind = kind or f"TCP{ip_address(client).version}"
    own = "203.0.113.1" if kind == "TCP4" else "2001:db8::1"
    return f"PROXY {kind} {client} {own} {port} 443\r\n".encode()


def binary(client: str, port: int, tlvs: bytes = b"") -> bytes:
    """Version 2."""
    address = ip_address(client)
    own = ip_address("203.0.113.1" if address.version == 4 else "2001:db8::1")
    said = address.packed + own.packed + port.to_bytes(2) + (443).to_bytes(2) + tlvs
    return any_binary(0x21, 0x11 if address.version == 4 else 0x21, said)


def any_binary(command: int, family: int, said: bytes = b"") -> bytes:
    """Version 2, of whatever command and family."""
    return SIGNATURE + bytes((command, family)) + len(said).to_bytes(2) + said


LOCAL = any_binary(0x20, 0)
TLVS = b"\x03\x00\x04abcd" + b"\x02\x00\x0bexample.com"


def exchange(address: tuple[str, int] | str, *pieces: bytes, source: str = "127.0.0.1", end: bool = False) -> bytes:
    """Send pieces over a new connection, each in a segment of its own, and give what comes back until it is closed.

    address: host and port, or the path of a UNIX domain socket
    end: whether our half is closed then
    """
    answer = b""
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    with socket.socket(family) as connection:
        connection.settimeout(30)
        if family == socket.AF_INET:
            connection.bind((source, 0))
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            connection.connect(address)
            for piece in pieces:
                connection.sendall(piece)
            if end:
                connection.shutdown(socket.SHUT_WR)
            while data := connection.recv(65536):
                answer += data
        except (ConnectionResetError, BrokenPipeError):  # closed with bytes of ours unread
            pass
    return answer
