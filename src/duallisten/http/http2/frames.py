"""Frames: how they are encoded, and the errors of connections and streams.

Source: RFC 9113, 4.1 (the head of a frame), 6 (each type), 7 (error codes).
"""

from __future__ import annotations

from struct import Struct

HEAD = Struct(">HBBBL")
"""The head of a frame: its length in 24 bits (here 16 and 8), type, flags, stream."""
HEAD_SIZE = HEAD.size

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)

END_STREAM = ACK = 0x1
END_HEADERS = 0x4
PADDED = 0x8
HAS_PRIORITY = 0x20

MAX_FRAME = 16384
"""The largest payload in bytes of frames that we accept or send: the least that every peer must accept (4.2)."""

MAX_STREAM = MAX_WINDOW = (1 << 31) - 1

NO_ERROR = 0x0
PROTOCOL_ERROR = 0x1
INTERNAL_ERROR = 0x2
FLOW_CONTROL_ERROR = 0x3
STREAM_CLOSED = 0x5
FRAME_SIZE_ERROR = 0x6
REFUSED_STREAM = 0x7
CANCEL = 0x8
COMPRESSION_ERROR = 0x9
ENHANCE_YOUR_CALM = 0xB

HEADER_TABLE_SIZE, ENABLE_PUSH, MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE, MAX_HEADER_LIST_SIZE = (
    range(1, 7)
)
ENABLE_CONNECT_PROTOCOL, NO_RFC7540_PRIORITIES = 8, 9
"""RFC 8441, 3; RFC 9218, 2.1."""

NUMBER = Struct(">L")
SETTING = Struct(">HL")
PAIR = Struct(">LL")


class BadConnection(Exception):  # noqa: N818
    """The peer breaks a rule so that the connection must end (RFC 9113, 5.4.1).

    Attributes:
        code: The error code.
        reason: What is wrong, for the log; never sent.
    """

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class BadStream(Exception):  # noqa: N818
    """A stream must end, but not the connection (RFC 9113, 5.4.2).

    Attributes:
        code: The error code.
    """

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """Encode a frame; its payload has at most `MAX_FRAME` bytes."""
    return HEAD.pack(len(payload) >> 8, len(payload) & 0xFF, kind, flags, stream) + payload


def reset(stream: int, code: int) -> bytes:
    """Encode RST_STREAM."""
    return frame(RST_STREAM, 0, stream, NUMBER.pack(code))


def goaway(last: int, code: int) -> bytes:
    """Encode GOAWAY; `last` is the last stream that is, or will be, answered."""
    return frame(GOAWAY, 0, 0, PAIR.pack(last, code))


def window_update(stream: int, size: int) -> bytes:
    """Encode WINDOW_UPDATE; stream 0 is the connection."""
    return frame(WINDOW_UPDATE, 0, stream, NUMBER.pack(size))


def settings(values: dict[int, int]) -> bytes:
    """Encode SETTINGS."""
    return frame(SETTINGS, 0, 0, b"".join(SETTING.pack(*pair) for pair in values.items()))


def head(stream: int, block: bytes, *, ends: bool) -> bytes:
    """Encode HEADERS, and CONTINUATION frames if one frame is too small for the block."""
    flags = END_STREAM if ends else 0
    if len(block) <= MAX_FRAME:
        return frame(HEADERS, flags | END_HEADERS, stream, block)
    pieces = [block[at : at + MAX_FRAME] for at in range(0, len(block), MAX_FRAME)]
    written = [frame(HEADERS, flags, stream, pieces[0])]
    written += [frame(CONTINUATION, 0, stream, piece) for piece in pieces[1:-1]]
    return b"".join((*written, frame(CONTINUATION, END_HEADERS, stream, pieces[-1])))


def without_padding(data: bytes, at: int, end: int, flags: int) -> tuple[int, int]:
    """Return the begin and the end of a frame's payload without its padding (RFC 9113, 6.1).

    Raises:
        BadConnection: There is more padding than payload.
    """
    if not flags & PADDED:
        return at, end
    if at >= end or data[at] >= end - at:
        raise BadConnection(PROTOCOL_ERROR, "padding longer than the payload")
    return at + 1, end - data[at]
