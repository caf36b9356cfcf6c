"""An open WebSocket: bytes to messages, and back, until both sides have closed.

`websockets` parses, inflates and encodes the frames, and checks their order. The rest is done here: joining fragments
to messages, flow control in both directions, pings, and the end.

Limits. `websockets` limits the size of an inflated message. That limit counts bytes, but an empty fragment costs
memory, too, so the number of fragments is also limited. Reading pauses while many messages wait for the application.
While the write buffer is full, only the peer's latest ping will be answered (RFC 6455, 5.5.3).

Fairness. `websockets` parses all the bytes that it is given at once. A read may hold 40,000 frames without data, which
take a quarter of a second, or many small messages that become large when they are inflated (one deflated byte makes at
most 1,032, by zlib's technical details). So each read is cut into pieces at the ends of frames (RFC 6455, 5.2), and
after `MAX_FRAMES` frames the remaining bytes wait for the next turn of the event loop.

How it ends. The side that sends a Close first waits for the other's Close, for a limited time. When both were sent, the
server closes the transport (RFC 6455, 7.1.1). A peer that breaks the rules gets a Close with the reason. It may still
be sending, and a socket that is closed with unread bytes sends a reset, which can destroy the Close. So our sending
half is closed first, and the peer's bytes are dropped for a moment.

Time. There is one deadline: for the end if it has begun, else for a full write buffer, else for pings.

Invariants:
    - No callback raises.
    - A connection whose end has begun has a deadline.
    - `websocket_closed` is called once.
    - The memory for an incomplete message is limited by its size and by `MAX_FRAGMENTS`.
    - A piece is at most `PIECE` bytes and the rest of one frame.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from websockets.frames import Opcode

from duallisten.http.flow import LINGER_SECONDS, NEVER, Flow

if TYPE_CHECKING:
    from websockets.server import ServerProtocol

    from duallisten.http.websocket import WebSocket

MAX_FRAGMENTS = 4096
"""The most fragments of one message."""

PIECE = 2048
"""Bytes that are parsed at a time: some 340 frames without data, or a millisecond of work."""

MAX_FRAMES = 256
"""The number of frames after which the remaining bytes wait for the next turn of the event loop."""

CLOSE_SECONDS = 10.0
"""The time for a peer to answer our Close; uvicorn's."""

DATA = frozenset((Opcode.TEXT, Opcode.BINARY, Opcode.CONT))

OPEN, CLOSING, LINGERING, CLOSED = range(4)
"""OPEN: both sides may send messages. CLOSING: we have sent a Close, and wait for the peer's. LINGERING: our sending
half is closed, and bytes of the peer are dropped. CLOSED: the transport closes when its write buffer has been sent."""


