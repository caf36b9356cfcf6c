"""The sending half of a connection of HTTP/2: flow-control windows, and the queue of streams that wait to send.

A part of a body is sent at once if it fits the windows of its stream and of the connection, and the transport's buffer
is not full. Otherwise its stream waits here. Waiting streams take turns, one frame each. The bytes of one turn of the
event loop are written together.

Invariants:
    - No more data is sent than both windows allow; a window may be below zero (RFC 9113, 6.9.2).
    - A stream that waits for the connection's window or for the transport is in the queue. A stream that waits for its
      own window is not in the queue, and has a deadline.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from duallisten.http.flow import NEVER
from duallisten.http.http2.fields import NO_TABLE
from duallisten.http.http2.frames import (
    DATA,
    END_STREAM,
    FLOW_CONTROL_ERROR,
    HEAD,
    MAX_FRAME,
    MAX_WINDOW,
    BadConnection,
    BadStream,
)

if TYPE_CHECKING:
    from duallisten.http.http2.connection import Http2Connection
    from duallisten.http.http2.stream import Stream

DEFAULT_WINDOW = 65535
"""The initial size of each window in bytes (RFC 9113, 6.9.2)."""

MAX_TURN = 1 << 20
"""Bytes that queued streams may send in one turn of the event loop."""

MAX_OUT = 1 << 16
"""Frames are collected for one write up to this many bytes."""

MAX_UNREAD = 4096
"""Reading pauses when more bytes than this were written while the transport's write buffer is full."""

WORTHWHILE = 1024
"""For a DATA frame of at least this many bytes, the peer may send two WINDOW_UPDATEs at no cost to its budget."""


class Sending:
    """The sending half of a connection.

    Attributes:
        window: Bytes that may be sent on the connection now.
        initial_window: Bytes that may be sent on a new stream.
        queue: Streams that wait for their turn.
        unread: Bytes written since the transport's write buffer became full.
    """

    __slots__ = (
        "_announcement",
        "_connection",
        "_is_scheduled",
        "_out",
        "_size",
        "initial_window",
        "queue",
        "unread",
        "window",
    )

    def __init__(self, connection: Http2Connection) -> None:
        self._connection = connection
        self.window = self.initial_window = DEFAULT_WINDOW
        self.queue: deque[Stream] = deque()
        self._announcement = NO_TABLE
        self._out: list[bytes] = []
        self._size = self.unread = 0
        self._is_scheduled = False

    def write(self, data: bytes) -> bool:
        """Write frames, together with others of this turn of the event loop; return whether reading should pause."""
        self._out.append(data)
        self._size += len(data)
        if self._size >= MAX_OUT:
            self.flush()
        elif not self._is_scheduled:
            self._is_scheduled = True
            self._connection.context.loop.call_soon(self._flush)
        if not self._connection.is_write_paused:
            return False
        self.unread += len(data)
        return self.is_unread

    @property
    def is_unread(self) -> bool:
        """Whether more than `MAX_UNREAD` bytes were written while the transport's write buffer is full."""
        return self.unread > MAX_UNREAD

    def _flush(self) -> None:
        self._is_scheduled = False
        self.flush()

    def flush(self) -> None:
        """Pass the collected bytes to the transport."""
        connection = self._connection
        if self._out:
            data = b"".join(self._out)
            self.clear()
            if not connection.transport.is_closing():
                connection.connection.sent += len(data)
                connection.transport.write(data)

    def clear(self) -> None:
        """Drop the collected bytes."""
        self._out.clear()
        self._size = 0

    def announce(self) -> bytes:
        """Return the bytes before the next block of fields: nothing, or the announcement of no dynamic table."""
        said, self._announcement = self._announcement, b""
        return said

    def announce_again(self) -> None:
        """Announce with the next block that there is no dynamic table."""
        self._announcement = NO_TABLE

    def send(self, stream: Stream, data: bytes, *, ends: bool) -> None:
        """Write a part of a body, or keep it in the stream's `pending`."""
        size = len(data)
        has_room = size <= self.window and size <= stream.send_window and size <= MAX_FRAME
        if size == 0 or (has_room and not self.queue and not self._connection.is_write_paused):
            self._write(stream, data, ends=ends)
            return
        stream.pending, stream.pending_ends = memoryview(data), ends
        stream.is_queued = True
        self.queue.append(stream)
        self.go_on()

    def _write(self, stream: Stream, data: bytes | memoryview, *, ends: bool) -> None:
        size = len(data)
        self.window -= size
        stream.send_window -= size
        stream.write(HEAD.pack(size >> 8, size & 0xFF, DATA, END_STREAM if ends else 0, stream.number) + data)
        if size >= WORTHWHILE or ends:
            self._connection.frames_left.earn(2)

    def go_on(self) -> None:
        """Write pending data as far as the windows and the transport allow, a frame of each stream in turn."""
        queue, connection = self.queue, self._connection
        sent = 0
        while queue and self.window > 0 and not connection.is_write_paused:
            if sent > MAX_TURN:
                connection.context.loop.call_soon(self._send_on)
                return
            stream = queue.popleft()
            data = stream.pending
            if data is None:
                stream.is_queued = False
                continue
            room = min(MAX_FRAME, self.window, stream.send_window)
            if room <= 0:
                stream.is_queued = False
                stream.wait(connection.context.limits.send_seconds)
                continue
            piece, rest = data[:room], data[room:]
            self._write(stream, piece, ends=stream.pending_ends and not rest)
            sent += len(piece)
            if rest:
                stream.pending = rest
                queue.append(stream)
            else:
                stream.is_queued = False
                stream.sent_all()
        connection.wait_for_window(is_shut=bool(queue) and self.window <= 0)

    def _send_on(self) -> None:
        if self._connection.is_serving:
            self.go_on()

    def open_window(self, size: int) -> None:
        """Enlarge the connection's send window by `size` bytes.

        Raises:
            BadConnection: The window becomes too large.
        """
        self.window += size
        if self.window > MAX_WINDOW:
            raise BadConnection(FLOW_CONTROL_ERROR, "flow-control window larger than 2**31 - 1 bytes")

    def open_stream(self, stream: Stream, size: int) -> None:
        """Enlarge a stream's send window by `size` bytes, which may be negative.

        Raises:
            BadStream: The window becomes too large.
        """
        stream.send_window += size
        if stream.send_window > MAX_WINDOW:
            raise BadStream(FLOW_CONTROL_ERROR, "flow-control window larger than 2**31 - 1 bytes")
        if stream.pending is not None and not stream.is_queued and stream.send_window > 0:
            stream.is_queued = True
            stream.deadline = NEVER
            self.queue.append(stream)
