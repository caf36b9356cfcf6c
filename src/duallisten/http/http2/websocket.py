"""A WebSocket on a stream of HTTP/2: the same handshake, frames and end as on HTTP/1.1, by the same code.

    stream  ->  its transport  ->  WebSocketProtocol  ->  WebSocket  ->  the application

The client sends CONNECT with `:protocol: websocket`, and the answer is 200. From then on the bodies of both directions
carry the bytes of WebSocket frames. A `StreamTransport` replaces the socket's transport for the `WebSocketProtocol`.

Receiving. Bytes received while the protocol does not read are kept here. They are limited by the stream's window, which
is opened again as the protocol reads.

Sending. Bytes that do not fit the windows are kept here. The protocol is told when they exceed `HIGH_WATER`, and when
they have been sent.

The end. On HTTP/1.1 the connection is closed or reset; here the stream is: with END_STREAM, or with RST_STREAM
(CANCEL). Bytes received after our end are dropped.

Facts it rests on: RFC 8441, 3 (a client asks only if the server has announced support in its SETTINGS), 4 (the end of
the stream), 5 (no `Sec-WebSocket-Key` and `Sec-WebSocket-Accept`; version, subprotocols and extensions as before).
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
"""The protocol must pause writing when more than this many bytes wait to be sent; asyncio's value."""

UPGRADE = (("Upgrade", "websocket"), ("Connection", "Upgrade"), ("Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAAAA=="))
"""The fields of a handshake in HTTP/1.1 that `:protocol` replaces; the websockets library expects them."""


def begin_websocket(connection: Http2Connection, number: int, scope: Scope) -> None:
    """Ask the application whether it accepts a WebSocket."""
    stream = WebSocketStream(connection, number)
    stream.exchange = websocket = Http2WebSocket(stream, scope, keep_alive=True)
    connection.opened(stream)
    websocket.start()


class Http2WebSocket(WebSocket, Http2Exchange):
    """A WebSocket handshake on a stream, and the WebSocket that it becomes; a denial is an ordinary response."""

    accepted_status = 200
    stream: WebSocketStream

    _has_returned = False

    @property
    def is_over(self) -> bool:
        """Whether the request is finished: the handshake was denied, or the application has returned."""
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
        transport: The transport for the WebSocket protocol.
        has_sent_end: Whether we have sent END_STREAM.
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
        """The value of ASGI's `tls` extension; None without TLS."""
        return self.connection.tls

    @property
    def is_write_paused(self) -> bool:
        """Whether too many bytes wait to be sent."""
        return self.transport.is_paused

    def has_received(self) -> bool:
        """Whether received frames of the connection wait to be processed."""
        return self.connection.has_received()

    def hand_over(self, protocol: WebSocketProtocol) -> bytes:
        """Give the stream to a protocol; return the bytes already received for it."""
        self.context.connections.add(protocol)
        return self.transport.start(protocol)

    def tunnel(self, data: bytes) -> None:
        """Write bytes of WebSocket frames."""
        self.transport.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """Do nothing: a stream ends by itself."""

    def take(self, data: bytes, size: int, *, ends: bool) -> None:
        """Process bytes of WebSocket frames; see `Stream`."""
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
        else:  # the client has ended its half before the handshake was answered
            self.abort()

    def resume_reading(self) -> None:
        """Open the window by the bytes that were read, unless unread bytes wait."""
        if not self.transport.has_unread:
            super().resume_reading()

    def _wait_for_body(self) -> None:
        """Set no deadline: a WebSocket client may stay silent."""

    def sent_all(self) -> None:
        """Send the bytes that have waited for the pending part."""
        super().sent_all()
        if not self.is_abandoned:
            self.transport.send_on()

    def sent_end(self) -> None:
        """Wait a moment for the peer to end its half, too."""
        self.has_sent_end = True
        super().sent_end()

    def abandon(self) -> None:
        """Stop sending and receiving on the stream; see `Stream`."""
        super().abandon()
        self.transport.lose()

    def expire(self) -> None:
        """Handle a passed deadline; the protocol has its own while the WebSocket is open."""
        if self.exchange.is_accepted and not self.has_sent_end:
            self.deadline = NEVER
        else:
            super().expire()


class StreamTransport(asyncio.Transport):
    """The transport of a WebSocket on a stream, in place of a socket's transport.

    Attributes:
        is_paused: Whether the protocol was told to pause writing.
    """

    def __init__(self, stream: WebSocketStream) -> None:
        super().__init__()
        self._stream = stream
        self._protocol: WebSocketProtocol | None = None
        self._received: list[bytes] = []
        self._has_ended = False  # the peer has sent END_STREAM, but the protocol was not told yet
        self._is_reading = True
        self._unsent: list[bytes] = []  # to be sent after the stream's pending data
        self._unsent_size = 0
        self._is_closing = self._is_lost = False
        self.is_paused = False

    def start(self, protocol: WebSocketProtocol) -> bytes:
        """Set the protocol; return the bytes already received for it."""
        self._protocol = protocol
        self._stream.context.loop.call_soon(self._stream.resume_reading)
        return self._take_received()

    # What the stream calls.

    @property
    def has_unread(self) -> bool:
        """Whether received bytes wait for the protocol."""
        return bool(self._received)

    def receive(self, data: bytes, *, ends: bool) -> None:
        """Pass received bytes, or the peer's end, to the protocol; keep them while it does not read."""
        if data:
            self._received.append(data)
        self._has_ended = ends
        self._deliver()

    def send_on(self) -> None:
        """Send the bytes that have waited; when all are sent, send END_STREAM or resume writing."""
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
        """Tell the protocol once that the connection is lost."""
        self._is_closing = True
        self._received.clear()
        self._unsent.clear()
        if self._protocol is not None and not self._is_lost:
            self._is_lost = True
            self._protocol.connection_lost(None)

    # What the protocol calls.

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return a fact about the connection's transport."""
        return self._stream.connection.transport.get_extra_info(name, default)

    def is_closing(self) -> bool:
        """Whether nothing more can be written."""
        return self._is_closing

    def get_write_buffer_size(self) -> int:
        """Return how many bytes wait to be sent."""
        pending = self._stream.pending
        return self._unsent_size + (0 if pending is None else len(pending))

    def pause_reading(self) -> None:
        """Keep received bytes from now on."""
        self._is_reading = False

    def resume_reading(self) -> None:
        """Pass received bytes to the protocol again; bytes kept so far follow in the next turn of the event loop."""
        self._is_reading = True
        self._stream.context.loop.call_soon(self._read_on)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send bytes, or keep them until there is room."""
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
        """Return False: `close` ends only our half of the stream anyway."""
        return False

    def close(self) -> None:
        """End our half of the stream when all written bytes have been sent."""
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