class WebSocketProtocol(Flow):
    """An open WebSocket on its transport.

    Args:
        websocket: The application's side of the WebSocket.
        frames: Parses and encodes the frames; the handshake is done.

    Attributes:
        connection: The channel of the handshake.
        server: The server's address, as in an ASGI scope.
    """

    def __init__(self, websocket: WebSocket, frames: ServerProtocol) -> None:
        connection = websocket.connection
        super().__init__(connection.context)
        self.websocket = websocket
        self.connection = connection
        self.transport, self.tls = connection.transport, connection.tls
        self.client, self.server = connection.client, connection.server
        self.is_write_paused = connection.is_write_paused
        settings = connection.context.settings.websocket
        assert settings is not None  # noqa: S101
        self._settings = settings
        self._frames = frames
        self._stage = OPEN
        self._fragments: list[Any] = []  # of the incomplete message
        self._is_text = False  # of the current message
        self._cut = FrameCutter().cut
        self._rest = b""  # received bytes; those from `_at` on are not parsed yet
        self._at = 0
        self._ping: bytes | None = None  # our last ping, until it is answered
        self._pong = b""  # the pong for the latest ping, while the write buffer is full

    def start(self, data: bytes) -> None:
        """Start with the bytes received after the handshake."""
        self._trace("WebSocket connection made")
        self._set_deadline()
        if data:
            self.data_received(data)
        if self.connection.is_half_closed:
            self.eof_received()

    # What the transport calls.

    def connection_lost(self, exc: Exception | None) -> None:
        """Release everything: the connection is closed."""
        context = self.context
        context.connections.discard(self)
        self._stage = CLOSED
        self.deadline = NEVER
        self.resume_writing()
        self._frames.receive_eof()
        self._rest = b""
        self.websocket.disconnect()
        self._trace("WebSocket connection lost")
        if context.hooks.websocket_closed is not None:
            context.hooks.websocket_closed(self.websocket)
        self.connection.connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Process bytes from the peer."""
        if self._stage > CLOSING:
            return
        if self._rest:
            data = self._rest[self._at :] + data
            self._rest, self._at = data, 0
            if self.is_read_paused:
                return
        self._read(data, 0)

    def eof_received(self) -> None:
        """Close: a peer that has closed its sending half cannot answer a Close or a ping."""
        self.websocket.tell_end(1005)
        self._close()

    def pause_writing(self) -> None:
        """Make the application wait: the transport's write buffer is full."""
        self.is_write_paused = True
        self._unsent = self.transport.get_write_buffer_size()
        self._set_deadline()

    def resume_writing(self) -> None:
        """Let the application continue, and answer the latest ping."""
        super().resume_writing()
        pong, self._pong = self._pong, b""
        if pong:
            self._write(pong)

    # Reading.

    def _read(self, data: bytes, at: int) -> bool:
        """Parse received bytes from `at` on, at most as many as one turn of the event loop may.

        Returns:
            Whether all complete frames were parsed, so that the socket should be read on.
        """
        frames, websocket = self._frames, self.websocket
        left = MAX_FRAMES
        end = len(data)
        while at < end:
            begin, at = at, self._cut(data, at)
            if begin == at:
                break
            frames.receive_data(data[begin:at])
            received = frames.events_received()
            left -= len(received)
            for frame in received:
                self._take(frame)
            if frames.parser_exc is not None:
                self._break_off()
            if self._stage > CLOSING:
                return False
            is_full = websocket.is_full and self._stage == OPEN
            if is_full or (left <= 0 and at < end):
                self.pause_reading()
                self._rest, self._at = (data, at) if at < end else (b"", 0)
                if not is_full:
                    self.resume_reading()
                return False
        self._rest, self._at = (data[at:], 0) if at < end else (b"", 0)
        return True

    def _reply(self) -> None:
        """Send the replies that `websockets` has queued: pongs, or a Close followed by an empty end marker."""
        replies = self._frames.data_to_send()
        if replies:
            if self.is_write_paused and replies[-1]:
                self._pong = replies[-1]
            else:
                self._write(b"".join(replies))

    def _take(self, frame: Any) -> None:
        """Process a frame; ignore it if the connection is lingering or closed."""
        opcode = frame.opcode
        if self._stage > CLOSING:
            return
        if opcode in DATA:
            if self._stage == OPEN:
                self._take_data(frame)
        elif opcode is Opcode.PING:
            self._reply()
        elif opcode is Opcode.CLOSE:
            self._reply()
            close = self._frames.close_rcvd
            if close is not None:
                self.websocket.tell_end(close.code, close.reason)
            self._close()
        elif self._ping is not None and frame.data == self._ping:
            self._ping = None
            if self._settings.ping_timeout is not None:
                self._set_deadline()

    def _take_data(self, frame: Any) -> None:
        """Process a data frame, and pass on the message that it completes."""
        data: Any = frame.data
        if frame.opcode is not Opcode.CONT:
            self._is_text = frame.opcode is Opcode.TEXT
        if not frame.fin or frame.opcode is Opcode.CONT:
            fragments = self._fragments
            fragments.append(data)
            if len(fragments) > MAX_FRAGMENTS:
                self._fail(1008, "too many fragments")
                return
            if not frame.fin:
                return
            data = b"".join(fragments)
            fragments.clear()
        key = "text" if self._is_text else "bytes"
        try:
            value = str(data, "utf-8") if self._is_text else data
        except UnicodeDecodeError:
            self._fail(1007, "text that is not UTF-8")
        else:
            self.websocket.put({"type": "websocket.receive", key: value}, len(data))

    def has_received(self) -> bool:
        """Whether received bytes wait to be parsed when reading resumes."""
        return bool(self._rest) and self._stage <= CLOSING

    def _go_on(self) -> None:
        """Parse the remaining bytes of the last read."""
        self._is_scheduled = False
        data, at, self._rest, self._at = self._rest, self._at, b"", 0
        if self._stage <= CLOSING and self._read(data, at):
            self._resume()

    # What `WebSocket` calls.

    @property
    def is_open(self) -> bool:
        """Whether messages can be sent."""
        return self._stage == OPEN

    def send(self, data: bytes | None, text: str | None) -> None:
        """Send a message: bytes, or else a text; the WebSocket must be open."""
        if data is not None:
            self._frames.send_binary(data)
        elif text is not None:
            self._frames.send_text(text.encode())
        self._send()

    def send_close(self, code: int, reason: str, seconds: float = CLOSE_SECONDS) -> None:
        """Send a Close; the WebSocket must be open.

        Args:
            seconds: How long the peer has to answer it.

        Raises:
            websockets.exceptions.ProtocolError: The code or the reason cannot be sent.
        """
        self._frames.send_close(code, reason)
        self._send()
        self._stage = CLOSING
        self.deadline = self.context.clock.after(seconds)
        self.resume_reading()

    def end(self) -> None:
        """Close the transport, unless a Close is under way: the application has returned."""
        if self._stage == OPEN:
            self._close()

    # The end.

    def shutdown(self) -> None:
        """Close with 1012: the server shuts down, and the client may reconnect."""
        if self._stage == OPEN:
            self.send_close(1012, "", LINGER_SECONDS)
            self.websocket.tell_end(1012)
        elif self._stage == CLOSING:
            self._close()

    def _fail(self, code: int, reason: str) -> None:
        """End with a Close that reports what is wrong with a message."""
        self._frames.fail(code, reason)
        self._break_off()

    def _break_off(self) -> None:
        """End after sending the Close that reports an error; the peer may still be sending."""
        self._reply()
        error = self._frames.parser_exc
        if error is not None:
            error.with_traceback(None)  # the traceback would keep the inflated data in memory
        close = self._frames.close_sent
        if close is not None:
            self.websocket.tell_end(close.code, close.reason)
        if self._stage <= CLOSING and self._close_half():
            self._stage = LINGERING
            self._rest = b""
            self.resume_reading()
        else:
            self._close()

    def _close(self) -> None:
        """Close the transport when its write buffer has been sent."""
        if self._stage != CLOSED:
            self._stage = CLOSED
            self._rest = b""
            self._give_time_to_send()
            self.transport.close()

    # Time.

    @property
    def _must_take(self) -> bool:
        """Whether we wait for the peer to read what was written."""
        return self._stage == CLOSED or (self._stage == OPEN and self.is_write_paused)

    def _set_deadline(self) -> None:
        """Set the deadline for the peer to read what was written, or for the next ping or its answer."""
        after, settings = self.context.clock.after, self._settings
        if self._must_take:
            self.deadline = after(self.context.limits.send_seconds)
        elif self._stage == OPEN:
            is_due = self._ping is not None and settings.ping_timeout is not None
            self.deadline = after((settings.ping_timeout if is_due else settings.ping_interval) or None)

    def expire(self) -> None:
        """Handle a passed deadline: send a ping, or end the connection."""
        if self._must_take:
            if self._is_stuck():
                self._stage = CLOSED
                self.transport.abort()
        elif self._stage != OPEN:
            self._close()
        elif self._ping is None or self._settings.ping_timeout is None:
            self._ping = os.urandom(4)
            self._frames.send_ping(self._ping)
            self._send()
            self._set_deadline()
        elif self.is_read_paused:
            self._set_deadline()  # the answer may be in the bytes that wait while reading is paused
        else:
            self._trace("WebSocket keepalive ping timeout")
            self._frames.fail(1011, "keepalive ping timeout")
            self._reply()
            self.websocket.tell_end(1005)
            self._close()

    def _send(self) -> None:
        self._write(b"".join(self._frames.data_to_send()))

    def _write(self, data: bytes) -> None:
        if not self.transport.is_closing():
            self.connection.tunnel(data)


class FrameCutter:
    """Cuts the received bytes of one WebSocket into pieces at the ends of frames."""

    def __init__(self) -> None:
        self._missing = 0  # bytes of the last frame that were not received yet

    def cut(self, data: bytes, begin: int) -> int:
        """Return the end of the piece that begins at `begin`, which is less than the length of `data`.

        If `data` ends within the first frame's head, return `begin`; call again when more bytes were received.
        """
        end = len(data)
        at = begin + self._missing
        while at < end and at - begin < PIECE:
            if end - at < 2:
                break
            length = data[at + 1]
            size = 2
            if length & 0x80:  # the frame is masked
                length &= 0x7F
                size = 6
            if length > 125:
                bits = 2 if length == 126 else 8
                if end - at < 2 + bits:
                    break
                length = int.from_bytes(data[at + 2 : at + 2 + bits], "big")
                size += bits
            at += size + length
        self._missing = max(0, at - end)
        return min(at, end)
