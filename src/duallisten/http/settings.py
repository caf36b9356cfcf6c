"""What one listener grants its peers, and how it speaks to them: one frozen value for the engine.

The engine knows no configuration, no platform and no command line. Whoever opens a listener makes a `Settings` from
what the user asked for, and hands it in. None means no limit everywhere.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

ParserName = Literal["auto", "httptools", "h11"]


class Limits(NamedTuple):
    """What a peer may take up on one connection.

    Attributes:
        head_bytes: The largest head of a request, request line included. More is answered with 431.
        head_fields: The most header fields in a head. More is answered with 431.
        body_bytes: The largest body of a request, whether its length is announced or not. More is answered with 413.
        head_seconds: The time for a whole head from the first byte (on a new connection: from its start), and for a
            TLS handshake.
        body_seconds: The longest time between two reads of a body, while the application wants more of it.
        send_seconds: The longest time in which a peer that we write to takes nothing.
    """

    head_bytes: int | None = 65536
    head_fields: int | None = 100
    body_bytes: int | None = None
    head_seconds: float | None = 30.0
    body_seconds: float | None = 60.0
    send_seconds: float | None = 60.0


class WebSocketSettings(NamedTuple):
    """How WebSocket connections are served; the names are those of uvicorn's options.

    Attributes:
        max_size: The largest message in bytes, after decompression.
        max_queue: Messages that wait for the application before nothing more is read.
        ping_interval: Seconds between two pings; None or 0 for no pings.
        ping_timeout: Seconds that a peer has to answer a ping.
        per_message_deflate: Whether compression is offered.
    """

    max_size: int = 16 * 1024 * 1024
    max_queue: int = 32
    ping_interval: float | None = 20.0
    ping_timeout: float | None = 20.0
    per_message_deflate: bool = True


class Settings(NamedTuple):
    """All that the engine has to know of a listener.

    Attributes:
        parser: Which library parses HTTP/1.1. `auto`: httptools where it is installed, else h11.
        limits: What a peer may take up.
        keep_alive: Seconds that a connection stays open without a request.
        websocket: How WebSocket connections are served; None where they are not.
        root_path: The path prefix that a proxy in front has taken off.
        asgi_version: The version of ASGI that the application speaks.
        limit_concurrency: Open connections, or running requests, from which on requests are answered with 503.
        http2: Whether HTTP/2 is spoken, too, with those who begin with it.
        reset_contextvars: Whether each request runs in an empty context instead of a copy of the server's.
    """

    parser: ParserName = "auto"
    limits: Limits = Limits()
    keep_alive: float = 5.0
    websocket: WebSocketSettings | None = WebSocketSettings()
    root_path: str = ""
    asgi_version: str = "3.0"
    limit_concurrency: int | None = None
    http2: bool = False
    reset_contextvars: bool = False

    @property
    def time_outs(self) -> tuple[float | None, ...]:
        """The seconds after which something is due on a connection; None and 0 where it never is."""
        limits, websocket = self.limits, self.websocket
        pings = () if websocket is None else (websocket.ping_interval, websocket.ping_timeout)
        return (limits.head_seconds, limits.body_seconds, limits.send_seconds, self.keep_alive, *pings)
