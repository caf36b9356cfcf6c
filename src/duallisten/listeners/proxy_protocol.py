"""The PROXY protocol on a connection: its header is taken from the socket, and the client that it names is the peer.

The header comes before all else, the TLS handshake included. So it is taken from the socket itself, with not a byte of
what follows, before there is a transport. To whatever protocol class then serves the connection, the client is the
peer (`ProxiedTransport`).

Whether there is a header is never guessed (haproxy, doc/proxy-protocol.txt, 2): where it is asked for, each connection
must have one, and must come from a peer that is trusted (`speaking`). Who comes in, and on which side, is
decided before, by the real addresses.

Invariants:
    - Nothing is read as TLS or HTTP before a whole header has come.
    - No more than `LONGEST` bytes are kept of a peer that has not sent one, and no longer than its time is.
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
    """Build what decides, given the host of a peer, whether it may speak the PROXY protocol.

    Args:
        trust: Who is a proxy; every peer may where every peer is trusted.
    """
    return TrustedPeers(trust).__contains__


async def receive_header(
    connection: socket.socket, loop: asyncio.AbstractEventLoop, seconds: float | None
) -> Header | None:
    """Take the header out of a connection, and leave what follows where it is.

    Args:
        connection: The socket, not blocking.
        loop: The running event loop.
        seconds: The time for it; None for no limit.

    Returns:
        None where the peer has closed the connection before it sent anything: many balancers look so whether somebody
        is there.

    Raises:
        BadHeader: There is none, or it does not come in time, or whole.
        OSError: The connection is broken.
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
    """A transport whose peer is the client that a PROXY header names; all else is the transport's own.

    Args:
        transport: The transport.
        client: Host and port of the client.
    """

    def __init__(self, transport: asyncio.Transport, client: tuple[str, int]) -> None:
        self._transport = transport
        self._client = client
        self.write = transport.write  # found without a detour: it is called for each answer
        self.is_closing = transport.is_closing

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return what the transport tells, but for who its peer is."""
        if name == "peername":
            return self._client
        told = self._transport.get_extra_info(name, default)
        return _ProxiedSocket(told, self._client) if name == "socket" and told is not None else told

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class _ProxiedSocket:
    """A socket whose peer is the client that a PROXY header names: some protocol classes ask it for that."""

    def __init__(self, sock: Any, client: tuple[str, int]) -> None:
        self._sock = sock
        self._client = client

    def getpeername(self) -> tuple[str, int]:
        """Return host and port of the client."""
        return self._client

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)


class Introduced(asyncio.Protocol):
    """Hands a transport on to the protocol that serves it, with the client that a PROXY header names as its peer.

    Args:
        make: Builds the protocol.
        client: Host and port of the client.
    """

    def __init__(self, make: Callable[[], Any], client: tuple[str, int]) -> None:
        self._make = make
        self._client = client

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Hand the transport on."""
        protocol, given = self._make(), ProxiedTransport(transport, self._client)  # type: ignore[arg-type]
        transport.set_protocol(protocol)
        protocol.connection_made(given)
