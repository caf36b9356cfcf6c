"""The PROXY protocol on a connection: reads the header from the socket, and makes the client that it names the peer.

The header comes before everything else, also before the TLS handshake. So it is read from the socket itself, without
any byte behind it, before there is a transport. The protocol class that serves the connection sees the client as the
peer (`ProxiedTransport`).

The presence of a header is never guessed (haproxy, doc/proxy-protocol.txt, 2). Where the protocol is on, each
connection must have a header and must come from a trusted peer (`speaking`). Admission is decided before, by the real
addresses.

Invariants:
    - Nothing is read as TLS or HTTP before the header is complete.
    - At most `LONGEST` bytes of an incomplete header are kept, and no longer than the time limit.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any

from duallisten.listeners.forwarded import Trust, TrustedPeers
from duallisten.listeners.proxy_header import LONGEST, UNKNOWN, BadHeader, Header, read_header

__all__ = ["UNKNOWN", "BadHeader", "Introduced", "receive_header", "speaking"]


def speaking(trust: Trust) -> Callable[[str | None], bool]:
    """Build the function that decides by a peer's host whether the peer may speak the PROXY protocol.

    Args:
        trust: The trusted proxies. Every peer may speak it where every peer is trusted.
    """
    return TrustedPeers(trust).__contains__


async def receive_header(
    connection: socket.socket, loop: asyncio.AbstractEventLoop, seconds: float | None
) -> Header | None:
    """Read the header from a connection, and leave all bytes behind it in the socket.

    Args:
        connection: The socket, non-blocking.
        loop: The running event loop.
        seconds: The time limit for the header; None for no limit.

    Returns:
        None where the peer has closed the connection before it sent anything, as in a TCP health check of a load
        balancer.

    Raises:
        BadHeader: The header is missing, malformed, incomplete or too late.
        OSError: The connection is lost.
    """
    taken = b""
    try:
        async with asyncio.timeout(seconds):
            while True:
                try:
                    seen = connection.recv(LONGEST, socket.MSG_PEEK)
                except BlockingIOError:
                    await _until_readable(connection, loop)
                    continue
                if not seen:
                    if taken:
                        raise BadHeader("the connection ended within the PROXY header")
                    return None
                header = read_header(taken + seen)
                taken += connection.recv(len(seen) if header is None else header.size - len(taken))
                if header is not None:
                    return header
    except TimeoutError:
        raise BadHeader(f"no complete PROXY header within {seconds:g} s") from None


async def _until_readable(connection: socket.socket, loop: asyncio.AbstractEventLoop) -> None:
    readable = loop.create_future()

    def wake() -> None:
        if not readable.done():
            readable.set_result(None)

    loop.add_reader(connection, wake)
    try:
        await readable
    finally:
        loop.remove_reader(connection)


class ProxiedTransport:
    """A transport whose peer is the client from a PROXY header; everything else is the real transport's.

    Args:
        transport: The real transport.
        client: Host and port of the client.
    """

    def __init__(self, transport: asyncio.Transport, client: tuple[str, int]) -> None:
        self._transport = transport
        self._client = client
        self.write = transport.write  # without `__getattr__`, which is slow: it is called for each response
        self.is_closing = transport.is_closing

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return the transport's own value, except for the peer's address."""
        if name == "peername":
            return self._client
        told = self._transport.get_extra_info(name, default)
        return _ProxiedSocket(told, self._client) if name == "socket" and told is not None else told

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class _ProxiedSocket:
    """A socket whose peer is the client from a PROXY header, for protocol classes that ask the socket."""

    def __init__(self, sock: Any, client: tuple[str, int]) -> None:
        self._sock = sock
        self._client = client

    def getpeername(self) -> tuple[str, int]:
        """Return the client's host and port."""
        return self._client

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)


class Introduced(asyncio.Protocol):
    """Passes its transport to the protocol that serves the connection, as a `ProxiedTransport`.

    Args:
        make: Builds that protocol.
        client: Host and port of the client.
    """

    def __init__(self, make: Callable[[], Any], client: tuple[str, int]) -> None:
        self._make = make
        self._client = client

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Pass the transport to the protocol."""
        protocol, given = self._make(), ProxiedTransport(transport, self._client)  # type: ignore[arg-type]
        transport.set_protocol(protocol)
        protocol.connection_made(given)
