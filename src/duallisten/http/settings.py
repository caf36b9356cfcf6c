"""The engine's settings for one listener: limits, time-outs and protocols, as one frozen value.

The engine knows no configuration, no platform and no command line. The code that opens a listener builds `Settings`
from the user's options and passes it in. For every limit, None means no limit.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

ParserName = Literal["auto", "httptools", "h11"]


class Limits(NamedTuple):
    """Limits on what a peer may send, and on the time that it may take, on one connection.

    Attributes:
        head_bytes: The largest request head in bytes, including the request line. A larger one is answered with 431.
        head_fields: The largest number of header fields in a head. More are answered with 431.
        body_bytes: The largest request body in bytes, announced or chunked. A larger one is answered with 413.
        head_seconds: The time to receive a whole head, counted from its first byte (on a new connection: from the
            start of the connection), and the time for a TLS handshake.
        body_seconds: The longest time between two reads of a body, while the application waits for more of it.
        send_seconds: The longest time in which a peer reads nothing of what we have written.
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
        max_queue: Reading pauses when this many messages wait for the application.
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
    """Everything that the engine needs to know about a listener.

    Attributes:
        parser: Which library parses HTTP/1.1. `auto`: httptools where it is installed, else h11.
        limits: Limits for each connection.
        keep_alive: Seconds that a connection stays open without a request.
        websocket: How WebSocket connections are served; None if they are not served.
        root_path: The path prefix that a proxy in front has removed.
        asgi_version: The version of ASGI that the application speaks.
        limit_concurrency: At this number of open connections or running requests, new requests are answered with 503.
        http2: Whether clients may use HTTP/2, too: by ALPN, or by sending its preface first.
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
        """All time-outs of a connection in seconds; None and 0 mean no time-out."""
        limits, websocket = self.limits, self.websocket
        pings = () if websocket is None else (websocket.ping_interval, websocket.ping_timeout)
        return (limits.head_seconds, limits.body_seconds, limits.send_seconds, self.keep_alive, *pings)
