"""The interface between an exchange and the connection (HTTP/1.1) or stream (HTTP/2) that carries its request.

The exchange calls the application, enforces ASGI's rules, and is passed to observers. The channel moves the bytes: it
knows when to read on, when there is room to send, and how to end. So both protocols share the code of the exchange.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from duallisten.http.context import Context
    from duallisten.http.exchange import Exchange
    from duallisten.http.websocket_protocol import WebSocketProtocol


class Channel(Protocol):
    """Carries one request at a time, and its response.

    Attributes:
        note: For observers.
        is_starting: Whether the application runs its first step. A head that it holds back is sent after that step.
    """

    note: Any
    is_starting: bool

    @property
    def context(self) -> Context:
        """The state that the listener's connections share."""

    @property
    def client(self) -> tuple[str, int] | None:
        """The client's address, as in an ASGI scope."""

    @property
    def server(self) -> tuple[str, int | None] | None:
        """The server's address, as in an ASGI scope."""

    @property
    def is_trusted(self) -> bool:
        """Whether the peer's forwarded headers are trusted."""

    @property
    def sent(self) -> int:
        """Bytes written so far."""

    @property
    def is_http_1_0(self) -> bool:
        """Whether the request is HTTP/1.0."""

    @property
    def is_half_closed(self) -> bool:
        """Whether the peer has closed its sending half; it may still read."""

    @property
    def is_write_paused(self) -> bool:
        """Whether the write buffer is full."""

    async def wait_for_room(self) -> None:
        """Wait until the write buffer has room again."""

    def resume_reading(self) -> None:
        """Read on: the application waits for more of the body."""

    def write(self, data: bytes) -> None:
        """Write encoded bytes."""

    def response_complete(self, exchange: Exchange) -> None:
        """Continue after a complete response."""

    def close(self) -> None:
        """End an incomplete response; bytes that were written are still sent."""

    def abort(self) -> None:
        """End at once; unsent bytes may be lost."""


class WebSocketChannel(Channel, Protocol):
    """Carries the handshake of a WebSocket and, once the handshake is accepted, the bytes of WebSocket frames.

    Attributes:
        exchange: The handshake.
    """

    exchange: Any

    @property
    def transport(self) -> asyncio.Transport:
        """The transport for the bytes of both directions."""

    @property
    def tls(self) -> dict[str, Any] | None:
        """The value of ASGI's `tls` extension; None without TLS."""

    def has_received(self) -> bool:
        """Whether received bytes wait to be used."""

    def hand_over(self, protocol: WebSocketProtocol) -> bytes:
        """Give the transport to `protocol`, and return the bytes already received for it.

        The protocol calls `connection_lost` when the transport is lost.
        """

    def tunnel(self, data: bytes) -> None:
        """Write bytes of WebSocket frames."""

    def connection_lost(self, exc: Exception | None) -> None:
        """Release everything: the transport is lost."""


def exchanges_of(connection: Any) -> Iterable[Exchange]:
    """Return the running requests of a connection; none for a protocol class that the user provides."""
    several = getattr(connection, "exchanges", None)
    one = getattr(connection, "exchange", None)
    return several if several is not None else () if one is None else (one,)
