"""A stream of HTTP/2: the channel of one exchange, with the flow-control windows of both directions.

Receiving. A peer may send `WINDOW` bytes on a stream. The window is opened again only when the application reads them,
so the peer must hold back a body that the application does not read.

Sending. Data that does not fit the stream's window, the connection's window or the transport's buffer is kept in
`pending` until `Sending` writes it. The sender waits meanwhile.

The end. A stream ends when both sides have sent END_STREAM. If the response is complete before the request, the peer
gets a moment to end its body, which is dropped. Then the stream is reset without an error (RFC 9113, 8.1).

Invariants:
    - After its end, nothing is written on a stream but one RST_STREAM.
    - A stream has a deadline whenever it waits for the peer to send a body or to open a window.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from duallisten.http.answers import Answer, text_answer
from duallisten.http.flow import LINGER_SECONDS, NEVER
from duallisten.http.head import BadRequest
from duallisten.http.http2 import frames
from duallisten.http.http2.exchange import Http2Exchange, encode_answer

if TYPE_CHECKING:
    from duallisten.http.context import Context
    from duallisten.http.exchange import Exchange
    from duallisten.http.http2.connection import Http2Connection

WINDOW = 1 << 17
"""The receive window of a stream: bytes of a body that a peer may send before the application reads them."""


class Stream:
    """One stream; see `Channel`.

    Attributes:
        connection: The connection.
        number: The stream's number.
        exchange: The request.
        has_body: Whether the peer has not sent END_STREAM yet.
        left: Bytes of the body still to be received, if the request announces a length.
        receive_window: Bytes that the peer may send now.
        send_window: Bytes that we may send now.
        pending: Data that waits to be sent; None if there is none.
        pending_ends: Whether the pending data is the end of the response.
        is_queued: Whether the stream is in the queue of `Sending`.
        deadline: When `expire` is called.
        sent: Bytes written on the stream.
        least_data: A DATA frame with less data, in bytes, costs more than it brings, and is rate-limited.
    """

    __slots__ = (
        "_waiter",
        "connection",
        "context",
        "deadline",
        "exchange",
        "has_body",
        "is_abandoned",
        "is_queued",
        "is_starting",
        "left",
        "number",
        "pending",
        "pending_ends",
        "receive_window",
        "received",
        "send_window",
        "sent",
    )

    exchange: Http2Exchange

    is_http_1_0 = is_half_closed = False
    least_data = 16

    def __init__(self, connection: Http2Connection, number: int, *, has_body: bool, length: int | None) -> None:
        self.connection = connection
        self.context: Context = connection.context
        self.number = number
        self.has_body = has_body
        self.left = length
        self.received = self.sent = 0
        self.receive_window = WINDOW
        self.send_window = connection.sending.initial_window
        self.pending: memoryview | None = None
        self.pending_ends = self.is_queued = self.is_starting = self.is_abandoned = False
        self.deadline = NEVER
        self._waiter: asyncio.Future[None] | None = None

    # What observers use.

    @property
    def client(self) -> tuple[str, int] | None:
        """The client's address, as in an ASGI scope."""
        return self.connection.client

    @property
    def server(self) -> tuple[str, int | None] | None:
        """The server's address, as in an ASGI scope."""
        return self.connection.server

    @property
    def is_trusted(self) -> bool:
        """Whether the peer's forwarded headers are trusted."""
        return self.connection.connection.is_trusted

    @property
    def note(self) -> Any:
        """The connection's note, for observers."""
        return self.connection.connection.note

    @note.setter
    def note(self, note: Any) -> None:
        self.connection.connection.note = note

    # Receiving.

    def take(self, data: bytes, size: int, *, ends: bool) -> None:
        """Process a part of the body.

        Args:
            data: The data, without padding.
            size: The bytes that it uses of the window, padding included.
            ends: Whether it is the last part.

        Raises:
            BadStream: The body has ended before, or exceeds the window.
            BadRequest: 400 if the body is longer or shorter than announced, 413 if it is too large.
        """
        self._count(size)
        exchange = self.exchange
        self.received += len(data)
        if self.left is not None:
            self.left -= len(data)
            if self.left < 0 or (ends and self.left):
                raise BadRequest(400, "body longer or shorter than Content-Length")
        if exchange.complete:
            self._drop(ends=ends)
            return
        most = self.context.limits.body_bytes
        if most is not None and self.received > most:
            raise BadRequest(413, f"body larger than {most} bytes (--max-body-size)")
        if data:
            exchange.feed([data])
        if ends:
            self.has_body = False
            exchange.end_body()
        elif size > len(data):
            self.resume_reading()
        self._wait_for_body()

    def _count(self, size: int) -> None:
        """Subtract received bytes from the window."""
        if not self.has_body:
            raise frames.BadStream(frames.STREAM_CLOSED, "DATA after END_STREAM")
        self.receive_window -= size
        if self.receive_window < 0:
            raise frames.BadStream(frames.FLOW_CONTROL_ERROR, "DATA exceeds the stream's flow-control window")

    def _drop(self, *, ends: bool) -> None:
        """Drop body data after a complete response; end the stream at its end, or if the window is used up."""
        if ends:
            self.has_body = False
            self.connection.forget(self)
        elif self.receive_window <= 0:
            self.connection.reset(self, frames.NO_ERROR)

    def _wait_for_body(self) -> None:
        """Set the deadline for the next part of the body, if the window is open."""
        if self.has_body and self.receive_window > 0:
            self.wait(self.context.limits.body_seconds)
        elif self.pending is None:
            self.deadline = NEVER

    def wait(self, seconds: float | None) -> None:
        """Set the deadline to `seconds` from now; None for no deadline."""
        self.deadline = self.context.clock.after(seconds)
        self.connection.watch(self.deadline)

    def resume_reading(self) -> None:
        """Open the window by the bytes that the application has read, once they are half of it."""
        credit = WINDOW - self.receive_window - self.exchange.body_bytes
        if credit >= WINDOW // 2 and self.has_body and not self.is_abandoned:
            self.receive_window += credit
            self.write(frames.window_update(self.number, credit))
            self._wait_for_body()

    # Sending.

    @property
    def is_write_paused(self) -> bool:
        """Whether the transport's write buffer is full."""
        return self.connection.is_write_paused

    async def wait_for_room(self) -> None:
        """Wait until the transport's write buffer has room again."""
        await self.connection.wait_for_room()

    def write(self, data: bytes) -> None:
        """Write frames, unless the stream is abandoned."""
        if not self.is_abandoned:
            self.sent += len(data)
            self.connection.write(data)

    def send_head(self, block: bytes, *, ends: bool) -> None:
        """Write a HEADERS frame with an encoded block."""
        if self.is_abandoned:  # the head was held back until after the reset
            return
        self.write(frames.head(self.number, self.connection.sending.announce() + block, ends=ends))

    def send_data(self, data: bytes, *, ends: bool) -> None:
        """Write a part of a body; if it does not fit, keep it in `pending`."""
        self.connection.sending.send(self, data, ends=ends)

    async def wait_until_sent(self) -> None:
        """Wait until the pending data was written or dropped."""
        while self.pending is not None:
            self._waiter = self.context.loop.create_future()
            await self._waiter

    def sent_all(self) -> None:
        """Let the sender continue: nothing is pending any more."""
        self.pending = None
        if not self.is_abandoned:
            self.deadline = NEVER
            if self.has_body:
                self._wait_for_body()
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def answer(self, answer: Answer, *, with_body: bool = True) -> None:
        """Write one of the engine's own answers, which are short."""
        body = answer.body if with_body else b""
        self.send_head(encode_answer(answer, self.context.default_block), ends=not body)
        if body:
            self.write(frames.frame(frames.DATA, frames.END_STREAM, self.number, body))

    # The end.

    def response_complete(self, exchange: Exchange) -> None:
        """Count the response; it ends our half of the stream."""
        self.context.state.total_requests += 1
        self.sent_end()

    def sent_end(self) -> None:
        """Remove the stream, or wait a moment for the rest of the body: our half has ended."""
        if self.has_body:
            if self.receive_window <= 0:
                self.connection.reset(self, frames.NO_ERROR)
            else:
                self.wait(LINGER_SECONDS)
        else:
            self.connection.forget(self)

    def abandon(self) -> None:
        """Stop sending and receiving on the stream, and tell the application that the client is gone."""
        self.is_abandoned = True
        self.connection.unwanted += not self.exchange.is_over
        self.has_body = False
        self.deadline = NEVER
        self.exchange.disconnect()
        self.sent_all()

    def application_ended(self) -> None:
        """Note that the application has returned."""
        if self.is_abandoned and not self.exchange.is_over:
            self.connection.unwanted -= 1

    def refuse(self, bad: BadRequest) -> None:
        """Answer a bad request, unless a response has begun, and reset the stream."""
        exchange = self.exchange
        answer = text_answer(bad.status)
        self.connection.tell_refused(bad)
        if exchange.complete:
            pass
        elif not exchange.status:
            self.answer(answer)
        else:
            exchange.flush()
        is_malformed = bad.status == 400
        self.connection.reset(self, frames.PROTOCOL_ERROR if is_malformed else frames.NO_ERROR)

    def close(self) -> None:
        """Reset the stream with INTERNAL_ERROR: the response is not complete."""
        self.connection.reset(self, frames.INTERNAL_ERROR)

    def abort(self) -> None:
        """Reset the stream with CANCEL: the response is not complete."""
        self.connection.reset(self, frames.CANCEL)

    def expire(self) -> None:
        """Handle a passed deadline: the peer was too slow."""
        self.deadline = NEVER
        if self.exchange.complete:
            self.connection.reset(self, frames.NO_ERROR)
        elif self.pending is not None:
            self.context.tell_refused(
                self.connection.connection, 0, "timed out waiting for the stream's WINDOW_UPDATE (--timeout-send)"
            )
            self.connection.reset(self, frames.CANCEL)
        else:
            self.refuse(BadRequest(408, "request body timed out (--timeout-request-body)"))
