"""A WebSocket on a stream of HTTP/2: the same handshake, frames and end as on HTTP/1.1, by the same code.

    stream  ->  its transport  ->  WebSocketProtocol  ->  WebSocket  ->  the application

The client asks with CONNECT and `:protocol: websocket`, and is answered 200. From there the bodies of both sides carry
the bytes of WebSocket frames. A `StreamTransport` is to `WebSocketProtocol` what a socket's transport is.

Receiving. What comes while the protocol does not read waits here; it is at most the window of the stream, which is
opened again as the protocol reads.

Sending. What the windows have no room for waits here, and the protocol is told when that is much, and when it has gone.

The end. Where a connection would be closed, the stream ends (END_STREAM); where it would be reset, so is the stream
(CANCEL). What comes behind our end is dropped.

Facts it rests on: RFC 8441, 3 (a client asks only where the server has said that it may), 4 (what replaces a
connection's end), 5 (no `Sec-WebSocket-Key` and no `Sec-WebSocket-Accept`; version, subprotocols and extensions stay).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from websockets.http11 import Request

from duallisten.http.flow import NEVER
from duallisten.http.http2 import frames
from duallisten.http.http2.exchange import Http2Exchange
from duallisten.http.http2.fields import STATUSES, encode_block, encode_checked
from duallisten.http.http2.stream import Stream
from duallisten.http.websocket import WebSocket

if TYPE_CHECKING:
    from duallisten.http.head import Field
    from duallisten.http.http2.connection import Http2Connection
    from duallisten.http.websocket_protocol import WebSocketProtocol
    from duallisten.sides import Application, Scope

HIGH_WATER = 1 << 16
"""Bytes that wait to be sent before the protocol is told; asyncio's."""
LOW_WATER = HIGH_WATER // 4

UPGRADE = (("Upgrade", "websocket"), ("Connection", "Upgrade"), ("Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAAAA=="))
"""What a handshake has in HTTP/1.1 in place of `:protocol`, for the library that checks the rest of it."""


def begin_websocket(connection: Http2Connection, number: int, scope: Scope) -> None:
    """Ask the application whether it accepts a WebSocket."""
    stream = WebSocketStream(connection, number)
    stream.exchange = websocket = Http2WebSocket(stream, scope, keep_alive=True)
    connection.opened(stream)
    websocket.start()


class Http2WebSocket(WebSocket, Http2Exchange):
    """The handshake of a WebSocket on a stream, and what it becomes; a denial is an answer like others."""

    accepted_status = 200
    stream: WebSocketStream

    _has_returned = False

    @property
    def is_over(self) -> bool:
        """Whether nothing more is done for it: it was denied, or the application has returned."""
        return self._has_returned or (self.complete and not self.is_accepted)

    async def run(self, app: Application) -> None:
        """Call the application; see `WebSocket`."""
        try:
            await super().run(app)
        finally:
            self.stream.application_ended()
            self._has_returned = True

    async def send(self, message: Any) -> None:
        """Accept or deny the handshake, send a message, or close; see `WebSocket`."""
        await super().send(message)
        if not self.is_accepted and self.stream.pending is not None:
            await self.stream.wait_until_sent()
            self._sent_all()

    def _encode_acceptance(self, own: Sequence[Field], fields: Sequence[Any]) -> bytes:
        mine = encode_block(field for field in own if field[0] != b"sec-websocket-accept")
        theirs = (block for block, length in encode_checked(fields) if length is None)
        sending = self.stream.connection.sending
        block = b"".join((sending.announce(), STATUSES[200], self.stream.context.default_block, mine, *theirs))
        return frames.head(self.stream.number, block, ends=False)

    def _as_request(self) -> Request:
        request = super()._as_request()
        for name, value in UPGRADE:
            request.headers.pop(name, None)
            request.headers[name] = value
        return request


class WebSocketStream(Stream):
    """The stream of a WebSocket; see `WebSocketChannel`.

    Attributes:
        transport: What goes through it when the handshake is accepted.
        has_sent_end: Whether our half has ended.
    """

    __slots__ = ("has_sent_end", "transport")

    exchange: Http2WebSocket

    least_data = 1  # a message may be small

    def __init__(self, connection: Http2Connection, number: int) -> None:
        super().__init__(connection, number, has_body=True, length=None)
        self.has_sent_end = False
        self.transport = StreamTransport(self)

    @property
    def tls(self) -> dict[str, Any] | None:
        """What ASGI tells of TLS; None without it."""
        return self.connection.tls

    @property
    def is_write_paused(self) -> bool:
        """Whether the peer does not take what is written fast enough."""
        return self.transport.is_paused

    def has_received(self) -> bool:
        """Whether something has come on the connection that is not used yet."""
        return self.connection.has_received()

    def hand_over(self, protocol: WebSocketProtocol) -> bytes:
        """Let a protocol go on; return what has come for it already."""
        self.context.connections.add(protocol)
        return self.transport.start(protocol)

    def tunnel(self, data: bytes) -> None:
        """Write bytes of frames."""
        self.transport.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """Do nothing: a stream ends by itself."""

    def take(self, data: bytes, size: int, *, ends: bool) -> None:
        """Take bytes of frames; see `Stream`."""
        self._count(size)
        self.received += len(data)
        websocket, transport = self.exchange, self.transport
        if transport.is_closing() or (websocket.status and not websocket.is_accepted):
            if self.has_sent_end:
                self._drop(ends=ends)
            elif ends:
                self.has_body = False
        elif websocket.is_accepted or not ends:
            self.has_body = not ends
            transport.receive(data, ends=ends)
            self.resume_reading()
        else:  # a client that sends nothing more wants no WebSocket
            self.abort()

    def resume_reading(self) -> None:
        """Open the window by what has been read, unless more waits."""
        if not self.transport.has_unread:
            super().resume_reading()

    def _wait_for_body(self) -> None:
        """Set no deadline: a WebSocket has nothing to send by then."""

    def sent_all(self) -> None:
        """Go on with what waits for the last part to be sent."""
        super().sent_all()
        if not self.is_abandoned:
            self.transport.send_on()

    def sent_end(self) -> None:
        """Wait a moment for the peer to end, too."""
        self.has_sent_end = True
        super().sent_end()

    def abandon(self) -> None:
        """Let go: nothing more is sent or received on it."""
        super().abandon()
        self.transport.lose()

    def expire(self) -> None:
        """Do what is due, unless that is for the protocol to know."""
        if self.exchange.is_accepted and not self.has_sent_end:
            self.deadline = NEVER
        else:
            super().expire()


