"""A connection that speaks HTTP/2: frames in, exchanges out, many at a time.

It takes over from a `Connection` whose client has chosen HTTP/2: in the TLS handshake (ALPN), or by sending the preface
first. `receiving` reads the frames. This module keeps the streams, writes, and handles time-outs and the end.

Limits. A peer may hold `MAX_STREAMS` streams with a window each, one incomplete head, and the unprocessed bytes of one
read. A stream that the client has reset counts until its application has returned. If the peer does not read, replies
to its PING and SETTINGS frames would fill the write buffer, so reading pauses.

Fairness. A read may hold thousands of frames. After `receiving.MAX_WORK` of them the remaining bytes wait for the next
turn of the event loop. Frames that carry no request are rate-limited (`calm`).

How it ends. When the server shuts down, it sends GOAWAY with the largest stream number, and a PING. Requests that
arrive before the reply to the PING are served. Then it sends GOAWAY with the last stream that it answers, and refuses
later streams, which a client may send again elsewhere (RFC 9113, 6.8). The connection ends with the last exchange. A
peer that breaks the rules gets a GOAWAY with the error code at once, and all its exchanges end.

Invariants:
    - A connection has a deadline whenever it waits for the peer.
    - Observers of exchanges are told once of each stream.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from duallisten.http.answers import text_answer
from duallisten.http.flow import LINGER_SECONDS, NEVER, Flow
from duallisten.http.http2 import calm, frames
from duallisten.http.http2.receiving import Receiving
from duallisten.http.http2.sending import Sending
from duallisten.http.http2.stream import WINDOW, Stream

if TYPE_CHECKING:
    from duallisten.http.connection import Connection
    from duallisten.http.exchange import Exchange
    from duallisten.http.head import BadRequest

MAX_STREAMS = 100
"""The most open streams at a time; the least value that RFC 9113, 6.5.2, recommends."""

CONNECTION_WINDOW = 1 << 20
"""The connection's receive window in bytes. Each stream's window limits its unread body, so this window is opened again
as soon as data arrives."""

MAX_ENDED = 256
"""The number of ended streams that are remembered."""

GOODBYE = b"goodbye!"
"""The payload of the PING that follows the first GOAWAY; the peer returns it."""

OPEN, ENDING, LAST, LINGER, CLOSED = range(5)
"""OPEN: new streams are served. ENDING: GOAWAY was sent; new streams are served until the peer replies. LAST: new
streams are refused. LINGER: our half is closed, and received bytes are dropped. CLOSED: the transport is closed."""


class Http2Connection(Flow):
    """One connection.

    Args:
        connection: The `Connection` that HTTP/2 was chosen on.
        preface: The rest of the preface, which the client must send first.

    Attributes:
        connection: The same `Connection`, which observers get.
        streams: The open streams, by number.
        takes_websockets: Whether a stream may become a WebSocket: only if the engine serves WebSockets.
        last: The largest stream number that the peer has opened.
        unwanted: The number of streams that were reset, but whose application has not returned yet.
        ended: The streams that ended last, and for each whether we have reset it.
        sending: The sending half.
        frames_left, resets_left: Budgets for frames without use, and for streams that the peer resets.
    """

    __slots__ = (
        "_is_half_closed",
        "_own_deadline",
        "_receiving",
        "_refuse_from",
        "_window_deadline",
        "_write_deadline",
        "connection",
        "ended",
        "frames_left",
        "last",
        "resets_left",
        "sending",
        "server",
        "stage",
        "streams",
        "takes_websockets",
        "unwanted",
    )

    def __init__(self, connection: Connection, preface: bytes) -> None:
        context = connection.context
        super().__init__(context)
        self.connection = connection
        self.transport, self.tls = connection.transport, connection.tls
        self.client, self.server = connection.client, connection.server
        self.is_write_paused = connection.is_write_paused
        self.takes_websockets = context.settings.websocket is not None and context.hand_over is None
        self.stage, self._is_half_closed = OPEN, False
        self.streams: dict[int, Stream] = {}
        self.last = self.unwanted = 0
        self.ended: dict[int, bool] = {}
        self._refuse_from = frames.MAX_STREAM
        self.frames_left = calm.Budget(calm.FRAMES, calm.FRAMES_PER_SECOND, context.loop.time, "control frames")
        self.resets_left = calm.Budget(calm.RESETS, calm.RESETS_PER_SECOND, context.loop.time, "stream resets")
        self.sending = Sending(self)
        self._receiving = Receiving(self, preface)
        self._window_deadline = self._write_deadline = NEVER
        self._own_deadline = self.deadline = context.clock.after(context.limits.head_seconds)

    def start(self, data: bytes) -> None:
        """Send SETTINGS, and process the bytes already received."""
        self._trace("HTTP/2 connection made")
        values = {
            frames.MAX_CONCURRENT_STREAMS: MAX_STREAMS,
            frames.INITIAL_WINDOW_SIZE: WINDOW,
            frames.ENABLE_CONNECT_PROTOCOL: int(self.takes_websockets),
            frames.NO_RFC7540_PRIORITIES: 1,
        }
        if (head_bytes := self.context.limits.head_bytes) is not None:
            values[frames.MAX_HEADER_LIST_SIZE] = head_bytes
        self.write(frames.settings(values) + frames.window_update(0, CONNECTION_WINDOW - 65535))
        if data:
            self.data_received(data)

    # What the transport calls.

    def data_received(self, data: bytes) -> None:
        """Process bytes from the peer."""
        if self.stage >= LINGER:
            return
        try:
            self._receiving.take(data)
        except frames.BadConnection as bad:
            self.fail(bad)
            return
        if self.sending.queue:
            self.sending.go_on()
        if self._receiving.has_more:
            self.pause_reading()
            self._schedule()

    def eof_received(self) -> bool:
        """Keep our sending half open while requests must be answered: the peer has closed its own."""
        if self.tls is not None:
            return False
        self._is_half_closed = True
        for stream in [one for one in self.streams.values() if one.has_body]:
            self.reset(stream, frames.CANCEL)
        return bool(self.streams)

    def connection_lost(self, exc: Exception | None) -> None:
        """Release everything: the connection is closed."""
        self.context.connections.discard(self)
        self.stage, self.deadline = CLOSED, NEVER
        self._receiving.close()
        self._abandon_all()
        self.resume_writing()
        self.sending.clear()
        self._trace("HTTP/2 connection lost")
        self.connection.connection_lost(exc)

    def pause_writing(self) -> None:
        """Make senders wait: the transport's write buffer is full."""
        self.sending.unread = 0
        super().pause_writing()

    def resume_writing(self) -> None:
        """Let senders continue."""
        self._write_deadline = NEVER
        super().resume_writing()
        if self.stage < LINGER:
            self.sending.go_on()
            self.resume_reading()

    # Streams.

    @property
    def exchanges(self) -> Iterator[Exchange]:
        """The requests whose response is not complete."""
        return (stream.exchange for stream in self.streams.values() if not stream.exchange.complete)

    @property
    def is_serving(self) -> bool:
        """Whether streams may still send."""
        return self.stage < LINGER

    def refuses(self, number: int) -> bool:
        """Whether a new stream must be refused: there are too many, or the server shuts down."""
        return number > self._refuse_from or len(self.streams) + self.unwanted >= MAX_STREAMS

    def opened(self, stream: Stream) -> None:
        """Add a stream whose request is about to be served."""
        if not self.streams and self.stage == OPEN:
            self._own_deadline = self.deadline = NEVER
        self.streams[stream.number] = stream

    def note_ended(self, number: int, *, by_us: bool) -> None:
        """Remember that a stream has ended."""
        ended = self.ended
        ended[number] = by_us
        if len(ended) > MAX_ENDED:
            del ended[next(iter(ended))]

    def forget(self, stream: Stream, *, by_us: bool = False) -> None:
        """Remove a stream that has ended."""
        if self.streams.pop(stream.number, None) is None:
            return
        self.note_ended(stream.number, by_us=by_us)
        if self.stage != OPEN:
            self._go_on_ending()
        elif self.context.is_ending:
            self.shutdown()
        elif not self.streams:
            if self._is_half_closed:
                self.close()
            else:
                self._own_deadline = self.deadline = self.context.clock.now + self.context.keep_alive

    def reset(self, stream: Stream, code: int) -> None:
        """Reset a stream, and abandon its exchange; bytes already written are still sent."""
        if stream.number in self.streams and self.stage < LINGER:
            self.write(frames.reset(stream.number, code))
            stream.abandon()
            self.forget(stream, by_us=True)

    def was_reset(self, stream: Stream) -> None:
        """End a stream that the peer has reset."""
        if not stream.exchange.is_over:
            self.resets_left.spend()
        stream.abandon()
        self.forget(stream)

    def _abandon_all(self) -> None:
        streams, self.streams = self.streams, {}
        for stream in streams.values():
            stream.abandon()

    def tell_refused(self, bad: BadRequest) -> None:
        """Report a refused request to the observers and the log."""
        self.context.tell_refused(self.connection, bad.status, bad.reason)
        self.context.log_warning(text_answer(bad.status).body.decode(), self.connection)

    # Sending.

    def write(self, data: bytes) -> None:
        """Write frames, together with others of the same turn of the event loop."""
        if self.sending.write(data):
            self.pause_reading()

    # Receiving.

    def has_received(self) -> bool:
        """Whether received frames wait to be processed."""
        return self._receiving.has_more and self.stage < LINGER

    def _go_on(self) -> None:
        self._is_scheduled = False
        if self.stage < LINGER and not (self.is_write_paused and self.sending.is_unread):
            self.data_received(b"")
            if not self._receiving.has_more:
                self._resume()

    # Time.

    def watch(self, deadline: float) -> None:
        """Call `expire` by a stream's deadline, too."""
        self.deadline = min(self.deadline, deadline)

    def wait_for_head(self, *, is_begun: bool) -> None:
        """Set the deadline for the rest of a head, if one has begun; else for the end or for an idle connection."""
        context = self.context
        seconds = context.limits.head_seconds if is_begun else LINGER_SECONDS if self.stage == ENDING else None
        self._own_deadline = context.clock.after(seconds)
        if not is_begun and not self.streams and self.stage == OPEN:
            self._own_deadline = context.clock.now + context.keep_alive
        self._set_deadline()

    def wait_for_window(self, *, is_shut: bool) -> None:
        """Set the deadline for the peer to open the connection's window; clear it if no stream waits for it."""
        if not is_shut:
            self._window_deadline = NEVER
        elif self._window_deadline == NEVER:
            self._window_deadline = self.context.clock.after(self.context.limits.send_seconds)
            self.watch(self._window_deadline)

    def _give_time_to_send(self) -> None:
        super()._give_time_to_send()
        self._write_deadline = self.deadline
        self._set_deadline()

    def _set_deadline(self) -> None:
        own = (self._own_deadline, self._window_deadline, self._write_deadline)
        self.deadline = min(*own, *(stream.deadline for stream in self.streams.values()))

    def expire(self) -> None:
        """Handle a passed deadline: the peer was too slow."""
        now = self.context.clock.now
        if self.stage == LINGER:
            self.close()
        elif self.stage == CLOSED or self._write_deadline <= now:
            if self._is_stuck():
                self.context.tell_refused(self.connection, 0, "client stopped reading the response (--timeout-send)")
                self.abort()
        elif self._window_deadline <= now:
            self.context.tell_refused(self.connection, 0, "timed out waiting for WINDOW_UPDATE (--timeout-send)")
            self.abort()
        elif self._own_deadline <= now:
            self._own_deadline = NEVER
            self._end_in_time()
        else:
            for stream in [one for one in self.streams.values() if one.deadline <= now]:
                stream.expire()
            if self.stage < LINGER:
                self._set_deadline()

    def _end_in_time(self) -> None:
        """End: a head was not completed in time, the connection was idle, or the PING at shutdown got no reply."""
        if self._receiving.is_in_head:
            self.context.tell_refused(self.connection, 0, "request head timed out (--timeout-request-header)")
            self.fail(frames.BadConnection(frames.PROTOCOL_ERROR, "request head timed out (--timeout-request-header)"))
        elif self.stage == ENDING:
            self.knows_of_end()
        else:
            self._end(frames.NO_ERROR)

    # The end.

    def shutdown(self) -> None:
        """Start a graceful end: the server shuts down; current requests and those under way are still served."""
        if self.stage == OPEN:
            self.stage = ENDING
            self.write(frames.goaway(frames.MAX_STREAM, frames.NO_ERROR) + frames.frame(frames.PING, 0, 0, GOODBYE))
            self._own_deadline = self.context.clock.after(LINGER_SECONDS)
            self._set_deadline()
            for exchange in list(self.exchanges):
                exchange.shutdown()

    def knows_of_end(self) -> None:
        """Refuse new streams: the peer knows that the server shuts down, or its time to reply has passed."""
        if self.stage != ENDING:
            return
        self.stage = LAST
        self._refuse_from = self.last
        self._own_deadline = NEVER
        self.write(frames.goaway(self.last, frames.NO_ERROR))
        self._set_deadline()
        self._go_on_ending()

    def _go_on_ending(self) -> None:
        if self.stage == LAST and not self.streams:
            self._linger()

    def peer_ends(self) -> None:
        """End after the current requests: the peer opens no more streams."""
        self.stage = LAST
        self._go_on_ending()

    def fail(self, bad: frames.BadConnection) -> None:
        """Send the peer the error code of the rule that it has broken, and end."""
        self.context.tell_refused(self.connection, 0, bad.reason)
        self.context.log_warning(f"Invalid HTTP/2 received: {bad.reason}", self.connection)
        self._end(bad.code)

    def _end(self, code: int) -> None:
        if self.stage < LINGER:
            self.write(frames.goaway(min(self.last, self._refuse_from), code))
            self._linger()

    def _linger(self) -> None:
        """Close our sending half, drop what the peer sends for `LINGER_SECONDS`, and then close the connection."""
        self.sending.flush()
        stage, self.stage = self.stage, LINGER
        self._receiving.close()
        self._abandon_all()
        if self._close_half():
            self._resume()
        else:
            self.stage = stage
            self.close()

    def close(self) -> None:
        """Close the connection when the write buffer has been sent."""
        if self.stage != CLOSED:
            self.sending.flush()
            self.stage = CLOSED
            self._abandon_all()
            self._give_time_to_send()
            self.transport.close()

    def abort(self) -> None:
        """Close the connection at once."""
        self.stage = CLOSED
        self.transport.abort()
