"""A connection that speaks HTTP/2: frames in, exchanges out, many at a time.

It goes on where a `Connection` has found that the client wants HTTP/2: by its choice in the TLS handshake (ALPN), or by
the preface that it begins with. `receiving` reads its frames; this is what the rest is for: its streams, what is
written and when, time-outs, and the end.

Room. What a peer may hold of us: `MAX_STREAMS` streams with a window each, one head that is not complete, and the rest
of one read. A stream whose client has reset it counts until its application has returned. While the peer does not read,
answers to its PINGs and SETTINGS would pile up; so nothing more is read then.

Fairness. A read may hold thousands of frames; after `receiving.MAX_WORK` of them the rest waits for the next turn of
the event loop. What leads to nothing is limited by budgets (`calm`).

How it ends. When the server ends, the client is told so (GOAWAY with the largest number), and asked for a sign that it
has heard (PING); what it had sent before is served. Then it is told the last stream that is answered, and later ones
are refused, which a client may send again elsewhere (RFC 9113, 6.8). The connection ends with the last exchange. A peer
that breaks the rules is told the reason at once, and all its exchanges end.

Invariants:
    - A connection has a deadline whenever it is the peer's turn to do something.
    - A stream is told of, once, to those who observe exchanges.
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
"""Streams that may be open at a time; the least that RFC 9113, 6.5.2, recommends."""

CONNECTION_WINDOW = 1 << 20
"""Bytes of bodies that may be on their way to us on all streams. They count against the windows of their streams, too,
so this one is opened again as soon as they come."""

MAX_ENDED = 256
"""How many streams are remembered that have ended."""

GOODBYE = b"goodbye!"
"""What a peer sends back when it has heard that the server ends."""

OPEN, ENDING, LAST, LINGER, CLOSED = range(5)
"""OPEN: streams come. ENDING: the peer has been told that we end, and has yet to say that it knows. LAST: later streams
are refused. LINGER: our half is closed, and what the peer sends is dropped. CLOSED: the transport is closed."""


class Http2Connection(Flow):
    """One connection.

    Args:
        connection: As it was before.
        preface: What the client has to send first.

    Attributes:
        connection: As it was before: what observers hear of.
        streams: Those that are open, by number.
        takes_websockets: Whether a stream may become a WebSocket: where the engine serves them.
        last: The largest number of a stream that the peer has opened.
        unwanted: Streams that were reset, and whose application has not returned yet.
        ended: The last streams that have ended, and whether it was we who reset them.
        sending: What waits to be sent.
        frames_left, resets_left: What the peer may ask for that leads to nothing.
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
        self.frames_left = calm.Budget(calm.FRAMES, calm.FRAMES_PER_SECOND, context.loop.time, "frames without use")
        self.resets_left = calm.Budget(calm.RESETS, calm.RESETS_PER_SECOND, context.loop.time, "streams that are reset")
        self.sending = Sending(self)
        self._receiving = Receiving(self, preface)
        self._window_deadline = self._write_deadline = NEVER
        self._own_deadline = self.deadline = context.clock.after(context.limits.head_seconds)

    def start(self, data: bytes) -> None:
        """Begin, with what has come already."""
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
        """Take what the peer has sent."""
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
        """Keep our half open while there is something to answer: the peer sends nothing more."""
        if self.tls is not None:
            return False
        self._is_half_closed = True
        for stream in [one for one in self.streams.values() if one.has_body]:
            self.reset(stream, frames.CANCEL)
        return bool(self.streams)

    def connection_lost(self, exc: Exception | None) -> None:
        """Let go of everything: the connection has ended."""
        self.context.connections.discard(self)
        self.stage, self.deadline = CLOSED, NEVER
        self._receiving.close()
        self._abandon_all()
        self.resume_writing()
        self.sending.clear()
        self._trace("HTTP/2 connection lost")
        self.connection.connection_lost(exc)

    def pause_writing(self) -> None:
        """Let whoever sends wait: the peer does not take what we write fast enough."""
        self.sending.unread = 0
        super().pause_writing()

    def resume_writing(self) -> None:
        """Let whoever sends go on."""
        self._write_deadline = NEVER
        super().resume_writing()
        if self.stage < LINGER:
            self.sending.go_on()
            self.resume_reading()

    # Streams.

    @property
    def exchanges(self) -> Iterator[Exchange]:
        """The requests in hand."""
        return (stream.exchange for stream in self.streams.values() if not stream.exchange.complete)

    @property
    def is_serving(self) -> bool:
        """Whether anything may still be sent on a stream."""
        return self.stage < LINGER

    def refuses(self, number: int) -> bool:
        """Whether there is no room for a stream, or it comes too late."""
        return number > self._refuse_from or len(self.streams) + self.unwanted >= MAX_STREAMS

    def opened(self, stream: Stream) -> None:
        """Take a stream whose request is about to be served."""
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
        """Let go of a stream that has ended."""
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
        """End a stream before its time, and tell the peer; an answer that was written stays written."""
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
        """Tell observers and the log of a request that is not served."""
        self.context.tell_refused(self.connection, bad.status, bad.reason)
        self.context.log_warning(text_answer(bad.status).body.decode(), self.connection)

    # Sending.

    def write(self, data: bytes) -> None:
        """Write frames, with those of the same turn of the event loop."""
        if self.sending.write(data):
            self.pause_reading()

    # Receiving.

    def has_received(self) -> bool:
        """Whether something has come that is not used yet."""
        return self._receiving.has_more and self.stage < LINGER

    def _go_on(self) -> None:
        self._is_scheduled = False
        if self.stage < LINGER and not (self.is_write_paused and self.sending.is_unread):
            self.data_received(b"")
            if not self._receiving.has_more:
                self._resume()

    # Time.

    def watch(self, deadline: float) -> None:
        """See that a stream's deadline is met."""
        self.deadline = min(self.deadline, deadline)

    def wait_for_head(self, *, is_begun: bool) -> None:
        """Set the deadline for the rest of a head, or for nothing."""
        context = self.context
        seconds = context.limits.head_seconds if is_begun else LINGER_SECONDS if self.stage == ENDING else None
        self._own_deadline = context.clock.after(seconds)
        if not is_begun and not self.streams and self.stage == OPEN:
            self._own_deadline = context.clock.now + context.keep_alive
        self._set_deadline()

    def wait_for_window(self, *, is_shut: bool) -> None:
        """Set the deadline for the peer to open the connection's window, where streams wait for it."""
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
        """Do what is due: the peer has not done in time what it was to do."""
        now = self.context.clock.now
        if self.stage == LINGER:
            self.close()
        elif self.stage == CLOSED or self._write_deadline <= now:
            if self._is_stuck():
                self.context.tell_refused(self.connection, 0, "nothing was taken of what was written")
                self.abort()
        elif self._window_deadline <= now:
            self.context.tell_refused(self.connection, 0, "the window of a connection was not opened in time")
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
        """End: a head did not come whole, the peer has been idle, or has not said that it knows of the end."""
        if self._receiving.is_in_head:
            self.context.tell_refused(self.connection, 0, "no whole head came in time")
            self.fail(frames.BadConnection(frames.PROTOCOL_ERROR, "a head did not come in time"))
        elif self.stage == ENDING:
            self.knows_of_end()
        else:
            self._end(frames.NO_ERROR)

    # The end.

    def shutdown(self) -> None:
        """End after the requests in hand, and those that are on their way: the server ends."""
        if self.stage == OPEN:
            self.stage = ENDING
            self.write(frames.goaway(frames.MAX_STREAM, frames.NO_ERROR) + frames.frame(frames.PING, 0, 0, GOODBYE))
            self._own_deadline = self.context.clock.after(LINGER_SECONDS)
            self._set_deadline()
            for exchange in list(self.exchanges):
                exchange.shutdown()

    def knows_of_end(self) -> None:
        """Refuse what comes from now on: the peer has heard that the server ends, or had the time to."""
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
        """End after the requests in hand: the peer opens no more streams."""
        self.stage = LAST
        self._go_on_ending()

    def fail(self, bad: frames.BadConnection) -> None:
        """Tell the peer which rule it has broken, and end."""
        self.context.tell_refused(self.connection, 0, bad.reason)
        self.context.log_warning(f"Invalid HTTP/2 received: {bad.reason}", self.connection)
        self._end(bad.code)

    def _end(self, code: int) -> None:
        if self.stage < LINGER:
            self.write(frames.goaway(min(self.last, self._refuse_from), code))
            self._linger()

    def _linger(self) -> None:
        """Close our half, drop what the peer still sends, and close the rest when it has had the time to read."""
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
        """Close the connection when what was written has been sent."""
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