class StreamTransport(asyncio.Transport):
    """What a WebSocket on a stream has in place of a socket's transport.

    Attributes:
        is_paused: Whether the protocol has been told that much waits to be sent.
    """

    def __init__(self, stream: WebSocketStream) -> None:
        super().__init__()
        self._stream = stream
        self._protocol: WebSocketProtocol | None = None
        self._received: list[bytes] = []
        self._has_ended = False  # the peer sends nothing more, and the protocol has yet to be told
        self._is_reading = True
        self._unsent: list[bytes] = []  # behind what is pending on the stream
        self._unsent_size = 0
        self._is_closing = self._is_lost = False
        self.is_paused = False

    def start(self, protocol: WebSocketProtocol) -> bytes:
        """Let a protocol go on; return what has come for it already."""
        self._protocol = protocol
        self._stream.context.loop.call_soon(self._stream.resume_reading)
        return self._take_received()

    # What the stream calls.

    @property
    def has_unread(self) -> bool:
        """Whether something waits that the protocol has not read."""
        return bool(self._received)

    def receive(self, data: bytes, *, ends: bool) -> None:
        """Take bytes, or the end of what the peer sends."""
        if data:
            self._received.append(data)
        self._has_ended = ends
        self._deliver()

    def send_on(self) -> None:
        """Send what has waited for what was pending, or the end."""
        if self._unsent:
            data = b"".join(self._unsent)
            self._unsent.clear()
            self._unsent_size = 0
            self._stream.send_data(data, ends=False)
        if self._stream.pending is not None or self._stream.has_sent_end:
            return
        if self._is_closing:
            self._send_end()
        elif self.is_paused and self._protocol is not None:
            self.is_paused = False
            self._protocol.resume_writing()

    def lose(self) -> None:
        """Tell the protocol that this is over, once."""
        self._is_closing = True
        self._received.clear()
        self._unsent.clear()
        if self._protocol is not None and not self._is_lost:
            self._is_lost = True
            self._protocol.connection_lost(None)

    # What the protocol calls.

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return what is known of the connection."""
        return self._stream.connection.transport.get_extra_info(name, default)

    def is_closing(self) -> bool:
        """Whether nothing more can be written."""
        return self._is_closing

    def get_write_buffer_size(self) -> int:
        """Return how many bytes wait to be sent."""
        pending = self._stream.pending
        return self._unsent_size + (0 if pending is None else len(pending))

    def pause_reading(self) -> None:
        """Keep what comes."""
        self._is_reading = False

    def resume_reading(self) -> None:
        """Give the protocol what comes, and in another turn of the event loop what has come."""
        self._is_reading = True
        self._stream.context.loop.call_soon(self._read_on)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send bytes, or have them wait for room."""
        if self._is_closing:
            return
        if self._stream.pending is None:
            self._stream.send_data(bytes(data), ends=False)
        else:
            self._unsent.append(bytes(data))
            self._unsent_size += len(data)
        if not self.is_paused and self._protocol is not None and self.get_write_buffer_size() > HIGH_WATER:
            self.is_paused = True
            self._protocol.pause_writing()

    def can_write_eof(self) -> bool:
        """Return False: a protocol that closes goes the same way as one that closes its half first."""
        return False

    def close(self) -> None:
        """End the stream when what was written has been sent."""
        if not self._is_closing:
            self._is_closing = True
            if self._stream.pending is None:
                self._send_end()

    def abort(self) -> None:
        """Reset the stream."""
        self._is_closing = True
        self._stream.abort()

    # Inside.

    def _take_received(self) -> bytes:
        data = b"".join(self._received)
        self._received.clear()
        return data

    def _deliver(self) -> None:
        protocol = self._protocol
        if protocol is None or self._is_closing or not self._is_reading:
            return
        if self._received:
            protocol.data_received(self._take_received())
        if self._has_ended and self._is_reading and not self._is_closing:
            self._has_ended = False
            protocol.eof_received()

    def _read_on(self) -> None:
        self._deliver()
        self._stream.resume_reading()

    def _send_end(self) -> None:
        self._stream.send_data(b"", ends=True)
        self._stream.context.loop.call_soon(self.lose)
        self._stream.sent_end()
