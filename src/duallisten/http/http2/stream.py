"""A stream of HTTP/2: the channel of one exchange, with the windows of flow control in both directions.

Receiving. A peer may send a stream `WINDOW` bytes. As the application reads them, the window is opened again, and not
before: what nobody reads is held back by its sender.

Sending. What there is no room for, in the window of the stream or of the connection or in the transport, is `pending`
until the connection (`sending`) has written it; whoever sends waits for that.

The end. A stream ends when both sides have sent all they have to. Where the response is complete before the request
is, the peer has a moment to end its body, which is dropped; then the stream is reset without an error (RFC 9113, 8.1).

Invariants:
    - After its end, nothing of a stream is written but RST_STREAM, once.
    - A stream has a deadline whenever it is the peer's turn to send its body, or to open its window.
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
"""Bytes of a body that a peer may send before the application reads them."""


class Stream:
    """One stream; see `Channel`.

    Attributes:
        connection: What it is on.
        number: Its number.
        exchange: Its request.
        has_body: Whether the peer has still something to send on it.
        left: Bytes of the body to come, where the request says so.
        receive_window: Bytes that the peer may send now.
        send_window: Bytes that we may send now.
        pending: What waits to be sent; None where nothing does.
        pending_ends: Whether that is the end of the response.
        is_queued: Whether it has its turn among those that wait to send.
        deadline: When `expire` is called.
        sent: Bytes written on it.
        least_data: Bytes of a frame of a body below which it costs more than it brings.
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

    # What observers ask.

    @property
    def client(self) -> tuple[str, int] | None:
        """The other end's address, as in a scope."""
        return self.connection.client

    @property
    def server(self) -> tuple[str, int | None] | None:
        """Our own address, as in a scope."""
        return self.connection.server

    @property
    def is_trusted(self) -> bool:
        """Whether the peer's forwarded headers are believed."""
        return self.connection.connection.is_trusted

    @property
    def note(self) -> Any:
        """What an observer has noted of the connection."""
        return self.connection.connection.note

    @note.setter
    def note(self, note: Any) -> None:
        self.connection.connection.note = note

    # Receiving.

    def take(self, data: bytes, size: int, *, ends: bool) -> None:
        """Take a part of the body.

        Args:
            data: It.
            size: Bytes that it takes of the window: with its padding.
            ends: Whether it is the last.

        Raises:
            BadStream: There is more or less of it than there may be.
            BadRequest: It is too large.
        """
        self._count(size)
        exchange = self.exchange
        self.received += len(data)
        if self.left is not None:
            self.left -= len(data)
            if self.left < 0 or (ends and self.left):
                raise BadRequest(400, "a body that is longer or shorter than its length")
        if exchange.complete:
            self._drop(ends=ends)
            return
        most = self.context.limits.body_bytes
        if most is not None and self.received > most:
            raise BadRequest(413, f"a body of more than {most} bytes")
        if data:
            exchange.feed([data])
        if ends:
            self.has_body = False
            exchange.end_body()
        elif size > len(data):
            self.resume_reading()
        self._wait_for_body()

    def _count(self, size: int) -> None:
        """Count what has come of what the peer may send."""
        if not self.has_body:
            raise frames.BadStream(frames.STREAM_CLOSED, "a body that has ended")
        self.receive_window -= size
        if self.receive_window < 0:
            raise frames.BadStream(frames.FLOW_CONTROL_ERROR, "more than the window of a stream")

    def _drop(self, *, ends: bool) -> None:
        """Go on when what nobody wants of the body has come, or is too much."""
        if ends:
            self.has_body = False
            self.connection.forget(self)
        elif self.receive_window <= 0:
            self.connection.reset(self, frames.NO_ERROR)

    def _wait_for_body(self) -> None:
        """Set the deadline for the next part of the body, if the peer may send any."""
        if self.has_body and self.receive_window > 0:
            self.wait(self.context.limits.body_seconds)
        elif self.pending is None:
            self.deadline = NEVER

    def wait(self, seconds: float | None) -> None:
        """Set the deadline."""
        self.deadline = self.context.clock.after(seconds)
        self.connection.watch(self.deadline)

    def resume_reading(self) -> None:
        """Open the window by what the application has read, when that is half of it."""
        credit = WINDOW - self.receive_window - self.exchange.body_bytes
        if credit >= WINDOW // 2 and self.has_body and not self.is_abandoned:
            self.receive_window += credit
            self.write(frames.window_update(self.number, credit))
            self._wait_for_body()

    # Sending.

    @property
    def is_write_paused(self) -> bool:
        """Whether the peer does not take what is written fast enough."""
        return self.connection.is_write_paused

    async def wait_for_room(self) -> None:
        """Wait until the peer has taken enough of what was written."""
        await self.connection.wait_for_room()

    def write(self, data: bytes) -> None:
        """Write frames, unless the stream has been reset."""
        if not self.is_abandoned:
            self.sent += len(data)
            self.connection.write(data)

    def send_head(self, block: bytes, *, ends: bool) -> None:
        """Write fields."""
        if self.is_abandoned:  # a head that was held back
            return
        self.write(frames.head(self.number, self.connection.sending.announce() + block, ends=ends))

    def send_data(self, data: bytes, *, ends: bool) -> None:
        """Write a part of a body, or have it wait for room: `pending` then."""
        self.connection.sending.send(self, data, ends=ends)

    async def wait_until_sent(self) -> None:
        """Wait until what is pending has been written, or is not wanted any more."""
        while self.pending is not None:
            self._waiter = self.context.loop.create_future()
            await self._waiter

    def sent_all(self) -> None:
        """Let whoever sends go on: nothing is pending any more."""
        self.pending = None
        if not self.is_abandoned:
            self.deadline = NEVER
            if self.has_body:
                self._wait_for_body()
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def answer(self, answer: Answer, *, with_body: bool = True) -> None:
        """Write an answer of our own, which is short."""
        body = answer.body if with_body else b""
        self.send_head(encode_answer(answer, self.context.default_block), ends=not body)
        if body:
            self.write(frames.frame(frames.DATA, frames.END_STREAM, self.number, body))

    # The end.

    def response_complete(self, exchange: Exchange) -> None:
        """Count the response, which is the end of our half."""
        self.context.state.total_requests += 1
        self.sent_end()

    def sent_end(self) -> None:
        """Let go, or wait a moment for the rest of the body: our half has ended."""
        if self.has_body:
            if self.receive_window <= 0:
                self.connection.reset(self, frames.NO_ERROR)
            else:
                self.wait(LINGER_SECONDS)
        else:
            self.connection.forget(self)

    def abandon(self) -> None:
        """Let go: nothing more is sent or received on it."""
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
        """Answer a request that cannot be served any further, unless an answer has begun, and end the stream."""
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
        """Reset it: the response is not complete."""
        self.connection.reset(self, frames.INTERNAL_ERROR)

    def abort(self) -> None:
        """Reset it: the response is not complete."""
        self.connection.reset(self, frames.CANCEL)

    def expire(self) -> None:
        """Do what is due: the peer has not done in time what it was to do."""
        self.deadline = NEVER
        if self.exchange.complete:
            self.connection.reset(self, frames.NO_ERROR)
        elif self.pending is not None:
            self.context.tell_refused(self.connection.connection, 0, "the window of a stream was not opened in time")
            self.connection.reset(self, frames.CANCEL)
        else:
            self.refuse(BadRequest(408, "the body did not come in time"))
