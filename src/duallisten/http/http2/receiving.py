"""The receiving half of a connection of HTTP/2: it checks and handles the frames of the peer.

Facts it rests on: the order of frames and the states of streams (RFC 9113, 5.1), which errors end a stream and which
the connection (5.4), the rules of each frame type (6).

Invariants:
    - Every frame without use is charged to a budget.
    - Of the received bytes it keeps one incomplete frame, and the unprocessed rest of one read.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from duallisten.http.head import BadRequest
from duallisten.http.http2 import frames
from duallisten.http.http2.frames import BadConnection, BadStream
from duallisten.http.http2.heads import Heads

if TYPE_CHECKING:
    from duallisten.http.http2.connection import Http2Connection
    from duallisten.http.http2.stream import Stream

MAX_WORK = 256
WORK_OF_HEAD = 8
"""The number of frames that are read in one turn of the event loop; a head counts as 8."""


class Receiving:
    """The receiving half of a connection.

    Args:
        connection: The connection.
        preface: The bytes that the peer must send first.

    Attributes:
        has_more: Whether complete frames wait for the next turn of the event loop.
    """

    __slots__ = (
        "_connection",
        "_handlers",
        "_heads",
        "_inbox",
        "_is_first",
        "_preface",
        "_received",
        "has_more",
    )

    def __init__(self, connection: Http2Connection, preface: bytes) -> None:
        self._connection = connection
        self._preface = preface
        self._inbox = b""
        self.has_more = False
        self._is_first = True
        self._received = 0  # bytes of bodies since the connection's window was last opened
        self._heads = heads = Heads(connection)
        self._handlers: tuple[Callable[[int, int, bytes, int, int], None], ...] = (
            self._take_data,
            heads.take,
            self._take_priority,
            self._take_reset,
            self._take_settings,
            self._take_promise,
            self._take_ping,
            self._take_goaway,
            self._take_window,
            heads.take_continuation,
        )

    def close(self) -> None:
        """Drop the received bytes, and release the connection."""
        self._inbox = b""
        self.has_more = False
        self._handlers = ()

    @property
    def is_in_head(self) -> bool:
        """Whether a head has begun and is incomplete, or the peer's first SETTINGS has not arrived."""
        return self._heads.stream > 0 or self._is_first

    def take(self, data: bytes) -> None:
        """Process bytes from the peer, at most `MAX_WORK` frames in one turn of the event loop.

        Raises:
            BadConnection: The peer breaks the rules.
        """
        if self._inbox:
            data = self._inbox + data
            self._inbox = b""
        if self._preface:
            data = self._take_preface(data)
        at = work = 0
        size = len(data)
        unpack = frames.HEAD.unpack_from
        self.has_more = False
        while size - at >= 9:
            high, low, kind, flags, number = unpack(data, at)
            length = high << 8 | low
            if length > frames.MAX_FRAME:
                raise BadConnection(frames.FRAME_SIZE_ERROR, "frame larger than SETTINGS_MAX_FRAME_SIZE")
            end = at + 9 + length
            if end > size:
                break
            if work >= MAX_WORK:
                self.has_more = True
                break
            work += WORK_OF_HEAD if kind == frames.HEADERS else 1
            self._take_frame(kind, flags, number & frames.MAX_STREAM, data, at + 9, end)
            if not self._handlers:  # closed meanwhile
                return
            at = end
        self._inbox = data[at:] if at else data

    def _take_preface(self, data: bytes) -> bytes:
        size = min(len(data), len(self._preface))
        if data[:size] != self._preface[:size]:
            raise BadConnection(frames.PROTOCOL_ERROR, "invalid connection preface")
        self._preface = self._preface[size:]
        return data[size:]

    def _take_frame(self, kind: int, flags: int, number: int, data: bytes, at: int, end: int) -> None:
        if self._is_first:
            if kind != frames.SETTINGS or flags & frames.ACK:
                raise BadConnection(frames.PROTOCOL_ERROR, "first frame is not SETTINGS")
            self._is_first = False
            self._connection.wait_for_head(is_begun=False)
        elif self._heads.stream and (kind != frames.CONTINUATION or number != self._heads.stream):
            raise BadConnection(frames.PROTOCOL_ERROR, "another frame between HEADERS and CONTINUATION")
        try:
            if kind < len(self._handlers):
                self._handlers[kind](flags, number, data, at, end)
            else:
                self._connection.frames_left.spend()
        except BadStream as bad:
            self._end_stream(number, bad.code)
        except BadRequest as bad:
            self._connection.streams[number].refuse(bad)

    def _end_stream(self, number: int, code: int) -> None:
        connection = self._connection
        connection.frames_left.spend()
        stream = connection.streams.get(number)
        if stream is not None:
            connection.reset(stream, code)
        else:
            connection.write(frames.reset(number, code))
            connection.note_ended(number, by_us=True)

    def _stream(self, number: int) -> Stream | None:
        """Return a stream; None if it has ended."""
        stream = self._connection.streams.get(number)
        if stream is None and (number > self._connection.last or number % 2 == 0):
            raise BadConnection(frames.PROTOCOL_ERROR, "frame on an idle stream")
        return stream

    # Bodies.

    def _take_data(self, flags: int, number: int, data: bytes, at: int, end: int) -> None:
        connection = self._connection
        stream = self._stream(number)
        size = end - at
        self._received += size
        if self._received >= 1 << 19:
            connection.write(frames.window_update(0, self._received))
            self._received = 0
        at, end = frames.without_padding(data, at, end, flags)
        ends = bool(flags & frames.END_STREAM)
        if stream is not None:
            if end - at < stream.least_data and not ends:
                connection.frames_left.spend()
            stream.take(data[at:end], size, ends=ends)
        elif connection.ended.get(number, True):  # sent before the peer knew of our reset
            connection.frames_left.spend()
        else:
            raise BadStream(frames.STREAM_CLOSED, "DATA on a closed stream")

    # Other frames.

    def _take_priority(self, flags: int, number: int, data: bytes, at: int, end: int) -> None:
        self._connection.frames_left.spend()
        if number == 0:
            raise BadConnection(frames.PROTOCOL_ERROR, "PRIORITY on stream 0")
        if end - at != 5:
            raise BadStream(frames.FRAME_SIZE_ERROR, "PRIORITY with a wrong size")
        if frames.NUMBER.unpack_from(data, at)[0] & frames.MAX_STREAM == number:
            raise BadStream(frames.PROTOCOL_ERROR, "stream depends on itself")

    def _take_reset(self, flags: int, number: int, data: bytes, at: int, end: int) -> None:
        _check_size(end - at, 4)
        stream = self._stream(number)
        if stream is not None:
            self._connection.was_reset(stream)
        else:
            self._connection.frames_left.spend()

    def _take_settings(self, flags: int, number: int, data: bytes, at: int, end: int) -> None:
        connection = self._connection
        if number != 0:
            raise BadConnection(frames.PROTOCOL_ERROR, "SETTINGS on a stream other than 0")
        if flags & frames.ACK:
            _check_size(end - at, 0)
            connection.frames_left.spend()
            return
        if (end - at) % 6:
            raise BadConnection(frames.FRAME_SIZE_ERROR, "SETTINGS with a wrong size")
        connection.frames_left.spend()
        values = dict(frames.SETTING.iter_unpack(data[at:end]))
        if values.get(frames.ENABLE_PUSH, 0) > 1:
            raise BadConnection(frames.PROTOCOL_ERROR, "SETTINGS_ENABLE_PUSH is neither 0 nor 1")
        if not frames.MAX_FRAME <= values.get(frames.MAX_FRAME_SIZE, frames.MAX_FRAME) < 1 << 24:
            raise BadConnection(frames.PROTOCOL_ERROR, "SETTINGS_MAX_FRAME_SIZE out of range")
        if frames.HEADER_TABLE_SIZE in values:
            connection.sending.announce_again()
        window = values.get(frames.INITIAL_WINDOW_SIZE)
        connection.write(frames.frame(frames.SETTINGS, frames.ACK, 0, b""))
        if window is not None:
            self._set_window(window)

    def _set_window(self, window: int) -> None:
        """Change the windows of all streams (RFC 9113, 6.9.2)."""
        sending = self._connection.sending
        if window > frames.MAX_WINDOW:
            raise BadConnection(frames.FLOW_CONTROL_ERROR, "SETTINGS_INITIAL_WINDOW_SIZE out of range")
        change, sending.initial_window = window - sending.initial_window, window
        try:
            for stream in self._connection.streams.values():
                sending.open_stream(stream, change)
        except BadStream as bad:
            raise BadConnection(
                bad.code, "SETTINGS_INITIAL_WINDOW_SIZE makes a window larger than 2**31 - 1 bytes"
            ) from None

    def _take_promise(self, flags: int, number: int, data: bytes, at: int, end: int) -> None:
        raise BadConnection(frames.PROTOCOL_ERROR, "PUSH_PROMISE from a client")

    def _take_ping(self, flags: int, number: int, data: bytes, at: int, end: int) -> None:
        connection = self._connection
        if number != 0:
            raise BadConnection(frames.PROTOCOL_ERROR, "PING on a stream other than 0")
        _check_size(end - at, 8)
        connection.frames_left.spend()
        if not flags & frames.ACK:
            connection.write(frames.frame(frames.PING, frames.ACK, 0, data[at:end]))
        else:
            connection.knows_of_end()

    def _take_goaway(self, flags: int, number: int, data: bytes, at: int, end: int) -> None:
        if number != 0:
            raise BadConnection(frames.PROTOCOL_ERROR, "GOAWAY on a stream other than 0")
        if end - at < 8:
            raise BadConnection(frames.FRAME_SIZE_ERROR, "GOAWAY with a wrong size")
        self._connection.frames_left.spend()
        self._connection.peer_ends()

    def _take_window(self, flags: int, number: int, data: bytes, at: int, end: int) -> None:
        connection = self._connection
        _check_size(end - at, 4)
        connection.frames_left.spend()
        size = frames.NUMBER.unpack_from(data, at)[0] & frames.MAX_WINDOW
        if number == 0:
            if size == 0:
                raise BadConnection(frames.PROTOCOL_ERROR, "WINDOW_UPDATE with an increment of 0")
            connection.sending.open_window(size)
            return
        stream = self._stream(number)
        if size == 0:
            raise BadStream(frames.PROTOCOL_ERROR, "WINDOW_UPDATE with an increment of 0")
        if stream is not None:
            connection.sending.open_stream(stream, size)


def _check_size(size: int, right: int) -> None:
    if size != right:
        raise BadConnection(frames.FRAME_SIZE_ERROR, "frame with a wrong size")
