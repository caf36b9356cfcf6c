"""What an exchange asks of what its request came on: a connection of HTTP/1.1, or a stream of HTTP/2.

An exchange calls the application, keeps to ASGI's rules, and is what observers hear of. How bytes come and go is its
channel's: when to read on, when there is room to send, what an end means. So both protocols run by the same code.
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
        is_starting: Whether the application is in its first step, after which a head that is held back is sent.
    """

    note: Any
    is_starting: bool

    @property
    def context(self) -> Context:
        """What the connections of the listener share."""

    @property
    def client(self) -> tuple[str, int] | None:
        """The other end's address, as in a scope."""

    @property
    def server(self) -> tuple[str, int | None] | None:
        """Our own address, as in a scope."""

    @property
    def is_trusted(self) -> bool:
        """Whether the peer's forwarded headers are believed."""

    @property
    def sent(self) -> int:
        """Bytes written so far."""

    @property
    def is_http_1_0(self) -> bool:
        """Whether the request is of HTTP/1.0."""

    @property
    def is_half_closed(self) -> bool:
        """Whether the peer sends nothing more, and still reads."""

    @property
    def is_write_paused(self) -> bool:
        """Whether the peer does not take what is written fast enough."""

    async def wait_for_room(self) -> None:
        """Wait until the peer has taken enough of what was written."""

    def resume_reading(self) -> None:
        """Read on: the application wants more of the body."""

    def write(self, data: bytes) -> None:
        """Write bytes as they go out."""

    def response_complete(self, exchange: Exchange) -> None:
        """Go on after a response."""

    def close(self) -> None:
        """End when what was written has been sent; the response is not complete."""

    def abort(self) -> None:
        """End at once."""


class WebSocketChannel(Channel, Protocol):
    """Carries the handshake of a WebSocket and, when that is accepted, the bytes of its frames.

    Attributes:
        exchange: The handshake.
    """

    exchange: Any

    @property
    def transport(self) -> asyncio.Transport:
        """What the bytes go through, both ways."""

    @property
    def tls(self) -> dict[str, Any] | None:
        """What ASGI tells of TLS; None without it."""

    def has_received(self) -> bool:
        """Whether something has come that is not used yet."""

    def hand_over(self, protocol: WebSocketProtocol) -> bytes:
        """Let a protocol go on; return what has come for it already. It tells when the transport is lost."""

    def tunnel(self, data: bytes) -> None:
        """Write bytes of frames."""

    def connection_lost(self, exc: Exception | None) -> None:
        """Let go: the transport is lost."""


def exchanges_of(connection: Any) -> Iterable[Exchange]:
    """Return the requests in hand on a connection; none, where it is of a protocol that the user brings."""
    several = getattr(connection, "exchanges", None)
    one = getattr(connection, "exchange", None)
    return several if several is not None else () if one is None else (one,)
